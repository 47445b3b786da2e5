//! Every recorded answer whose document has a type here is read and written again, and must come out the same.
//!
//! The recordings and their conventions are described in `tests/golden/README.md` of the workspace. What deliberately
//! does not survive the round trip stands in `tests/differences.txt` beside this file, each line with its reason.

use std::collections::BTreeSet;
use std::path::Path;

use berth_api::{container, container_config, disk_usage, error, event, exec, image, network, progress, stats};
use berth_api::{system, volume};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[test]
fn recorded_documents_survive_a_round_trip() {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")).expect("recordings")
    {
        let path = file.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = std::fs::read_to_string(&path).expect("text");
            for line in text.lines() {
                check_document(&serde_json::from_str(line).expect("recorded line"), &mut seen, &mut wrong);
            }
        }
    }
    let allowed = differences();
    let mut unexpected: Vec<_> = wrong.iter().filter(|(key, _)| !allowed.contains(key)).collect();
    unexpected.sort();
    unexpected.dedup_by_key(|(key, _)| key.clone());
    let unexpected: Vec<_> = unexpected.into_iter().map(|(_, text)| text).collect();
    assert!(unexpected.is_empty(), "{} differences:\n{}", unexpected.len(), join(&unexpected));
    let unused: Vec<_> = allowed.iter().filter(|key| !wrong.iter().any(|(found, _)| found == *key)).collect();
    assert!(unused.is_empty(), "differences that are listed but no longer there: {unused:?}");
    assert!(seen.len() >= 20, "only these documents were compared: {seen:?}");
}

/// The listed differences, `DOCUMENT path`.
fn differences() -> BTreeSet<String> {
    let text = include_str!("differences.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split("  ").next().unwrap_or_default().to_owned()).collect()
}

fn join(texts: &[&String]) -> String {
    texts.iter().take(150).map(|text| text.as_str()).collect::<Vec<_>>().join("\n")
}

fn check_document(document: &Value, seen: &mut BTreeSet<&'static str>, wrong: &mut Vec<(String, String)>) {
    let response = &document["response"];
    let (Some(method), Some(path)) = (document["request"]["method"].as_str(), document["request"]["path"].as_str())
    else {
        return;
    };
    let status = response["status"].as_u64().unwrap_or_default();
    let era = if is_legacy(path) { "before 1.52: " } else { "" };
    let label = format!("{} {}", document["area"].as_str().unwrap_or_default(), document["n"]);
    let bodies: Vec<&Value> = match (&response["body"], &response["body_stream"], &response["body_lists_cut_to_2"]) {
        (Value::Null, Value::Array(messages), _) => messages.iter().collect(),
        (Value::Null, _, Value::Null) => return,
        (Value::Null, _, cut) => vec![cut],
        (body, ..) => vec![body],
    };
    for body in bodies {
        let body = with_numbers(body);
        let Some((name, result)) = round_trip(method, path, status, &body) else { continue };
        seen.insert(name);
        match result {
            Err(error) => wrong.push((format!("{era}{name} unreadable"), format!("{label}: {name}: {error}"))),
            Ok(again) => compare(&format!("{era}{name}"), "", &body, &again, &mut |key, what| {
                wrong.push((key.clone(), format!("{label}: {key}: {what}")));
            }),
        }
    }
}

/// Whether a path names a version whose documents differ: they were reworked in 1.52.
fn is_legacy(path: &str) -> bool {
    let minor = path.strip_prefix("/v1.").and_then(|rest| rest.split('/').next()).and_then(|minor| minor.parse().ok());
    minor.is_some_and(|minor: u32| minor < 52)
}

/// Puts a number where the recording put a placeholder for one.
fn with_numbers(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("<INT:") => Value::from(7),
        Value::Array(items) => items.iter().map(with_numbers).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), with_numbers(value))).collect(),
        other => other.clone(),
    }
}

