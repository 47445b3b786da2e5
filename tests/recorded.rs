//! The refusals of the recorded engine, asked of ours: the same status and the same words.
//!
//! Only recordings that need no prepared objects are asked. What is deliberately different stands in
//! `recorded-differences.txt` with its reason; what answers 501 "... is not there yet" belongs to later work.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use berth_testkit::Berth;
use serde_json::Value;

use crate::BERTH;

/// The recordings whose refusals are asked.
const AREAS: [&str; 13] = [
    "containers-lifecycle",
    "containers-list",
    "containers-logs",
    "containers-misc",
    "containers-wait",
    "events",
    "exec",
    "extra",
    "images",
    "networks",
    "system",
    "system-df",
    "volumes",
];

#[test]
fn refusals_are_those_that_were_recorded() {
    let berth = Berth::start_empty(BERTH, &["--min-api-version", "1.40"]);
    let listed = differences();
    let (mut asked, mut wrong, mut used) = (0, Vec::new(), Vec::new());
    for area in AREAS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/{area}.jsonl"));
        for line in std::fs::read_to_string(path).expect("recordings").lines() {
            let document: Value = serde_json::from_str(line).expect("a recorded line");
            let Some(expected) = recorded_refusal(&document) else { continue };
            asked += 1;
            let ours = ask(&berth.sandbox().socket(), &document["request"]);
            let key = format!("{area} {}", document["n"]);
            match listed.get(&key) {
                _ if ours == expected || is_later_work(&ours) => {}
                Some(difference) if *difference == ours => used.push(key),
                _ => wrong.push(format!("{key} {}: recorded {expected:?}, ours {ours:?}", document["shows"])),
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 120, "only {asked} recordings were asked");
    let unused: Vec<_> = listed.keys().filter(|key| !used.contains(key)).collect();
    assert!(unused.is_empty(), "listed, but no longer different: {unused:?}");
}

/// Status and message of a recording that is a refusal and needs nothing that has to be made first.
fn recorded_refusal(document: &Value) -> Option<String> {
    let (request, response) = (&document["request"], &document["response"]);
    let (path, status) = (request["path"].as_str()?, response["status"].as_u64()?);
    let absent = ["g-none", "g-nothing", "g-zzz"];
    let needs_object = path.match_indices("g-").any(|(at, _)| !absent.iter().any(|name| path[at..].starts_with(name)));
    let upgrades = request["headers"]["Connection"] == "Upgrade";
    if status < 400 || path.contains('<') || needs_object || upgrades {
        return None;
    }
    Some(outcome(status, &response["body"], request["method"] == "HEAD"))
}

fn outcome(status: u64, body: &Value, is_head: bool) -> String {
    match body["message"].as_str().filter(|_| !is_head) {
        Some(message) => format!("{status} {message}"),
        None => status.to_string(),
    }
}

fn is_later_work(ours: &str) -> bool {
    ours.starts_with("501") && (ours.contains("not there yet") || ours == "501")
}

fn ask(socket: &Path, request: &Value) -> String {
    let method = request["method"].as_str().expect("a method");
    let body = match (&request["body"], &request["body_text"]) {
        (Value::Null, Value::String(text)) => text.clone(),
        (Value::Null, _) => String::new(),
        (document, _) => document.to_string(),
    };
    let mut head =
        format!("{method} {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", request["path"].as_str().expect("a path"));
    let mut headers = request["headers"].as_object().cloned().unwrap_or_default();
    if !request["body"].is_null() {
        headers.entry("Content-Type").or_insert("application/json".into());
    }
    for (name, value) in &headers {
        head += &format!("{name}: {}\r\n", value.as_str().expect("text"));
    }
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("the daemon reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon answers");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    outcome(status, &serde_json::from_str(body).unwrap_or_default(), method == "HEAD")
}

/// `AREA NUMBER`, our answer and the reason, separated by tabs.
fn differences() -> BTreeMap<String, String> {
    let text = include_str!("recorded-differences.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let fields = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    fields.map(|fields| (fields[0].to_owned(), fields[1].to_owned())).collect()
}
