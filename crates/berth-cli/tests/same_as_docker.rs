//! The same words, given to docker's client and to ours, ask the daemon for the same: path, query, body; and the same mistakes give the
//! same texts and exit codes. Runs where docker's client is installed.
#![forbid(unsafe_code)]

mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use server::{Asked, Server, berth, json, run};

/// Command lines whose requests are compared; the words are those of a shell.
const REQUESTS: &[&str] = &[
    "create busybox",
    "run --rm busybox true",
    "run -d -it --name n busybox sh -c 'echo a b' --rm",
    "run -i busybox",
    "run -a stdout busybox",
    "run -a stdin -a stdout busybox",
    "run -t busybox",
    "create -v /a:/b:ro -v vol:/c -v /anon -v ./rel:/d -v x:y:z busybox",
    "create --tmpfs /z:size=1m,mode=700 --tmpfs /y busybox",
    "create --mount type=bind,src=/x,dst=/y,readonly,bind-propagation=rslave --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 busybox",
    "create --mount type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=x=y --mount dst=/only busybox",
    "create --mount type=bind,src=./x,dst=/y,bind-recursive=disabled --mount type=image,src=i,dst=/z,image-subpath=q busybox",
    "create --mount type=bind,src=/x,dst=/y,ro,bind-recursive=writable,consistency=cached --mount type=volume,dst=/v,volume-subpath=a busybox",
    "create -p 80 -p 8080:81/udp -p 127.0.0.1:9000-9002:90-92 -p [::1]:7:8 --expose 5-6 -P busybox",
    "create -p 1000-1003:80 -p target=80,published=81 -p 127.0.0.1::5/sctp --expose 80/foo busybox",
    "network create n",
    "network create -d macvlan -o parent=eth0.10 --subnet 10.0.0.0/24 --gateway 10.0.0.1 --ip-range 10.0.0.128/25 --aux-address a=10.0.0.5 n",
    "network create --ipv6 --ipv4=false --subnet fd00:1::/64 --internal --attachable --label a=b --label c --scope local n",
    "network create --config-only --ipam-opt k=v --ipam-driver foo n",
    "network create --config-from c --ingress n",
    "network connect n c",
    "network connect --ip 10.0.0.9 --ip6 fd00::9 --alias a --alias b,c --link-local-ip 169.254.1.1 --driver-opt k=v --gw-priority -3 n c",
    "network disconnect n c",
    "network disconnect -f n c",
    "network prune -f --filter label=a --filter until=1h",
    "network ls -f driver=bridge --no-trunc",
    "network inspect -v n",
    "create --network host busybox",
    "create --network a busybox",
    "create --network none busybox",
    "create --network container:c busybox",
    "create --net a --net-alias q --ip 10.0.0.9 --ip6 fd00::1 --link-local-ip 169.254.1.1 --link c:d --mac-address 02:00:00:00:00:02 busybox",
    "create --network a --network name=b,alias=x,alias=y,ip=1.2.3.4,driver-opt=k=v,gw-priority=3,mac-address=02:00:00:00:00:01 busybox",
    "create --link c:d --link e --ip 1.2.3.4 busybox",
    "create --health-cmd 'x y' --health-interval 3s --health-timeout 1m30s --health-start-period 1h --health-start-interval 5ms --health-retries 2 busybox",
    "create --no-healthcheck --entrypoint foo busybox a b",
    "create --entrypoint '' busybox",
    "create --ulimit nofile=5:6 --ulimit core=-1 --ulimit nproc=4 busybox",
    "create --cpus 1.5 -m 1.5g --memory-swap -1 --memory-reservation 5m --shm-size 1g --pids-limit -1 -c 5 busybox",
    "create --cpu-period 6 --cpu-quota 7 --cpuset-cpus 0 --cpuset-mems 1 --cpu-rt-period 3 --cpu-rt-runtime 4 --memory-swappiness 5 busybox",
    "create --blkio-weight 10 --blkio-weight-device /dev/sda:50 --device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2 --device-write-iops /dev/sda:7 --device-read-iops /dev/sdb:8 busybox",
    "create --gpus all busybox",
    "create --gpus '\"device=0,1\",capabilities=compute,driver=x' busybox",
    "create --gpus 2 busybox",
    "create --device /dev/null:/dev/x:r --device /dev/zero --device /dev/full:rw --device-cgroup-rule 'c 1:3 rwm' busybox",
    "create --cap-add NET_ADMIN --cap-add net_admin --cap-add SYS_TIME --cap-drop ALL busybox",
    "create --cap-add ALL --cap-drop CAP_CHOWN --cap-drop mknod busybox",
    "create --dns 1.1.1.1 --dns-search x --dns-option y --dns-opt z --add-host a:1.2.3.4 --add-host b=host-gateway --add-host 'c=[::1]' busybox",
    "create --restart on-failure:3 --log-opt a=b --log-opt c --log-driver json-file --sysctl net.c=1 --annotation x=y --annotation z busybox",
    "create --security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt apparmor=x --security-opt systempaths=unconfined busybox",
    "create --security-opt label:disable --privileged --read-only --init --init=true busybox",
    "create --init=false --oom-kill-disable --oom-score-adj 5 --runtime r --isolation i --volume-driver vd --volumes-from c:ro --volumes-from d busybox",
    "create --cgroup-parent /p --cgroupns host --ipc host --pid host --uts host --userns host --group-add 5 --group-add wheel --storage-opt size=1 busybox",
    "create --stop-timeout 4 --stop-signal KILL -u 1:2 -w /w -h hh --domainname dd busybox",
    "create -l a=b -l c -e A=1 -e NOSUCH -e PRESENT -e A=2 busybox",
    "create --platform linux/arm64 --name x busybox:1.36",
    "create --tty=false --interactive=true --privileged=0 busybox",
    "start a",
    "stop a b",
    "stop -t 3 -s KILL a",
    "stop --time 3 a",
    "restart -t -1 a",
    "kill -s HUP a",
    "kill a",
    "pause a",
    "unpause a",
    "rename a b",
    "rm -f -v a",
    "rm -l a",
    "update -m 5m --memory-swap -1 --restart always --cpus 2 --pids-limit 4 a",
];

