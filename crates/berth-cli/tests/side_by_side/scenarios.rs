//! What is typed, and what the daemon of paper answers to it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::golden;
use crate::server::Route;

/// One command line with everything around it.
pub struct Scenario {
    pub arguments: Vec<String>,
    pub routes: Vec<Route>,
    pub zone: &'static str,
    pub config: &'static str,
    pub stdin: &'static str,
    pub files: Vec<(&'static str, &'static str)>,
    /// Compare output only from here on.
    pub from: Option<&'static str>,
    /// Compare what is asked too.
    pub compare_requests: bool,
}

impl Scenario {
    /// The command line.
    pub fn name(&self) -> String {
        self.arguments.join(" ")
    }

    /// The output of the reference client with our name where it says its own.
    pub fn in_our_words(&self, text: &str) -> String {
        text.replace("docker: '", "berth: '").replace("docker ", "berth ")
    }

    /// What of the output is compared.
    pub fn relevant<'t>(&self, text: &'t str) -> &'t str {
        self.from.and_then(|from| text.find(from)).map_or(text, |at| &text[at..])
    }

    fn from(mut self, from: &'static str) -> Scenario {
        self.from = Some(from);
        self
    }

    fn whatever_is_asked(mut self) -> Scenario {
        self.compare_requests = false;
        self
    }

    fn zone(mut self, zone: &'static str) -> Scenario {
        self.zone = zone;
        self
    }

    fn config(mut self, config: &'static str) -> Scenario {
        self.config = config;
        self
    }

    fn stdin(mut self, stdin: &'static str) -> Scenario {
        self.stdin = stdin;
        self
    }

    fn file(mut self, name: &'static str, content: &'static str) -> Scenario {
        self.files.push((name, content));
        self
    }
}

fn get(path: &str, body: &Value) -> Route {
    answer("GET", path, 200, body)
}

fn post(path: &str, body: &Value) -> Route {
    answer("POST", path, 200, body)
}

fn answer(method: &'static str, path: &str, status: u16, body: &Value) -> Route {
    Route { method, path: path.to_owned(), status, body: format!("{body}\n") }
}

fn missing(path: &str, message: &str) -> Route {
    answer("GET", path, 404, &json!({ "message": message }))
}

fn stream(method: &'static str, path: &str, messages: &[Value]) -> Route {
    let body = messages.iter().map(|message| format!("{message}\r\n")).collect();
    Route { method, path: path.to_owned(), status: 200, body }
}

/// A time so many seconds ago.
fn ago(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("not so late") - seconds
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Command lines with the words in blanks, and arguments with blanks in single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

struct Scenarios(Vec<Scenario>);

impl Scenarios {
    fn add(&mut self, line: &str, routes: &[Route]) {
        self.0.push(scenario(line, routes));
    }

    fn all(&mut self, lines: &[&str], routes: &[Route]) {
        lines.iter().for_each(|line| self.add(line, routes));
    }
}

fn scenario(line: &str, routes: &[Route]) -> Scenario {
    Scenario {
        arguments: words(line),
        routes: routes.to_vec(),
        zone: "UTC",
        config: "{}",
        stdin: "",
        files: Vec::new(),
        from: None,
        compare_requests: true,
    }
}

/// Everything that is compared.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Scenarios(Vec::new());
    containers(&mut all);
    images(&mut all);
    transfers(&mut all);
    volumes_and_networks(&mut all);
    inspects(&mut all);
    templates(&mut all);
    system(&mut all);
    prunes(&mut all);
    all.0
}

