//! The documents of the API have the recorded fields at every version: what is there, and what is null, empty or absent.
//!
//! Values are not compared. What is deliberately different stands in `shape-differences.txt` with its reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use berth_testkit::Berth;
use serde_json::{Value, json};

use crate::start;

/// A recorded document: where it stands, and the path by which ours is asked for.
const DOCUMENTS: [(&str, &str); 8] = [
    ("containers-create", "/containers/shape/json"),
    ("containers-list", "/containers/json?all=1"),
    ("images", "/images/shape/json"),
    ("images", "/images/json?filters=%7B%22reference%22:[%22shape%22]%7D"),
    ("networks", "/networks/bridge"),
    ("networks", "/networks"),
    ("system", "/info"),
    ("system", "/version"),
];

#[test]
fn documents_have_the_recorded_fields_at_every_version() {
    let berth = start();
    import(&berth);
    let body = json!({"Image": "busybox", "Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"a": "b"}});
    assert_eq!(berth.api("POST", "/containers/create?name=shape", Some(&body)).0, 201);
    let listed = differences();
    let (mut compared, mut wrong, mut used) = (0, BTreeMap::new(), BTreeSet::new());
    for (area, path) in DOCUMENTS {
        for (version, recorded) in recordings(area, path) {
            compared += 1;
            let (status, ours) = ask(&berth, &version, path);
            assert_eq!(status, 200, "{version}{path}: {ours}");
            let (recorded, ours) = (first(&recorded), first(&ours));
            compare(path, "", recorded, ours, &mut |difference| {
                let key = listed.iter().find(|listed| matches(listed, &difference));
                match key {
                    Some(key) => drop(used.insert(key.clone())),
                    None => drop(wrong.entry(difference).or_insert_with(|| version.clone())),
                }
            });
        }
    }
    let wrong: Vec<_> = wrong.iter().map(|(difference, version)| format!("{difference} (at {version})")).collect();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 30, "only {compared} documents were compared");
    let unused: Vec<_> = listed.iter().filter(|key| !used.contains(*key)).collect();
    assert!(unused.is_empty(), "listed, but no longer different: {unused:?}");
}

/// Makes an image that says something about everything that an image can say.
fn import(berth: &Berth) {
    let changes = [
        "CMD [\"c\"]",
        "ENTRYPOINT [\"/a\"]",
        "EXPOSE 80/tcp",
        "HEALTHCHECK CMD true",
        "LABEL l=1",
        "ONBUILD RUN x",
        "STOPSIGNAL SIGINT",
        "USER 1",
        "VOLUME /vv",
        "WORKDIR /etc",
    ];
    let changes: Vec<String> = changes.iter().map(|change| format!("--change '{change}'")).collect();
    let words = format!("import {} - shape:latest", changes.join(" "));
    berth.run_with_input(&words, &berth_testkit::busybox_tar()).succeeds();
}

/// A listed difference covers what stands below it when it ends with a star.
fn matches(listed: &str, difference: &str) -> bool {
    listed.strip_suffix('*').map_or(listed == difference, |prefix| difference.starts_with(prefix))
}

fn ask(berth: &Berth, version: &str, path: &str) -> (u16, Value) {
    berth.api("GET", &format!("{version}{path}"), None)
}

/// Recorded documents of the same kind, with the version they were asked at.
fn recordings(area: &str, path: &str) -> Vec<(String, Value)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/{area}.jsonl"));
    let text = std::fs::read_to_string(file).expect("recordings");
    let documents = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a recorded line"));
    let wanted = documents.filter(|document| {
        let shows = document["shows"].as_str().unwrap_or_default();
        match path {
            "/containers/shape/json" => shows.starts_with("inspect of: create, minimal body"),
            "/containers/json?all=1" => shows.starts_with("list all=1 at v"),
            "/images/shape/json" => shows.starts_with("inspect, all config fields, at v"),
            _ if path.starts_with("/images/json") => shows.starts_with("list at v"),
            "/networks/bridge" => shows == "inspect predefined bridge",
            "/networks" => shows.starts_with("list entry of the predefined"),
            "/info" => shows.starts_with("info at v"),
            _ => shows.starts_with("version at v"),
        }
    });
    wanted.map(|document| (version_of(&document), created_only(&document["response"]["body"]))).collect()
}

fn version_of(document: &Value) -> String {
    let path = document["request"]["path"].as_str().expect("a path");
    format!("/{}", path.split('/').nth(1).expect("a version"))
}

/// Of a list of containers in many states, the one that was never started: ours is in that state too.
fn created_only(body: &Value) -> Value {
    match body.as_array().and_then(|entries| entries.iter().find(|entry| entry["State"] == "created")) {
        Some(entry) => json!([entry]),
        None => body.clone(),
    }
}

/// The document itself, or of a list the one to look at: of networks `none`, which every engine has alike.
fn first(value: &Value) -> &Value {
    let Some(items) = value.as_array() else { return value };
    items.iter().find(|item| item["Name"] == "none").or(items.first()).unwrap_or(value)
}

fn compare(kind: &str, at: &str, recorded: &Value, ours: &Value, report: &mut dyn FnMut(String)) {
    match (recorded, ours) {
        // Whoever made an object chose what stands in these.
        (Value::Object(_), Value::Object(_))
            if [".Labels", ".annotations", ".Runtimes"].iter().any(|map| at.ends_with(map)) => {}
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                match ours.get(key) {
                    Some(other) => compare(kind, &format!("{at}.{key}"), value, other, report),
                    None => report(format!("{kind} lacks {at}.{key}")),
                }
            }
            for key in ours.keys().filter(|key| !recorded.contains_key(*key)) {
                report(format!("{kind} adds {at}.{key}"));
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            if let (Some(recorded), Some(ours)) = (recorded.first(), ours.first()) {
                compare(kind, &format!("{at}[]"), recorded, ours, report);
            }
        }
        (recorded, ours) if word(recorded) == word(ours) => {}
        (recorded, ours) => report(format!("{kind} has {at} as {} instead of {}", word(ours), word(recorded))),
    }
}

/// What a value is; a placeholder stands for the number it replaced.
fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::String(text) if text.starts_with("<INT:") => "a number",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Differences that are meant: each line is one, with its reason after a tab.
fn differences() -> Vec<String> {
    let text = include_str!("shape-differences.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}
