//! Every recorded create request goes through the translation: what the reference engine refused must be refused here in the
//! same words, what it took must be taken. Refusals that need other objects, and deliberate differences, stand in
//! `create-differences.txt`, each with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use berth_api::container_config::CreateRequest;
use serde_json::Value;

use crate::host_facts::{CpuList, HostFacts};
use crate::http::body;
use crate::http::error::ApiError;
use crate::http::query::Query;
use crate::http::version::ApiVersion;
use crate::translate::create::{self, Checked, Named};

/// The machine that the recordings were made on.
fn recorded_host() -> HostFacts {
    HostFacts {
        processors: 2,
        online_processors: CpuList::parse("0-1").expect("list"),
        memory_nodes: CpuList::parse("0").expect("list"),
        memory: 25_276_502_016,
        swap_limit: true,
        blkio_weight: false,
        oom_kill_disable: true,
        pids_limit: true,
        realtime: false,
    }
}

#[test]
fn recorded_create_requests_are_judged_as_they_were() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/containers-create.jsonl");
    let text = std::fs::read_to_string(path).expect("recordings");
    let differences = differences();
    let (mut compared, mut wrong, mut used) = (0, Vec::new(), Vec::new());
    for line in text.lines() {
        let document: Value = serde_json::from_str(line).expect("line");
        let (request, response) = (&document["request"], &document["response"]);
        let target = request["path"].as_str().unwrap_or_default();
        if request["method"] != "POST" || !target.contains("/containers/create") {
            continue;
        }
        compared += 1;
        let shows = document["shows"].as_str().unwrap_or_default();
        let expected = match response["status"].as_u64() {
            Some(201) => "201".to_owned(),
            status => format!("{} {}", status.unwrap_or(0), response["body"]["message"].as_str().unwrap_or_default()),
        };
        let ours = match judge(target, &request["body"]) {
            Ok(_) => "201".to_owned(),
            Err(error) => format!("{} {}", error.status().as_u16(), error.message),
        };
        match differences.get(shows) {
            _ if ours == expected => {}
            Some(listed) if *listed == ours => used.push(shows.to_owned()),
            _ => wrong.push(format!("{shows}: recorded {expected:?}, here {ours:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 100, "only {compared} requests were compared");
    let unused: Vec<_> = differences.keys().filter(|shows| !used.contains(*shows)).collect();
    assert!(unused.is_empty(), "listed, but no longer different: {unused:?}");
}

fn judge(target: &str, wire: &Value) -> Result<Checked, ApiError> {
    let query = Query::parse(target.split_once('?').map(|(_, query)| query).unwrap_or_default());
    let minor = target.strip_prefix("/v1.").and_then(|rest| rest.split('/').next()?.parse().ok()).unwrap_or(56);
    let named = Named { name: query.text("name"), platform: query.text("platform"), version: ApiVersion::v1(minor) };
    let request: CreateRequest = body::parse(wire.to_string().replace("<TMP>", "/tmp").as_bytes())?;
    create::from_wire(request, &named, &recorded_host())
}

/// What is judged differently here: the recording's title, our answer, the reason; separated by tabs.
fn differences() -> BTreeMap<String, String> {
    let text = include_str!("create-differences.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let fields = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    fields.map(|fields| (fields[0].to_owned(), fields[1].to_owned())).collect()
}