fn container_list() -> Value {
    let long = "sh -c 'echo one; echo two >&2; sleep 1000'";
    json!([
        {
            "Id": "a".repeat(64), "Names": ["/web", "/other/alias"], "Image": "docker.io/library/nginx:1.25", "ImageID": "sha256:1111",
            "Command": long, "Created": ago(5 * HOUR + 600), "State": "running", "Status": "Up 5 hours (healthy)",
            "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "0.0.0.0", "PrivatePort": 91, "PublicPort": 91, "Type": "tcp"},
                {"IP": "0.0.0.0", "PrivatePort": 92, "PublicPort": 92, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"}, {"PrivatePort": 444, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"},
            ],
            "Labels": {"b": "2", "a": "1", "com.example.some-label": "x & <y>"}, "SizeRw": 4096, "SizeRootFs": 2_076_672,
            "HostConfig": {"NetworkMode": "bridge"}, "NetworkSettings": {"Networks": {"bridge": {}}},
            "Mounts": [
                {"Type": "volume", "Name": "0123456789abcdef0123456789abcdef", "Source": "", "Destination": "/v", "Driver": "local"},
                {"Type": "bind", "Source": "/very/long/path/on/the/host", "Destination": "/b"},
            ],
            "ImageManifestDescriptor": {
                "mediaType": "x", "digest": "sha256:1111", "size": 1,
                "platform": {"architecture": "arm", "os": "linux", "variant": "v7"},
            },
        },
        {
            "Id": "b".repeat(64), "Names": ["/漢字"], "Image": format!("host:5000/app@sha256:{}", "c".repeat(64)), "ImageID": "sha256:2",
            "Command": "echo 漢字漢字漢字漢字漢字", "Created": ago(3 * DAY), "State": "exited", "Status": "Exited (0) 2 hours ago",
            "Ports": [], "Labels": null, "HostConfig": {}, "NetworkSettings": {"Networks": {"none": {}}}, "Mounts": [],
        },
        {
            "Id": "d".repeat(64), "Names": ["/c3"], "Image": format!("sha256:{}", "e".repeat(64)), "ImageID": format!("sha256:{}", "e".repeat(64)),
            "Command": "a\tb \"c\"", "Created": ago(90), "State": "created", "Status": "Created", "Ports": [], "Labels": {},
            "HostConfig": {}, "NetworkSettings": null, "Mounts": null, "SizeRw": 1_234_567_890_i64, "SizeRootFs": 0,
        },
    ])
}

fn containers(all: &mut Scenarios) {
    let list = [get("/containers/json", &container_list())];
    all.all(
        &[
            "ps",
            "ps -a",
            "ps -aq",
            "ps -as",
            "ps --no-trunc",
            "ps -a -q --no-trunc",
            "ps -n 2",
            "ps -l",
            "ps --last=3 --latest",
            "ps --size=false --format '{{.Size}}'",
            "container ls",
            "container list -a",
            "container ps -f label=a -f label=b --filter 'STATUS = running'",
            "ps --format '{{.ID}}|{{.Names}}|{{.Image}}|{{.Command}}|{{.Status}}|{{.State}}|{{.Ports}}'",
            "ps --format '{{.Networks}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Size}}|{{.Labels}}|{{.CreatedAt}}|{{.RunningFor}}'",
            "ps --no-trunc --format '{{.Names}} {{.Image}} {{.Mounts}} {{.Platform}}'",
            "ps --format json",
            "ps --format '{{json .}}'",
            "ps --format '{{json .Names}} {{upper .State}} {{truncate .ID 4}} {{pad .ID 1 2}}|'",
            "ps --format 'table {{.Names}}\\t{{.Status}}'",
            "ps --format 'table {{.Names}}\t{{.Label \"com.example.some-label\"}}\t{{lower .ID}}'",
            "ps --format 'table {{json .Names}} {{.Size}} {{.Nothing}}'",
            "ps --format 'table {{.Platform}} {{.LocalVolumes}} {{.Mounts}} {{.Networks}}'",
            "ps --format table",
            "ps --format table -q",
            "ps --format raw",
            "ps --format raw -s",
            "ps --format raw -q",
            "ps --format '{{.Names}}' -q",
            "ps --format '{{.Bogus}}'",
            "ps --format '{{.Names.Foo}}'",
            "ps --format '{{'",
            "ps --format '{{foo}}'",
            "ps --format '{{range $i, $e := split .Command \" \"}}{{$i}}:{{$e}},{{end}}'",
            "ps --format '{{if eq .State \"running\"}}{{.Names}}{{end}}'",
            "ps --format '{{.Label \"b\"}}/{{.Label \"zz\"}}'",
            "ps --format 'x\\ty\\nz'",
            "ps --format '{{len .Names}} {{printf \"%-20s|%q\" .Names .Image}}'",
            "ps -f bogus",
        ],
        &list,
    );
    all.all(&["ps", "ps --format json", "ps --format 'table {{.Ports}}'"], &[get("/containers/json", &json!([]))]);
    all.all(&["ps"], &[answer("GET", "/containers/json", 400, &json!({"message": "invalid filter 'bogus'"}))]);
    let berlin = scenario("ps -a --format '{{.CreatedAt}}'", &list).zone("Europe/Berlin");
    all.0.push(berlin);
    let config = r#"{"psFormat": "table {{.Names}}\\t{{.Image}}", "imagesFormat": "{{.ID}}"}"#;
    all.0.push(scenario("ps", &list).config(config));
    all.0.push(scenario("ps -q", &list).config(config));
    let inspected = golden::body("containers-inspect.jsonl", 8);
    let one = [get("/containers/g-l1/json", &inspected), missing("/containers/none/json", "No such container: none")];
    all.all(
        &[
            "port g-l1",
            "port g-l1 80",
            "port g-l1 80/tcp",
            "port g-l1 99",
            "port g-l1 80/udp",
            "port g-l1 x",
            "port none",
        ],
        &one,
    );
    let changes = json!([{"Path": "/new", "Kind": 1}, {"Path": "/bin", "Kind": 0}, {"Path": "/bin/true", "Kind": 2}]);
    all.all(&["diff g-l1", "container diff none"], &[get("/containers/g-l1/changes", &changes)]);
    let sample = json!({
        "id": "a".repeat(64), "name": "/web", "cpu_stats": {
            "cpu_usage": {"total_usage": 2_000_000}, "system_cpu_usage": 30_000_000, "online_cpus": 2,
        },
        "precpu_stats": {"cpu_usage": {"total_usage": 1_000_000}, "system_cpu_usage": 10_000_000},
        "memory_stats": {"usage": 1_000_000, "limit": 25_276_407_808_u64, "stats": {"total_inactive_file": 1000}},
        "networks": {"eth0": {"rx_bytes": 3390, "tx_bytes": 126}}, "pids_stats": {"current": 1},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1_000_000}]},
    });
    let samples = [get("/containers/web/stats", &sample), missing("/containers/none/stats", "No such container: none")];
    all.all(
        &[
            "stats --no-stream web",
            "stats --no-stream --no-trunc web",
            "stats --no-stream --format json web",
            "stats --no-stream --format '{{.Container}} {{.Name}} {{.CPUPerc}}' web",
            "stats --no-stream none",
        ],
        &samples,
    );
    all.all(
        &["top web", "container top web -o pid,comm"],
        &[get(
            "/containers/web/top",
            &json!({
                "Titles": ["PID", "COMMAND"], "Processes": [["1", "sleep"], ["12345", "a longer command line here"]],
            }),
        )],
    );
    let committed = [answer("POST", "/commit", 201, &json!({"Id": "sha256:abc"}))];
    all.all(
        &[
            "commit c",
            "commit c app:1",
            "commit -a me -m 'some words' -c 'CMD x' -c 'ENV A=1' c host:5000/app",
            "commit --pause=false c",
            "commit c BAD",
        ],
        &committed,
    );
}

