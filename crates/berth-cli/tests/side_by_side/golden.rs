//! Documents of the recorded exchanges, with real values in the place of what the recording made anonymous.

use std::path::Path;

use serde_json::Value;

/// The body of the answer number `n` in a file of `tests/golden`.
pub fn body(file: &str, n: u64) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a document a line"));
    let mut found =
        documents.into_iter().find(|document| document["n"] == n).unwrap_or_else(|| panic!("{file}: no document {n}"));
    let mut body = found["response"]["body"].take();
    fill(&mut body);
    body
}

fn fill(value: &mut Value) {
    match value {
        Value::String(text) => match text.as_str() {
            "<INT:time>" => *value = 1_714_557_600.into(),
            "<INT:timeNano>" => *value = 1_714_557_600_123_456_789_i64.into(),
            "<INT:pid>" => *value = 4242.into(),
            _ => *text = filled(text),
        },
        Value::Array(items) => items.iter_mut().for_each(fill),
        Value::Object(entries) => {
            let old = std::mem::take(entries);
            for (key, mut item) in old {
                fill(&mut item);
                entries.insert(filled(&key), item);
            }
        }
        _ => {}
    }
}

/// Replaces `<ID:x>`, `<SID:x>`, `<TIME>` and other marks.
fn filled(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let Some((mark, after)) = after.split_once('>') else {
            out.push('<');
            rest = after;
            continue;
        };
        match mark.split_once(':') {
            Some(("ID", name)) => out.push_str(&digits(name, 64)),
            Some(("SID", name)) => out.push_str(&digits(name, 12)),
            _ if mark == "TIME" => out.push_str("2024-05-01T10:00:00.123456789Z"),
            _ if mark == "none" || mark == "missing" => out.push_str(&format!("<{mark}>")),
            _ => out.push_str(&mark.to_lowercase()),
        }
        rest = after;
    }
    out + rest
}

/// Hexadecimal digits that depend on the name only.
fn digits(name: &str, count: usize) -> String {
    let mut state = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut out = String::new();
    while out.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.push_str(&format!("{:08x}", state >> 32));
    }
    out.truncate(count);
    out
}