/// Command lines that are refused before the daemon is asked.
const MISTAKES: &[&str] = &[
    "run",
    "run --foo x",
    "run --name",
    "run -e",
    "run -m abc x",
    "run -Zq",
    "run -itZ x",
    "run -t=maybe x",
    "run -d -a stdout x",
    "create --ulimit nofile x",
    "create --ulimit foo=1 x",
    "create --ulimit nofile=5:3 x",
    "create --ulimit nofile=1:2:3 x",
    "create --ulimit nofile=a x",
    "create --device-read-bps /dev/x x",
    "create --device-read-bps x:1 x",
    "create --device-read-bps /dev/x:a x",
    "create --device-read-iops /dev/x:a x",
    "create --device-read-iops /dev/x:-1 x",
    "create --blkio-weight-device /dev/x x",
    "create --blkio-weight-device x:5 x",
    "create --blkio-weight-device /dev/x:5000 x",
    "create --cpus abc x",
    "create --cpus 0.0000000001 x",
    "create -e =x x",
    "create -e '' x",
    "create --env-file /nonexistent x",
    "create --link a:b:c x",
    "create --link '' x",
    "create --add-host foo x",
    "create --add-host foo:bar x",
    "create --dns x x",
    "create --dns-search 'a b' x",
    "create -a foo x",
    "create --device-cgroup-rule x x",
    "create -p foo x",
    "create -p 1.2.3:5:6 x",
    "create -p 5-7:8-9 x",
    "create -p 70000 x",
    "create -p 80/foo x",
    "create -p 1:2:3:4 x",
    "create -p '' x",
    "create -p a:80 x",
    "create -p a=b,c x",
    "create --expose a x",
    "create --expose 5-3 x",
    "create --expose a:b x",
    "create --restart on-failure:x x",
    "create --restart :3 x",
    "create --rm --restart always x",
    "create --no-healthcheck --health-cmd x x",
    "create --health-interval -1s x",
    "create --health-interval foo x",
    "create --health-retries -1 x",
    "create --memory-swappiness 500 x",
    "create --pid foo x",
    "create --uts foo x",
    "create --userns foo x",
    "create --cgroupns foo x",
    "create --mount foo x",
    "create --mount type=bind,src=a x",
    "create --mount type=bind,src=/a,dst=/b,foo=bar x",
    "create --mount type=bind,src=/a,dst=/b,readonly=maybe x",
    "create --mount type=bind,src=/a,dst=/b,volume-nocopy x",
    "create --mount type=tmpfs,dst=/b,tmpfs-size=x x",
    "create --mount type=tmpfs,dst=/b,tmpfs-mode=9 x",
    "create --mount type=volume,dst=/b,bind-propagation=rslave x",
    "create --mount type=bind,src=/a,dst=/b,bind-nonrecursive=x x",
    "create --mount type=bind,src=/a,dst=/b,bind-recursive=foo x",
    "create --mount type=bind,src=/a,dst=/b,bind-recursive=readonly x",
    "create --mount '' x",
    "create --network name=a,foo=b x",
    "create --network name=a,foo x",
    "create --network ip=1.2.3.4 x",
    "create --network name=a,gw-priority=x x",
    "create --network '' x",
    "create --network name=a,mac-address=foo x",
    "create --network a --network a x",
    "create --network host --network b x",
    "create --network bridge --network-alias x x",
    "create --network name=a,ip=1.1.1.1 --ip 1.2.3.4 x",
    "create --network name=a,alias=q --network-alias z x",
    "create --sysctl kernel.foo=1 x",
    "network create",
    "network create a b",
    "network create --subnet x n",
    "network create --subnet 10.0.0.0/8,10.1.0.0/16 n",
    "network create --gateway 10.0.0.1 n",
    "network create --subnet 10.0.0.0/24 --gateway 10.1.0.1 n",
    "network create --subnet 10.0.0.0/24 --ip-range 10.1.0.0/25 n",
    "network create --subnet 10.0.0.0/24 --aux-address a=10.1.0.1 n",
    "network create --subnet 10.0.0.0/24,fd00::/64 --gateway 10.0.0.1,10.0.0.2 n",
    "network connect n",
    "network connect --driver-opt k n c",
    "network connect --gw-priority x n c",
    "network disconnect n",
    "network rm",
    "create --sysctl net.x x",
    "create --security-opt foo x",
    "create --security-opt seccomp=/nonexistent x",
    "create --storage-opt x x",
    "create -p +80 x",
    "create -p +80:80 x",
    "create -p 80-+81 x",
    "create --expose +80 x",
    "create --log-driver none --log-opt a=b x",
    "create -l '' x",
    "create --label-file /nonexistent x",
    "create -m 1x x",
    "create -m -5 x",
    "create --memory-swap -2 x",
    "create --shm-size -5 x",
    "create --gpus foo x",
    "create --gpus count=x x",
    "create --gpus foo=bar x",
    "create --pull foo x",
    "create --mac-address foo x",
    "create --stop-timeout x x",
    "create --pids-limit x x",
    "create --detach-keys foo x",
    "create UPPER",
    "create ''",
    "exec x",
    "exec -e =f x y",
    "stop -t x a",
    "stop",
    "rm",
    "rm --foo a",
    "rename a",
    "rename '' b",
    "rename a ''",
    "wait",
    "port",
    "port a b c",
    "start -a x y",
    "start -i x y",
    "update x",
    "pause",
    "logs",
    "top",
    "container foo",
    "container --foo",
    "container rm",
    "container ls --foo",
    "foo",
    "--foo ps",
    "-H a -c b start x",
];