fn images(all: &mut Scenarios) {
    let digest = format!("sha256:{}", "f".repeat(64));
    let id = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let list = json!([
        {
            "Id": id("1"), "RepoTags": ["busybox:latest"], "RepoDigests": [format!("busybox@{digest}")], "Created": ago(2 * HOUR + 600),
            "Size": 4_261_574, "SharedSize": -1, "Containers": -1, "Labels": null, "ParentId": "",
        },
        {
            "Id": id("2"), "RepoTags": ["docker.io/user/app:1.0"], "RepoDigests": [], "Created": ago(40 * DAY), "Size": 1_020_000_000,
            "SharedSize": 1000, "Containers": 2, "Labels": {}, "ParentId": "",
        },
        {
            "Id": id("3"), "RepoTags": [], "RepoDigests": [], "Created": ago(400 * DAY), "Size": 999_600, "SharedSize": 0, "Containers": 0,
            "Labels": null, "ParentId": "",
        },
        {
            "Id": id("4"), "RepoTags": null, "RepoDigests": [format!("127.0.0.1:5000/only@{digest}")], "Created": 0, "Size": 0,
            "SharedSize": -1, "Containers": -1, "Labels": null, "ParentId": "",
        },
    ]);
    let listed = [get("/images/json", &list)];
    all.all(
        &[
            "images",
            "images -a",
            "images -q",
            "images --digests",
            "images --no-trunc",
            "images --no-trunc -q",
            "image ls",
            "image list busybox",
            "images -f dangling=true --filter reference=x",
            "images --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.CreatedSince}}'",
            "images --format '{{.Digest}} {{.Containers}} {{.SharedSize}} {{.UniqueSize}} {{.VirtualSize}} {{.CreatedAt}}'",
            "images --format json",
            "images --digests --format json",
            "images --format 'table {{.ID}}\t{{.Repository}}'",
            "images --digests --format 'table {{.ID}}\t{{.Repository}}'",
            "images --format raw",
            "images --format raw --digests",
            "images --format raw -q",
            "images --format '{{.Bogus}}'",
            "images --format '{{.ID'",
            "images -q --format '{{.Repository}}'",
        ],
        &listed,
    );
    let config = r#"{"imagesFormat": "table {{.ID}}"}"#;
    all.0.push(scenario("images", &listed).config(config));
    all.0.push(scenario("images -q", &listed).config(config));
    all.all(&["images none", "images ls"], &[get("/images/json", &json!([]))]);

    let history = json!([
        {"Id": id("1"), "Created": ago(2 * HOUR + 600), "CreatedBy": "", "Tags": ["busybox:latest"], "Size": 2_051_111, "Comment": "Imported from -"},
        {
            "Id": "<missing>", "Created": ago(30 * DAY + HOUR), "Tags": null, "Size": 0, "Comment": "",
            "CreatedBy": "/bin/sh -c #(nop)\tCMD [\"sh\"] and more words that will never fit",
        },
        {"Id": "<missing>", "Created": 0, "CreatedBy": "x", "Tags": null, "Size": 1000, "Comment": "c"},
    ]);
    let steps =
        [get("/images/busybox/history", &history), missing("/images/none/history", "No such image: none:latest")];
    all.all(
        &[
            "history busybox",
            "history --no-trunc busybox",
            "history -q busybox",
            "image history -H=false busybox",
            "history --human=false --no-trunc busybox",
            "history --format json busybox",
            "history --format '{{.ID}} {{.CreatedAt}} {{.Size}}' busybox",
            "history --platform linux/arm64/v8 busybox",
            "history none",
        ],
        &steps,
    );
    let removed = json!([{"Untagged": "a:1"}, {"Deleted": id("1")}]);
    let removals = [
        answer("DELETE", "/images/a", 200, &removed),
        answer("DELETE", "/images/none", 404, &json!({"message": "No such image: none:latest"})),
        answer(
            "DELETE",
            "/images/used",
            409,
            &json!({"message": "conflict: unable to delete used:latest (must be forced)"}),
        ),
    ];
    all.all(
        &[
            "rmi a",
            "image rm -f a none",
            "rmi none used a",
            "rmi -f none used",
            "image remove --no-prune --platform linux/amd64 a",
        ],
        &removals,
    );
    let tagged = [
        Route { method: "POST", path: "/images/a/tag".into(), status: 201, body: String::new() },
        answer("POST", "/images/none/tag", 404, &json!({"message": "No such image: none:latest"})),
    ];
    all.all(
        &["tag a b", "tag a host:5000/x/b:1", "tag none a", "tag a BAD", "image tag a docker.io/library/b"],
        &tagged,
    );
}

