//! Asks what was recorded, in the recorded order, and has the answers compared.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use berth_testkit::{Berth, Registry, busybox_tar};
use serde_json::{Value, json};

use super::{
    answer,
    compare::{Comparison, Difference},
    placeholder::Names,
    script::{Script, Step},
    wire::{Exchange, Head, Rest},
};
use crate::BERTH;

/// An engine of its own for one area.
pub(crate) struct Replay {
    /// Gone before the engine they are beside.
    registries: Vec<Registry>,
    berth: Berth,
    names: Names,
    script: Script,
    /// What stands for other texts in requests.
    replacements: Vec<(String, String)>,
    /// Containers that give way to the next one of their name.
    renewed: Vec<String>,
    kept: HashMap<String, Vec<u8>>,
    /// What the next request sends instead of its recorded body.
    next_body: Option<Vec<u8>>,
    /// What the next request leaves out.
    without: Option<String>,
    scratch: PathBuf,
}

/// A request as it will be sent.
struct Request {
    method: String,
    bytes: Vec<u8>,
}

/// The recorded documents of an area.
pub(crate) fn documents(area: &str) -> Vec<Value> {
    let path = golden().join(format!("{area}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a recorded document")).collect()
}

/// Where the recordings are.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

impl Replay {
    pub(crate) fn new(area: &str) -> Self {
        // What older versions answer is not in the recordings: their engine knew no version below this one.
        let berth = Berth::start_empty(BERTH, &["--min-api-version", "1.40"]);
        let scratch = berth.sandbox().path().join("scratch");
        std::fs::create_dir(&scratch).expect("a directory");
        let places = vec![
            ("ROOT", berth.root().display().to_string()),
            ("EXECROOT", berth.sandbox().run().display().to_string()),
            ("TMP", scratch.display().to_string()),
        ];
        let script = std::fs::read_to_string(golden().join(format!("setup/{area}.txt"))).unwrap_or_default();
        let (names, script) = (Names::new(places), Script::parse(&script));
        let (replacements, renewed, kept) = Default::default();
        let mut replay = Self {
            registries: Vec::new(),
            berth,
            names,
            script,
            replacements,
            renewed,
            kept,
            next_body: None,
            without: None,
            scratch,
        };
        let changes = ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "CMD [\"sh\"]"]
            .map(str::to_owned);
        replay.import("busybox:latest", &busybox_tar(), &changes);
        replay.perform(replay.script.before(0));
        replay
    }

    /// Asks one document, and says what differs.
    pub(crate) fn run(&mut self, number: u64, document: &Value) -> BTreeSet<Difference> {
        self.perform(self.script.before(number));
        let (recorded, response) = (&document["request"], &document["response"]);
        if recorded["path"].as_str().is_some_and(|path| path.contains("/containers/create")) {
            self.make_way(recorded["path"].as_str().unwrap_or_default(), response);
        }
        let mut recorded = recorded.clone();
        recorded["without_host"] =
            document["shows"].as_str().is_some_and(|shows| shows.ends_with("1.1 without Host")).into();
        let recorded = &recorded;
        let request = self.request(recorded);
        let mut exchange = Exchange::send(&self.berth.sandbox().socket(), &request.bytes);
        if let Some(raw) = response["raw"].as_str() {
            return self.compare_raw(raw, &exchange.rest());
        }
        let head = exchange.head();
        self.perform(self.script.during(number));
        if let Some(more) = recorded["sent_after_head"].as_str() {
            exchange.write(more.as_bytes());
        }
        if recorded["then"].as_str().is_some_and(|then| then.contains("half-closes")) {
            std::thread::sleep(Duration::from_millis(200));
            exchange.half_close();
        }
        let mut comparison = Comparison::new(&mut self.names);
        if let Some(documents) = document["documents"].as_object() {
            let archive = exchange.body(&head, &request.method);
            answer::compare_documents(&mut comparison, documents, &archive);
        } else if response["server_closed"].is_boolean() {
            answer::compare_hijacked(&mut comparison, response, &head, &exchange.rest());
        } else {
            let is_endless = response["cut_by_client"].is_boolean() || response["head_before_first_event"].is_boolean();
            let body = match is_endless {
                true => exchange.chunks(response["body_stream"].as_array().map_or(1, Vec::len)),
                false => exchange.body(&head, &request.method),
            };
            answer::compare_answer(&mut comparison, response, &head, &body);
        }
        comparison.finish()
    }

    fn compare_raw(&mut self, raw: &str, rest: &Rest) -> BTreeSet<Difference> {
        let ours = String::from_utf8_lossy(&rest.bytes).into_owned();
        let mut comparison = Comparison::new(&mut self.names);
        let split = |text: &str| -> Vec<(String, String)> {
            let answers = text.split("HTTP/1.").skip(1).map(|answer| format!("HTTP/1.{answer}"));
            answers
                .map(|answer| {
                    answer
                        .split_once("\r\n\r\n")
                        .map(|(head, body)| (head.to_owned(), body.to_owned()))
                        .unwrap_or_default()
                })
                .collect()
        };
        let (recorded, ours) = (split(raw), split(&ours));
        comparison.equal("answers", recorded.len(), ours.len());
        for ((recorded_head, recorded), (head, ours)) in recorded.into_iter().zip(ours) {
            comparison.head(&Head::parse(recorded_head), &Head::parse(head));
            comparison.text("body", &recorded, &ours);
        }
        comparison.finish()
    }

    /// A container that will be created has another id than its forerunner.
    fn make_way(&mut self, path: &str, response: &Value) {
        let name = path.split(['?', '&']).find_map(|part| part.strip_prefix("name=")).unwrap_or_default().to_owned();
        if self.renewed.contains(&name) {
            let _ = self.berth.api("DELETE", &format!("/containers/{name}?force=1&v=1"), None);
        }
        if response["status"] == 201 {
            self.names.forget(&name);
        }
    }

    fn request(&mut self, recorded: &Value) -> Request {
        if let Some(raw) = recorded["raw"].as_str() {
            return Request { method: String::new(), bytes: format!("{raw}\r\n\r\n").into_bytes() };
        }
        let (method, path) =
            (recorded["method"].as_str().expect("a method"), recorded["path"].as_str().expect("a path"));
        if let Some(bytes) = odd_request(method, path, recorded["without_host"] == true) {
            return Request { method: method.to_owned(), bytes };
        }
        // Go's server takes quotes as they are; clients encode them.
        let path = self.fill(path).replace(' ', "%20").replace('"', "%22");
        let (body, kind) = self.body(recorded);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n");
        let mut headers = recorded["headers"].as_object().cloned().unwrap_or_default();
        if let Some(kind) = kind.filter(|_| !headers.contains_key("Content-Type")) {
            headers.insert("Content-Type".to_owned(), kind.into());
        }
        for (name, value) in &headers {
            head += &format!("{name}: {}\r\n", value.as_str().expect("a text"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = format!("{head}\r\n").into_bytes();
        bytes.extend(body);
        Request { method: method.to_owned(), bytes }
    }

    /// What the request sends, and its media type where none was recorded.
    fn body(&mut self, recorded: &Value) -> (Vec<u8>, Option<&'static str>) {
        if let Some(body) = self.next_body.take() {
            return (body, None);
        }
        match (&recorded["body"], &recorded["body_text"], &recorded["body_tar"]) {
            (Value::Null, Value::Null, Value::Null) if recorded.get("body").is_some() => {
                (b"null".to_vec(), Some("application/json"))
            }
            (Value::Null, Value::Null, Value::Null) => (Vec::new(), None),
            (Value::Null, Value::String(text), _) if text.starts_with("<3 MB") => {
                let label = "x".repeat(3 << 20);
                (
                    json!({"Image": "busybox:latest", "Labels": {"long": label}}).to_string().into_bytes(),
                    Some("application/json"),
                )
            }
            (Value::Null, Value::String(text), _) => (self.fill(text).into_bytes(), None),
            (Value::Null, _, members) => (tar_of(members), None),
            (body, ..) if self.without.is_some() => {
                let mut body = body.clone();
                let pointer = self.without.take().expect("just seen");
                let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
                let parent = body.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
                parent.remove(key).expect("it was there");
                (self.fill(&body.to_string()).into_bytes(), Some("application/json"))
            }
            (body, ..) => (self.fill(&body.to_string()).into_bytes(), Some("application/json")),
        }
    }

    fn fill(&mut self, text: &str) -> String {
        let replaced = self.replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        self.names.fill(&replaced)
    }

    fn perform(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.perform_one(step);
        }
    }

    fn perform_one(&mut self, step: Step) {
        match step {
            Step::Create { name, config } => self.create(&name, &config),
            Step::Exec { id, container, config } => {
                let (status, answer) = self.berth.api("POST", &format!("/containers/{container}/exec"), Some(&config));
                assert_eq!(status, 201, "exec in {container}: {answer}");
                self.names.bind(&id, answer["Id"].as_str().expect("an id"));
            }
            Step::Start(name) => self.must("POST", &format!("/containers/{name}/start"), None),
            Step::Api { method, path, body } => self.must(&method, &path, body.as_ref()),
            Step::Try { method, path, body } => {
                let path = self.fill(&path);
                let _ = self.berth.api(&method, &path, body.as_ref());
            }
            Step::Until { name, state } => self.until(&name, &state),
            Step::Gone(name) => {
                crate::eventually(&name, || self.berth.api("GET", &format!("/containers/{name}/json"), None).0 == 404);
            }
            Step::Sleep(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
            Step::File(path) => std::fs::write(self.scratch.join(path), "").expect("a file"),
            Step::Directory(path) => std::fs::create_dir(self.scratch.join(path)).expect("a directory"),
            Step::Delete(path) => {
                let path = self.scratch.join(path);
                std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).expect("it was there");
            }
            Step::ReplaceByTime(text) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
                self.replacements.push((text, format!("{}.{:09}", now.as_secs(), now.subsec_nanos())));
            }
            Step::Replace { text, by } => {
                let by = self.names.fill(&by);
                self.replacements.push((text, by));
            }
            Step::Without(pointer) => self.without = Some(pointer),
            Step::Renew(name) => self.renewed.push(name),
            Step::Import { name, changes } => {
                self.import(&name, &tar_of(&json!([{"name": name, "type": "file", "size": 1}])), &changes);
            }
            Step::Busybox { name, changes } => self.import(&name, &busybox_tar(), &changes),
            Step::Keep { name, path } => {
                let path = self.fill(&path);
                let request = format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n");
                let mut exchange = Exchange::send(&self.berth.sandbox().socket(), request.as_bytes());
                let head = exchange.head();
                assert_eq!(head.status, 200, "{path}");
                self.kept.insert(name, exchange.body(&head, "GET"));
            }
            Step::Send(name) => self.next_body = Some(self.kept[&name].clone()),
            Step::Registry { port, user } => {
                let mut options = Vec::new();
                if let Some(user) = user {
                    let users = self.berth.sandbox().path().join("users");
                    std::fs::write(&users, user).expect("a password file");
                    options = vec!["--htpasswd".to_owned(), users.display().to_string()];
                }
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                self.registries.push(Registry::start(BERTH, self.berth.sandbox(), port, &options));
            }
            Step::Bind { name, path, pointer } => {
                let path = self.fill(&path);
                let (_, body) = self.berth.api("GET", &path, None);
                let id =
                    body.pointer(&pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {body}"));
                self.names.bind(&name, id.trim_start_matches("sha256:"));
            }
        }
    }

    #[track_caller]
    fn must(&mut self, method: &str, path: &str, body: Option<&Value>) {
        let path = self.fill(path).replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let body = body.map(|body| serde_json::from_str(&self.fill(&body.to_string())).expect("JSON"));
        let (status, answer) = self.berth.api(method, &path, body.as_ref());
        assert!(status < 400, "{method} {path}: {status} {answer}");
    }

    fn create(&mut self, name: &str, config: &Value) {
        let config = serde_json::from_str(&self.fill(&config.to_string())).expect("JSON");
        let (status, answer) = self.berth.api("POST", &format!("/containers/create?name={name}"), Some(&config));
        assert_eq!(status, 201, "create {name}: {answer}");
        self.names.bind(name, answer["Id"].as_str().expect("an id"));
    }

    fn until(&self, name: &str, state: &str) {
        crate::eventually(&format!("{name} is {state}"), || {
            let (_, body) = self.berth.api("GET", &format!("/containers/{name}/json"), None);
            let (status, health) = (&body["State"]["Status"], &body["State"]["Health"]["Status"]);
            let counted = format!("{} {}", status.as_str().unwrap_or_default(), body["RestartCount"]);
            status == state || health == state || counted == state
        });
    }

    fn import(&mut self, name: &str, tar: &[u8], changes: &[String]) {
        let mut path = format!("/images/create?fromSrc=-&repo={name}");
        for change in changes.iter().filter(|change| !change.is_empty()) {
            path += &format!("&changes={}", change.replace(' ', "%20").replace('"', "%22"));
        }
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
            tar.len()
        );
        let mut exchange = Exchange::send(&self.berth.sandbox().socket(), &[head.as_bytes(), tar].concat());
        let head = exchange.head();
        let body = exchange.body(&head, "POST");
        let body = String::from_utf8_lossy(&body);
        assert!(head.status == 200 && !body.contains("error"), "import {name}: {} {body}", head.text);
    }
}