type RoundTrip = Option<(&'static str, Result<Value, serde_json::Error>)>;

fn again<T: Serialize + DeserializeOwned>(name: &'static str, body: &Value) -> RoundTrip {
    // Through text, as on the wire: a tree of values would hide what a real reader refuses.
    let text = body.to_string();
    Some((name, serde_json::from_str::<T>(&text).and_then(|typed| serde_json::to_value(typed))))
}

fn round_trip(method: &str, path: &str, status: u64, body: &Value) -> RoundTrip {
    let path = path.split('?').next().unwrap_or_default();
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.first().is_some_and(|first| first.starts_with("v1.")) {
        segments.remove(0);
    }
    if status >= 400 {
        return again::<error::ErrorResponse>("ErrorResponse", body);
    }
    match (method, segments.as_slice()) {
        ("GET", ["containers", "json"]) => again::<Vec<container::ContainerSummary>>("ContainerSummary", body),
        ("POST", ["containers", "create"]) => again::<container_config::CreateResponse>("CreateResponse", body),
        ("POST", ["containers", "prune"]) => again::<container::PruneResponse>("ContainerPrune", body),
        ("GET", ["containers", _, "json"]) => again::<container::ContainerInspect>("ContainerInspect", body),
        ("GET", ["containers", _, "top"]) => again::<container::Top>("Top", body),
        ("GET", ["containers", _, "changes"]) => again::<Option<Vec<container::FilesystemChange>>>("Changes", body),
        ("GET", ["containers", _, "stats"]) => again::<stats::Stats>("Stats", body),
        ("POST", ["containers", _, "wait"]) => again::<container::WaitResponse>("WaitResponse", body),
        ("POST", ["containers", _, "update"]) => again::<container::UpdateResponse>("UpdateResponse", body),
        ("POST", ["containers", _, "exec"]) => again::<error::IdResponse>("IdResponse", body),
        ("GET", ["exec", _, "json"]) => again::<exec::ExecInspect>("ExecInspect", body),
        ("GET", ["images", "json"]) => again::<Vec<image::ImageSummary>>("ImageSummary", body),
        ("GET", ["images", .., "json"]) => again::<image::ImageInspect>("ImageInspect", body),
        ("GET", ["images", .., "history"]) => again::<Vec<image::HistoryItem>>("History", body),
        ("DELETE", ["images", ..]) => again::<Vec<image::DeleteItem>>("ImageDelete", body),
        ("POST", ["images", "prune"]) => again::<image::PruneResponse>("ImagePrune", body),
        ("POST", ["images", "load" | "create"] | ["images", .., "push"]) => {
            again::<progress::ProgressMessage>("ProgressMessage", body)
        }
        ("GET", ["volumes"]) => again::<volume::ListResponse>("VolumeList", body),
        ("POST", ["volumes", "prune"]) => again::<volume::PruneResponse>("VolumePrune", body),
        ("POST", ["volumes", "create"]) | ("GET", ["volumes", _]) => again::<volume::Volume>("Volume", body),
        ("GET", ["networks"]) => again::<Vec<network::Network>>("NetworkSummary", body),
        ("GET", ["networks", _]) => again::<network::Network>("NetworkInspect", body),
        ("POST", ["networks", "create"]) => again::<network::CreateResponse>("NetworkCreate", body),
        ("POST", ["networks", "prune"]) => again::<network::PruneResponse>("NetworkPrune", body),
        ("GET", ["info"]) => again::<system::Info>("Info", body),
        ("GET", ["version"]) => again::<system::Version>("Version", body),
        ("GET", ["system", "df"]) => again::<disk_usage::DiskUsage>("DiskUsage", body),
        ("GET", ["events"]) => again::<event::Event>("Event", body),
        _ => None,
    }
}

fn compare(name: &str, at: &str, recorded: &Value, ours: &Value, report: &mut dyn FnMut(String, String)) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                let at = format!("{at}.{}", generic(at, key));
                match ours.get(key) {
                    Some(other) => compare(name, &at, value, other, report),
                    None => report(format!("{name} lost {at}"), value.to_string()),
                }
            }
            for (key, value) in ours.iter().filter(|(key, _)| !recorded.contains_key(*key)) {
                report(format!("{name} added {at}.{}", generic(at, key)), value.to_string());
            }
        }
        (Value::Array(recorded), Value::Array(ours)) if recorded.len() == ours.len() => {
            for (value, other) in recorded.iter().zip(ours) {
                compare(name, at, value, other, report);
            }
        }
        (recorded, ours) if recorded == ours => {}
        (recorded, ours) => report(format!("{name} changed {at}"), format!("{recorded} became {ours}")),
    }
}

/// Keys of maps by name are written as `*`, so that one line of the list covers all of them.
fn generic<'a>(at: &str, key: &'a str) -> &'a str {
    let maps = [".Networks", ".Ports", ".Runtimes", ".IndexConfigs", ".stats", ".Subnets", ".Containers"];
    if maps.iter().any(|map| at.ends_with(map)) && !at.is_empty() && !at.starts_with(".Plugins") { "*" } else { key }
}