fn transfers(all: &mut Scenarios) {
    let pulled = [
        json!({"status": "Pulling from library/busybox", "id": "latest"}),
        json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "0123456789ab"}),
        json!({"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "progress": "[==>]", "id": "0123456789ab"}),
        json!({"status": "Pull complete", "progressDetail": {}, "id": "0123456789ab"}),
        json!({"status": "Digest: sha256:1234"}),
        json!({"status": "Status: Downloaded newer image for busybox:latest"}),
    ];
    let pull = [stream("POST", "/images/create", &pulled)];
    all.all(
        &[
            "pull busybox:latest",
            "pull busybox",
            "pull -q busybox",
            "pull -a host:5000/x",
            "pull -a host:5000/x:1",
            "image pull --platform linux/arm64 host:5000/x:2",
            "pull BAD",
        ],
        &pull,
    );
    let failed = [
        json!({"status": "one"}),
        json!({"errorDetail": {"message": "boom"}, "error": "boom"}),
        json!({"status": "two"}),
    ];
    all.all(&["pull a:1", "pull -q a:1"], &[stream("POST", "/images/create", &failed)]);
    let refused =
        [answer("POST", "/images/create", 404, &json!({"message": "manifest for a:1 not found: manifest unknown"}))];
    all.all(&["pull a:1"], &refused);

    let imported = [stream("POST", "/images/create", &[json!({"status": "sha256:abcd"})])];
    for line in
        ["import f.tar", "import f.tar app:1", "import -c 'CMD x' -m 'some words' --platform linux/arm64 f.tar app"]
    {
        all.0.push(scenario(line, &imported).file("f.tar", "content"));
    }
    all.0.push(scenario("import - app:1", &imported).stdin("content"));
    all.all(&["import nosuch.tar", "import http://example.com/x.tar", "image import nosuch.tar BAD"], &imported);

    let loaded = [stream(
        "POST",
        "/images/load",
        &[json!({"stream": "Loaded image: a:1\n"}), json!({"stream": "Loaded image ID: sha256:1\n"})],
    )];
    all.0.push(scenario("load", &loaded).stdin("content"));
    all.0.push(scenario("load -q -i f.tar", &loaded).file("f.tar", "content"));
    all.0.push(scenario("image load --input f.tar --platform linux/amd64", &loaded).file("f.tar", "content"));
    all.0.push(scenario("load -i nosuch.tar", &loaded));
    let broken = [stream(
        "POST",
        "/images/load",
        &[json!({"errorDetail": {"message": "unexpected EOF"}, "error": "unexpected EOF"})],
    )];
    all.0.push(scenario("load", &broken).stdin("x"));

    let saved = [Route { method: "GET", path: "/images/get".into(), status: 200, body: "archive".into() }];
    all.all(
        &["save a", "save a b:1 --platform linux/amd64", "save -o out.tar a", "save -o /nosuch/dir/out.tar a"],
        &saved,
    );
    all.all(&["save none"], &[missing("/images/get", "No such image: none:latest")]);
    let exported = [Route { method: "GET", path: "/containers/c/export".into(), status: 200, body: "archive".into() }];
    all.all(&["export c", "export -o out.tar c", "container export none", "export -o /nosuch/dir/x c"], &exported);
}