#[test]
fn the_same_words_ask_for_the_same() {
    let Some(docker) = docker() else { return };
    let stop = |_: &Asked, writer: &mut _| json(writer, 500, "{\"message\":\"stop here\"}");
    let (theirs, ours) = (Server::start(stop), Server::start(stop));
    let mut differences = Vec::new();
    for line in REQUESTS {
        let words = split(line);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        run(&docker, &theirs.host(), &words, "");
        run(&berth(), &ours.host(), &words, "");
        let (theirs, ours) = (shapes(&theirs.take_asked()), shapes(&ours.take_asked()));
        if theirs != ours {
            differences.push(format!("{line}\n  docker: {theirs:#?}\n  berth:  {ours:#?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn the_same_mistakes_give_the_same_texts_and_codes() {
    let Some(docker) = docker() else { return };
    let server = Server::start(|_, writer| json(writer, 500, "{\"message\":\"stop here\"}"));
    let mut differences = Vec::new();
    for line in MISTAKES {
        let words = split(line);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (theirs, ours) = (run(&docker, &server.host(), &words, ""), run(&berth(), &server.host(), &words, ""));
        let text = |output: &std::process::Output| {
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (theirs, ours) = (text(&theirs), text(&ours));
        let theirs = (theirs.0, in_our_words(&theirs.1));
        if theirs != (ours.0, in_our_words(&ours.1)) {
            differences.push(format!("{line}\n  docker: {theirs:?}\n  berth:  {ours:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// Commands whose help is compared: usage, spellings, flags with their short forms and types. The descriptions are ours.
const HELPED: &[&str] = &[
    "attach",
    "create",
    "exec",
    "kill",
    "logs",
    "pause",
    "port",
    "rename",
    "restart",
    "rm",
    "run",
    "start",
    "stop",
    "top",
    "unpause",
    "update",
    "wait",
    "container rm",
    "container run",
    "network connect",
    "network create",
    "network disconnect",
    "network ls",
    "network prune",
    "network rm",
];

/// Flags of docker that are not here: rare ones that nothing of the engine stands behind yet.
const MISSING_FLAGS: &[&str] =
    &["use-api-socket", "checkpoint", "checkpoint-dir", "disable-content-trust", "kernel-memory"];

/// Flags that docker does not have.
const OWN_FLAGS: &[&str] = &["dry-run", "explain", "net-delay", "net-loss", "net-rate"];

#[test]
fn help_has_the_same_usage_and_flags() {
    let Some(docker) = docker() else { return };
    let mut differences = Vec::new();
    for line in HELPED {
        let mut words: Vec<_> = line.split(' ').collect();
        words.push("--help");
        let help = |program: &Path| {
            in_our_words(&String::from_utf8_lossy(&run(program, "unix:///nonexistent", &words, "").stdout))
        };
        let (theirs, ours) = (help(&docker), help(&berth()));
        let heads = |help: &str| help.split("\nOptions:").next().unwrap_or_default().trim_end().to_owned();
        if heads(&theirs) != heads(&ours) {
            differences.push(format!("{line}: {}\n---\n{}", heads(&theirs), heads(&ours)));
        }
        let (mut theirs, mut ours) = (flags(&theirs), flags(&ours));
        assert!(!line.ends_with("run") || theirs.len() > 90, "the help of docker was not understood");
        theirs.retain(|name, _| !MISSING_FLAGS.contains(&name.as_str()));
        ours.retain(|name, _| !MISSING_FLAGS.contains(&name.as_str()) && !OWN_FLAGS.contains(&name.as_str()));
        if theirs != ours {
            let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| -> Vec<String> {
                a.iter().filter(|(name, head)| b.get(*name) != Some(head)).map(|(_, head)| head.clone()).collect()
            };
            differences.push(format!("{line}: docker {:?} berth {:?}", only(&theirs, &ours), only(&ours, &theirs)));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// The left column of a help text by the flags' names: `-m, --memory bytes`.
fn flags(help: &str) -> BTreeMap<String, String> {
    let lines = help.lines().filter(|line| line.trim_start().starts_with('-') && line.contains("--"));
    let head = |line: &str| {
        let text = line.trim();
        text.split("   ").next().unwrap_or(text).to_owned()
    };
    let name = |head: &str| head.split("--").nth(1)?.split(' ').next().map(str::to_owned);
    lines.filter_map(|line| Some((name(&head(line))?, head(line)))).collect()
}

/// Our name for theirs; `See` and `Run` before the hint changed between their versions.
fn in_our_words(text: &str) -> String {
    text.replace("docker", "berth").replace("See 'berth", "Run 'berth").trim_end().to_owned()
}

/// What is compared of requests: method, route with its query in order, and the body without what says nothing.
fn shapes(asked: &[Asked]) -> Vec<String> {
    let shape = |asked: &Asked| {
        let mut body = serde_json::from_slice::<Value>(&asked.body).unwrap_or(Value::Null);
        drop_silent(&mut body);
        let (path, query) = asked.route().split_once('?').unwrap_or((asked.route(), ""));
        let mut query: Vec<_> = query.split('&').collect();
        query.sort_unstable();
        let mut body = serde_json::to_value(&body).unwrap_or_default();
        sort(&mut body);
        format!("{} {path}?{} {body}", asked.method, query.join("&"))
    };
    // docker asks `/info` before some commands to know the operating system.
    let mut shapes: Vec<_> = asked.iter().filter(|asked| !asked.route().starts_with("/info")).map(shape).collect();
    // Requests for several containers are on the way at once.
    shapes.sort();
    shapes
}

/// Newer API versions dropped these fields, or leave them out when they say nothing.
fn drop_silent(body: &mut Value) {
    if let Value::Object(fields) = body {
        if fields.get("OnBuild") == Some(&Value::Null) {
            fields.remove("OnBuild");
        }
        fields.values_mut().for_each(drop_silent);
    }
}

fn sort(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.sort_keys();
            fields.values_mut().for_each(sort);
        }
        Value::Array(values) => {
            values.iter_mut().for_each(sort);
            // docker keeps volumes and variables in maps, so that their order is another each time.
            if values.iter().all(Value::is_string)
                && values.iter().any(|v| v.as_str().is_some_and(|s| s.contains([':', '='])))
            {
                values.sort_by_key(ToString::to_string);
            }
        }
        _ => {}
    }
}

/// Splits as a shell does, with single quotes only.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                begun = true;
            }
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            letter => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// Docker's client, where it is installed.
fn docker() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|directory| directory.join("docker")).find(|path| path.exists())
}
