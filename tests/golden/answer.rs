//! Comparing one answer, whatever it consists of: a document, a stream of them, frames, an archive, or the bytes of an upgraded connection.

use serde_json::{Value, json};

use super::{
    compare::Comparison,
    wire::{Head, Rest},
};

/// Compares a connection that became a stream of its own.
pub(crate) fn compare_hijacked(comparison: &mut Comparison<'_>, recorded: &Value, head: &Head, rest: &Rest) {
    comparison.head(&Head::parse(recorded["raw_head"].as_str().expect("a head").to_owned()), head);
    comparison.equal("server closed", recorded["server_closed"].as_bool().unwrap_or_default(), rest.closed);
    let rest_text = recorded["rest_text"].as_str();
    let text = rest_text.or(recorded["raw_text"].as_str()).or(recorded["body_text"].as_str());
    match (recorded["raw_hex_head"].as_str(), text) {
        (Some(hex), _) if recorded["raw_text"].as_str().is_some_and(|text| text.contains('\u{fffd}')) => {
            comparison.equal("stream", hex, &hex_of(&rest.bytes));
        }
        (_, Some(text)) => comparison.text("stream", text, &String::from_utf8_lossy(&rest.bytes)),
        _ => compare_frames(comparison, &recorded["frames"], &rest.bytes),
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compare_frames(comparison: &mut Comparison<'_>, recorded: &Value, bytes: &[u8]) {
    let recorded = recorded.as_array().cloned().unwrap_or_default();
    let ours = frames(bytes);
    comparison.equal("frames", recorded.len(), ours.len());
    for (recorded, (stream, text)) in recorded.iter().zip(ours) {
        comparison.equal("frame stream", recorded["stream"].as_u64().unwrap_or_default(), stream);
        let (expected, size) =
            (recorded["text"].as_str().unwrap_or_default(), recorded["size"].as_u64().unwrap_or_default());
        // Of long texts only the beginning was recorded.
        let is_cut = expected.len() < 64 && size > 1000;
        let times = expected.contains("<TIME>");
        if !times {
            comparison.equal("frame size", size, text.len() as u64);
        }
        let ours = if is_cut { text.chars().take(expected.len() + if times { 24 } else { 0 }).collect() } else { text };
        comparison.text("frame text", expected, &ours);
    }
}

fn frames(mut bytes: &[u8]) -> Vec<(u64, String)> {
    let mut frames = Vec::new();
    while bytes.len() >= 8 {
        let size = u32::from_be_bytes(bytes[4..8].try_into().expect("four")) as usize;
        let end = (8 + size).min(bytes.len());
        frames.push((u64::from(bytes[0]), String::from_utf8_lossy(&bytes[8..end]).into_owned()));
        bytes = &bytes[end..];
    }
    frames
}

/// Compares an answer with a body.
pub(crate) fn compare_answer(comparison: &mut Comparison<'_>, recorded: &Value, head: &Head, body: &[u8]) {
    match recorded["headers"].is_null() && recorded["raw_head"].is_null() {
        true => comparison.equal("status", recorded["status"].as_u64().unwrap_or_default(), head.status),
        false => comparison.head(&recorded_head(recorded), head),
    }
    let text = String::from_utf8_lossy(body);
    let fields = recorded.as_object().expect("an object");
    let known = [
        "status",
        "status_line",
        "headers",
        "raw_head",
        "trailing_newline",
        "separator",
        "body_hex_head",
        "cut_by_client",
    ];
    let about_time = ["head_arrived_before_the_condition_was_met", "head_before_first_event", "messages"];
    for (field, expected) in
        fields.iter().filter(|(field, _)| !known.contains(&field.as_str()) && !about_time.contains(&field.as_str()))
    {
        match field.as_str() {
            "body" | "body_lists_cut_to_2" => {
                comparison.equal(
                    "newline at the end",
                    recorded["trailing_newline"].as_bool().unwrap_or(true),
                    text.ends_with('\n'),
                );
                match serde_json::from_str::<Value>(&text) {
                    Ok(ours) => comparison.json("body", expected, &ours),
                    Err(_) => comparison.differs("body", expected, &text),
                }
            }
            "body_empty" => comparison.equal("body", "", &text),
            "body_text" => comparison.text("body", expected.as_str().expect("a text"), &text),
            "body_stream" => {
                if let Some(separator) = recorded["separator"].as_str() {
                    comparison.equal("separator", separator, separator_of(&text));
                }
                comparison.json("message", expected, &json!(stream_of(&text)));
            }
            "frames" => compare_frames(comparison, expected, body),
            "tar_members" => comparison.json("tar", &in_order(expected), &in_order(&members_of(body))),
            "tar_first_members" => {
                let count = expected.as_array().map_or(0, Vec::len);
                let members = members_of(body).as_array().cloned().unwrap_or_default();
                comparison.json("tar", expected, &Value::from(members[..count.min(members.len())].to_vec()));
            }
            _ => {
                let ours = serde_json::from_str(&text).unwrap_or(Value::Null);
                comparison.json(field, expected, &part(&ours, field));
            }
        }
    }
}

fn recorded_head(recorded: &Value) -> Head {
    if let Some(raw) = recorded["raw_head"].as_str() {
        return Head::parse(raw.to_owned());
    }
    let headers = recorded["headers"].as_object().into_iter().flatten();
    Head {
        text: String::new(),
        status: recorded["status"].as_u64().unwrap_or_default(),
        status_line: recorded["status_line"].as_str().unwrap_or("HTTP/1.1 200 OK").to_owned(),
        headers: headers.map(|(name, value)| (name.clone(), text_of(value))).collect(),
    }
}

/// A header that the recorder decoded stands as the document that was in it.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compares the JSON documents of an archive.
pub(crate) fn compare_documents(
    comparison: &mut Comparison<'_>,
    recorded: &serde_json::Map<String, Value>,
    archive: &[u8],
) {
    let mut ours = Vec::new();
    let mut archive = tar::Archive::new(archive);
    for mut entry in archive.entries().into_iter().flatten().flatten() {
        let name = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
        if let Ok(document) = serde_json::from_reader::<_, Value>(&mut entry) {
            ours.push((name, document));
        }
    }
    // The index names the manifests, and these the configurations.
    let mut names = recorded.iter().collect::<Vec<_>>();
    names.sort_by_key(|(name, document)| {
        (*name != "index.json", document["manifests"].is_null(), document["config"]["digest"].is_null())
    });
    for (name, document) in names {
        match ours.iter().find(|(ours, _)| comparison.is_named(name, ours)) {
            Some((_, ours)) => comparison.json(name, document, ours),
            None => comparison.differs(name, "present", "absent"),
        }
    }
}

/// The part of a body that was recorded under a name of its own.
fn part(body: &Value, field: &str) -> Value {
    let list = body.as_array();
    let of_each = |part: fn(&Value) -> Value| Value::from(list.into_iter().flatten().map(part).collect::<Vec<_>>());
    match (field, list) {
        ("count", Some(list)) => list.len().into(),
        ("RepoTags", Some(_)) => of_each(|image| image["RepoTags"].clone()),
        ("names", Some(list)) if list.first().is_some_and(|entry| entry["Names"].is_null()) => {
            let mut names = list.iter().map(|entry| entry["Name"].clone()).collect::<Vec<_>>();
            names.sort_by_key(ToString::to_string);
            names.into()
        }
        ("names", Some(_)) => of_each(|container| container["Names"][0].clone()),
        (_, Some(list)) => list.first().map(|entry| entry[field].clone()).unwrap_or_default(),
        ("NetworkMode" | "VolumesFrom", None) => body["HostConfig"][field].clone(),
        ("Hostname", None) => body["Config"][field].clone(),
        ("ConfigImage", None) => body["Config"]["Image"].clone(),
        (_, None) => body[field].clone(),
    }
}

fn separator_of(text: &str) -> &'static str {
    match text {
        _ if text.starts_with('\u{1e}') => "RS..\\n",
        _ if text.ends_with("\r\n") => "\\r\\n",
        _ => "\\n",
    }
}

fn stream_of(text: &str) -> Vec<Value> {
    let messages = text.split(['\n', '\u{1e}']).map(str::trim).filter(|message| !message.is_empty());
    messages.map(|message| serde_json::from_str(message).unwrap_or_else(|_| message.into())).collect()
}

/// Blobs are ordered by their digests, and these are others here.
fn in_order(members: &Value) -> Value {
    let mut members = members.as_array().cloned().unwrap_or_default();
    for member in &mut members {
        if member["name"].as_str().is_some_and(|name| name.starts_with("blobs/sha256/")) {
            member["name"] = "a blob".into();
        }
    }
    members.sort_by_key(|member| member["name"].to_string());
    members.into()
}

fn members_of(archive: &[u8]) -> Value {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().into_iter().flatten().flatten();
    let members = entries.map(|entry| {
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            _ => "file",
        };
        let name = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
        let text = |text: Result<Option<&str>, _>| text.ok().flatten().unwrap_or_default().to_owned();
        let mut member = json!({
            "name": name.trim_end_matches('/'),
            "type": kind,
            "mode": format!("0o{:o}", header.mode().unwrap_or_default() & 0o7777),
            "uid": header.uid().unwrap_or_default(),
            "gid": header.gid().unwrap_or_default(),
            "uname": text(header.username()),
            "gname": text(header.groupname()),
        });
        if kind == "file" {
            member["size"] = header.size().unwrap_or_default().into();
        }
        if let Ok(Some(link)) = header.link_name() {
            member["link"] = link.display().to_string().into();
        }
        member
    });
    members.collect()
}