fn volumes_and_networks(all: &mut Scenarios) {
    let volume = |name: &str, driver: &str, labels: Value| {
        json!({
            "CreatedAt": "2024-05-01T10:00:00Z", "Driver": driver, "Labels": labels, "Mountpoint": format!("/v/{name}/_data"),
            "Name": name, "Options": null, "Scope": "local",
        })
    };
    let list = json!({
        "Volumes": [
            volume("v10", "local", json!({"a": "1"})),
            volume("v2", "local", Value::Null),
            volume("a-very-long-name-of-a-volume", "other-driver", json!({})),
        ],
        "Warnings": null,
    });
    let listed = [get("/volumes", &list)];
    all.all(
        &[
            "volume ls",
            "volume list -q",
            "volume ls --filter name=g --filter dangling=true",
            "volume ls --format json",
            "volume ls --format '{{.Name}} {{.Mountpoint}} {{.Label \"a\"}} {{.Labels}} {{.Size}} {{.Links}} {{.Status}}'",
            "volume ls --format 'table {{.Name}}\t{{.Scope}}'",
            "volume ls --format raw",
            "volume ls --format raw -q",
            "volume ls --format '{{.Bogus}}'",
        ],
        &listed,
    );
    all.all(&["volume ls"], &[get("/volumes", &json!({"Volumes": [], "Warnings": null}))]);
    let created = [answer("POST", "/volumes/create", 201, &volume("v1", "local", Value::Null))];
    all.all(
        &[
            "volume create v1",
            "volume create",
            "volume create -d local --label a=1 --label b --opt type=tmpfs -o device=tmpfs v1",
            "volume create --type mount --scope multi --sharing all --group g --required-bytes 1g --secret k=v v1",
        ],
        &created,
    );
    let removals = [
        Route { method: "DELETE", path: "/volumes/v1".into(), status: 204, body: String::new() },
        answer("DELETE", "/volumes/used", 409, &json!({"message": "remove used: volume is in use - [abc]"})),
        answer("DELETE", "/volumes/none", 404, &json!({"message": "get none: no such volume"})),
    ];
    all.all(&["volume rm v1", "volume rm used v1 none", "volume remove -f v1"], &removals);

    let networks = [get("/networks", &golden::body("networks.jsonl", 87))];
    all.all(
        &[
            "network ls",
            "network list --no-trunc",
            "network ls -q -f name=x",
            "network ls --format json",
            "network ls --format '{{.ID}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Label \"a\"}} {{.CreatedAt}}'",
            "network ls --format raw",
        ],
        &networks,
    );
}