/// Requests whose form is the point.
fn odd_request(method: &str, path: &str, without_host: bool) -> Option<Vec<u8>> {
    if method == "GET then HEAD" {
        return Some(
            format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\nHEAD {path} HTTP/1.1\r\nHost: d\r\n\r\n").into_bytes(),
        );
    }
    if let Some(path) = path.strip_suffix(" HTTP/1.0") {
        return Some(format!("GET {path} HTTP/1.0\r\n\r\n").into_bytes());
    }
    without_host.then(|| format!("{method} {path} HTTP/1.1\r\n\r\n").into_bytes())
}

/// A tar with such members; their content was not recorded.
fn tar_of(members: &Value) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for member in members.as_array().into_iter().flatten() {
        let mut header = tar::Header::new_ustar();
        let size = member["size"].as_u64().unwrap_or(0);
        header.set_size(size);
        header.set_mode(if member["type"] == "dir" { 0o755 } else { 0o644 });
        header.set_entry_type(if member["type"] == "dir" {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        // Written by hand: some of the names are not allowed.
        let Some(name) = member["name"].as_str().map(str::as_bytes) else { continue };
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        tar.append(&header, &b"x".repeat(usize::try_from(size).expect("small"))[..]).expect("memory");
    }
    tar.into_inner().expect("memory")
}