fn inspects(all: &mut Scenarios) {
    let container = golden::body("containers-inspect.jsonl", 8);
    let routes = [
        get("/containers/c1/json", &container),
        get("/images/i1/json", &golden::body("images.jsonl", 62)),
        get("/networks/n1", &golden::body("networks.jsonl", 11)),
        get("/volumes/v1", &golden::body("volumes.jsonl", 28)),
        missing("/containers/", "No such container: none"),
        missing("/images/", "No such image: none:latest"),
        missing("/networks/", "network none not found"),
        missing("/volumes/", "get none: no such volume"),
        missing("/plugins/", "plugin \"none\" not found"),
        get("/info", &json!({"Swarm": {"ControlAvailable": false}})),
    ];
    all.all(
        &[
            "inspect c1",
            "inspect i1",
            "inspect n1 v1",
            "inspect c1 none i1",
            "inspect none",
            "inspect -s c1 i1",
            "inspect --format json c1 v1",
            "inspect --type image i1",
            "inspect --type image c1",
            "inspect --type volume v1",
            "inspect --type bogus c1",
            "inspect --type= c1",
            "container inspect c1",
            "container inspect -s none",
            "image inspect i1 --format '{{.Os}}/{{.Architecture}} {{json .Config.Cmd}} {{.Size}}'",
            "image inspect --platform linux/amd64 i1",
            "image inspect none",
            "network inspect -v n1",
            "network inspect none",
            "volume inspect v1",
            "volume inspect none",
            "inspect -f '{{.ID}} {{.Name}} {{.State.Status}} {{.State.Pid}}' c1",
            "inspect -f '{{.Id}}' c1",
            "inspect -f '{{.Bogus}}' c1",
            "inspect -f '{{.State.Bogus}}' c1",
            "inspect -f '{{.Name.Foo}}' c1",
            "inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}' c1",
            "inspect -f '{{.State.Health.Status}}' c1",
            "inspect -f '{{json .NetworkSettings.Ports}} {{.NetworkSettings.Ports}}' c1",
            "inspect -f '{{json .State}}' c1",
            "inspect -f '{{json .Config}}' c1",
            "inspect -f '{{json .Mounts}} {{.Mounts}}' c1",
            "inspect -f '{{.Config.Cmd}} {{.Config.Env}} {{.Config.Labels}} {{.Config.ExposedPorts}} {{.Config.Volumes}}' c1",
            "inspect -f '{{join .Config.Cmd \" \"}} {{.Args}}' c1",
            "inspect -f '{{range .Mounts}}{{.Type}}:{{.Source}}{{end}}|{{len .Mounts}}' c1",
            "inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}' c1",
            "inspect -f '{{range $p, $b := .NetworkSettings.Ports}}{{$p}} -> {{(index $b 0).HostPort}}{{end}}' c1",
            "inspect -f '{{.NetworkSettings.IPAddress}}|{{.NetworkSettings.Networks.bridge.Gateway}}' c1",
            "inspect -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.OomKillDisable}} {{.HostConfig.Binds}}' c1",
            "inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig}}' c1",
            "inspect -f '{{.HostConfig.NetworkMode}} {{.HostConfig.CPUShares}} {{.HostConfig.DNS}} {{.HostConfig.ConsoleSize}}' c1",
            "inspect -f '{{json .HostConfig}}' c1",
            "inspect -f '{{index .Config.Labels \"nope\"}}|{{.Config.Labels.nope}}|' c1",
            "inspect -f '{{.Created}} {{.State.StartedAt}}' c1",
            "inspect -f '{{.RootFS}} {{.Metadata}} {{.RepoTags}}' i1",
            "inspect -f '{{json .}}' v1",
            "inspect -f '{{json .}}' n1",
            "inspect -f '{{.Created}} {{.IPAM}} {{.Options}}' n1",
            "inspect -f '{{.Name}}' c1 none",
            "inspect -f '{{.Name}}' none",
            "inspect -f '{{' c1",
            "inspect -f '{{.Name' c1",
            "inspect -f '' c1",
            "inspect -f 'a{{/* x */}}b' c1",
        ],
        &routes,
    );
    let exited = [get("/containers/c2/json", &golden::body("containers-inspect.jsonl", 10))];
    all.all(&["inspect c2", "inspect -f '{{json .State}} {{.State.ExitCode}} {{json .Mounts}}' c2"], &exited);
    let rich = [get("/containers/c3/json", &golden::body("containers-inspect.jsonl", 15))];
    all.all(
        &[
            "inspect -f '{{.State.Health.Status}} {{.Config.Healthcheck.Interval}} {{json .Config.Healthcheck}}' c3",
            "inspect -f '{{range .Mounts}}{{.}}{{println}}{{end}}' c3",
            "inspect -f '{{range .State.Health.Log}}{{.ExitCode}} {{.Start}}{{end}}' c3",
        ],
        &rich,
    );
}

fn templates(all: &mut Scenarios) {
    let status = json!({"list": ["a", "b"], "map": {"x": 1, "y": "z"}, "null": null, "text": "<a & b>", "deep": {"a": {"b": "c"}}});
    let volume = json!({"Name": "v", "Driver": "local", "Labels": {"a": "1"}, "Options": null, "Mountpoint": "/m", "Scope": "local", "Status": status});
    let routes = [get("/volumes/v", &volume)];
    let lines = [
        "{{define \"T\"}}[{{.}}]{{end}}{{template \"T\" .Name}}",
        "{{template \"T\"}}{{define \"T\"}}x{{.}}{{end}}",
        "{{block \"B\" .Labels}}{{.a}}{{end}}",
        "{{$.Name}} {{with .Status}}{{$.Driver}} {{.text}}{{end}}",
        "{{define \"x\"}}",
        "{{template \"nope\"}}",
        "{{else}}",
        "{{.}}",
        "{{json .}}",
        "{{json .Status}}",
        "{{.Options}} {{json .Options}} {{len .Options}}",
        "{{html .Status.text}} {{js .Status.text}} {{urlquery .Status.text}}",
        "{{- .Name -}} \n x",
        "{{printf \"%s %v %q\" .Name .Labels .Name}}",
        "{{.UsageData}} {{.UsageData.Size}}",
        "{{.ClusterVolume}}",
        "{{slice .Name 0 1}} {{index .Labels \"a\"}} {{index .Labels \"b\"}}|",
        "{{.Name | upper | printf \"%s!\"}}",
        "{{range $i, $x = .Status.list}}{{end}}",
        "{{break}}",
        "{{\"a\" | .Name}}",
    ];
    for line in lines {
        let mut scenario = scenario("inspect --type volume -f", &routes);
        scenario.arguments.extend([line.to_owned(), "v".to_owned()]);
        all.0.push(scenario);
    }
}

fn system(all: &mut Scenarios) {
    let version = [get("/version", &golden::body("system.jsonl", 11))];
    all.all(
        &[
            "version -f '{{.Server.APIVersion}} {{.Server.Version}} {{.Server.Platform.Name}} {{json .Server}}'",
            "version -f '{{range .Server.Components}}{{.Name}} {{.Version}} {{.Details}};{{end}}'",
            "version -f '{{.Bogus}}'",
            "version -f '{{.Client.Bogus}}'",
            "version -f '{{'",
            "version --format '{{.Client.Context}} {{.Client.Platform}}'",
        ],
        &version,
    );
    // What each client says about itself differs.
    all.0.push(scenario("version", &version).from("\nServer:"));
    let info = [get("/info", &golden::body("system.jsonl", 19))];
    all.all(
        &[
            "info -f '{{.Driver}} {{.CgroupVersion}} {{.NCPU}} {{.MemTotal}} {{.ServerVersion}}'",
            "info -f '{{json .Plugins}} {{.Plugins}} {{.Swarm.LocalNodeState}} {{.SecurityOptions}}'",
            "info -f '{{json .Runtimes}} {{.DefaultRuntime}} {{.Containerd}} {{json .Warnings}}'",
            "info -f '{{.Bogus}}'",
            "info -f '{{.ClientInfo.Debug}} {{.ClientInfo.Context}}'",
            "system info --format '{{.Name}}'",
        ],
        &info,
    );
    // The reference prints the runtimes in the random order of a Go map: one has only one.
    let mut one_runtime = golden::body("system.jsonl", 19);
    one_runtime["Runtimes"] = json!({"runc": {"path": "runc"}});
    all.0.push(scenario("info", &[get("/info", &one_runtime)]).from("\nServer:"));
    all.all(&["info -f '{{.ID}}'"], &[answer("GET", "/info", 500, &json!({"message": "no info today"}))]);
    let event = |action: &str, nanos: i64, attributes: Value| {
        json!({
            "status": action, "id": "abc", "from": "busybox", "Type": "container", "Action": action,
            "Actor": {"ID": "abc", "Attributes": attributes}, "scope": "local", "time": nanos / 1_000_000_000, "timeNano": nanos,
        })
    };
    let happened = [stream(
        "GET",
        "/events",
        &[
            event("create", 1_714_557_600_123_456_789, json!({"name": "c", "image": "busybox"})),
            event("die", 1_714_557_601_000_000_000, json!({"name": "c", "image": "busybox", "exitCode": "0"})),
            json!({"Type": "volume", "Action": "prune", "Actor": {"ID": "", "Attributes": {}}, "scope": "local", "time": 1_714_557_602}),
        ],
    )];
    all.all(
        &[
            "events --since 1 --until 2",
            "events --since 2024-05-01T00:00:00Z --until 1.5 --filter container=c -f event=die",
            "events --since 1 --until 2 --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Time}} {{.ID}}'",
            "events --since 1 --until 2 --format json",
            "system events --since 1 --until 2 --format '{{json .}}'",
            "events --since 1 --until 2 --format '{{.Bogus}}'",
            "events --since 1 --until 2 --format '{{'",
            "events --since yesterday",
        ],
        &happened,
    );
    all.0.push(scenario("events --since 2024-05-01 --until 2024-05-01T12:00:00", &happened).zone("Asia/Kolkata"));
    let usage = [get("/system/df", &disk_usage())];
    all.all(
        &[
            "system df",
            "system df --format '{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}'",
            "system df --format json",
            "system df --format raw",
            "system df --format 'table {{.Type}}\t{{.Size}}'",
        ],
        &usage,
    );
    // A parameter that newer daemons know asks for the details.
    for line in [
        "system df -v",
        "system df -v --format '{{range .Images}}{{.Repository}} {{.ID}}{{println}}{{end}}{{range .Volumes}}{{.Name}}{{end}}'",
        "system df -v --format '{{json .}}'",
        "system df -v --format raw",
    ] {
        all.0.push(scenario(line, &usage).whatever_is_asked());
    }
    let nothing = [get("/system/df", &json!({"LayersSize": 0}))];
    all.add("system df", &nothing);
    all.0.push(scenario("system df -v", &nothing).whatever_is_asked());
}

fn disk_usage() -> Value {
    let id = |digit: &str| format!("sha256:{}", digit.repeat(64));
    json!({
        "LayersSize": 203_100_000,
        "Images": [
            {"Id": id("1"), "RepoTags": ["busybox:latest"], "RepoDigests": [], "Created": ago(3 * DAY), "Size": 4_261_574, "SharedSize": 1000, "Containers": 1, "Labels": null, "ParentId": ""},
            {"Id": id("2"), "RepoTags": [], "RepoDigests": [], "Created": ago(30 * DAY), "Size": 100_000_000, "SharedSize": 0, "Containers": 0, "Labels": null, "ParentId": ""},
        ],
        "Containers": container_list(),
        "Volumes": [
            {"Name": "v1", "Driver": "local", "Labels": null, "Options": null, "Mountpoint": "/m", "Scope": "local", "UsageData": {"RefCount": 1, "Size": 1000}},
            {"Name": "v2", "Driver": "local", "Labels": null, "Options": null, "Mountpoint": "/m", "Scope": "local", "UsageData": {"RefCount": 0, "Size": 123_456}},
        ],
        "BuildCache": [
            {"ID": "cache2", "Type": "regular", "Description": "d", "InUse": true, "Shared": false, "Size": 12_345, "CreatedAt": "2024-05-01T10:00:00Z", "LastUsedAt": "2024-05-02T10:00:00.5Z", "UsageCount": 3},
            {"ID": "cache1", "Type": "source.local", "Description": "d", "InUse": false, "Shared": true, "Size": 50, "CreatedAt": "2024-05-01T10:00:00Z", "LastUsedAt": null, "UsageCount": 0},
        ],
    })
}

fn prunes(all: &mut Scenarios) {
    let routes = [
        post("/containers/prune", &json!({"ContainersDeleted": ["abc", "def"], "SpaceReclaimed": 123_456})),
        post(
            "/images/prune",
            &json!({"ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": "sha256:1"}], "SpaceReclaimed": 1_500_000_000}),
        ),
        post("/volumes/prune", &json!({"VolumesDeleted": ["v1"], "SpaceReclaimed": 10})),
        post("/networks/prune", &json!({"NetworksDeleted": ["n1"]})),
        post("/build/prune", &json!({"CachesDeleted": ["x"], "SpaceReclaimed": 5})),
    ];
    let nothing = [
        post("/containers/prune", &json!({"ContainersDeleted": null, "SpaceReclaimed": 0})),
        post("/images/prune", &json!({"ImagesDeleted": null, "SpaceReclaimed": 0})),
        post("/volumes/prune", &json!({"VolumesDeleted": null, "SpaceReclaimed": 0})),
        post("/networks/prune", &json!({"NetworksDeleted": null})),
        post("/build/prune", &json!({"CachesDeleted": null, "SpaceReclaimed": 0})),
    ];
    for routes in [&routes, &nothing] {
        all.all(
            &[
                "container prune -f",
                "container prune --force --filter label=a --filter until=10m",
                "image prune -f",
                "image prune -af --filter label!=x",
                "volume prune -f",
                "volume prune -a -f",
                "volume prune -a -f --filter all=1",
                "system prune -f",
                "system prune -af --volumes --filter label=a",
                "system prune -f --volumes --filter until=1h",
            ],
            routes,
        );
    }
    for line in [
        "container prune",
        "image prune",
        "image prune -a",
        "volume prune",
        "volume prune -a",
        "system prune",
        "system prune -a --volumes --filter label=b --filter label=a10",
    ] {
        all.0.push(scenario(line, &routes).stdin("y\n"));
        all.0.push(scenario(line, &routes).stdin("n\n"));
        all.0.push(scenario(line, &routes));
    }
}
