//! One line of a `json-file` log, byte for byte as Docker writes it.

use std::fmt::Write as _;

/// Who escapes: Docker's own log writer or Go's `encoding/json`. They differ in how they write a few control characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Escaper {
    /// The log text: only `\n` and `\r` have short forms.
    DockerLog,
    /// The attributes: `\t`, `\b` and `\f` have them too.
    Go,
}

/// Appends one record: `{"log":TEXT,"stream":STREAM,"attrs":ATTRS,"time":TIME}` and a line break.
///
/// `attributes` is JSON already, or empty; `time` is RFC 3339 with nanoseconds.
pub fn push_record(out: &mut Vec<u8>, text: &[u8], stream: &str, attributes: &[u8], time: &str) {
    out.push(b'{');
    // Docker leaves an empty text out.
    if !text.is_empty() {
        out.extend_from_slice(b"\"log\":");
        push_string(out, text, Escaper::DockerLog);
        out.push(b',');
    }
    out.extend_from_slice(b"\"stream\":");
    push_string(out, stream.as_bytes(), Escaper::DockerLog);
    if !attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attributes);
    }
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// The attributes of a log as JSON, sorted by name; empty when there are none.
pub fn attributes<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        out.push(if out.is_empty() { b'{' } else { b',' });
        push_string(&mut out, name.as_bytes(), Escaper::Go);
        out.push(b':');
        push_string(&mut out, value.as_bytes(), Escaper::Go);
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out.shrink_to_fit();
    out
}

/// Appends a JSON string. Each byte that is no UTF-8 becomes `\ufffd`; what HTML would read is escaped.
pub fn push_string(out: &mut Vec<u8>, text: &[u8], escaper: Escaper) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        push_valid(out, chunk.valid(), escaper);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn push_valid(out: &mut Vec<u8>, text: &str, escaper: Escaper) {
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // U+2028 and U+2029 break lines in JavaScript: E2 80 A8 and E2 80 A9.
        let length = match byte {
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => 3,
            b'"' | b'\\' | b'<' | b'>' | b'&' | 0..0x20 => 1,
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..at]);
        push_escape(out, if length == 3 { 0x2000 + u32::from(bytes[at + 2]) - 0x80 } else { u32::from(byte) }, escaper);
        start = at + length;
    }
    out.extend_from_slice(&bytes[start..]);
}

fn push_escape(out: &mut Vec<u8>, character: u32, escaper: Escaper) {
    let short = match u8::try_from(character) {
        Ok(b'"') => Some(b'"'),
        Ok(b'\\') => Some(b'\\'),
        Ok(b'\n') => Some(b'n'),
        Ok(b'\r') => Some(b'r'),
        Ok(b'\t') if escaper == Escaper::Go => Some(b't'),
        Ok(0x08) if escaper == Escaper::Go => Some(b'b'),
        Ok(0x0c) if escaper == Escaper::Go => Some(b'f'),
        _ => None,
    };
    match short {
        Some(letter) => out.extend_from_slice(&[b'\\', letter]),
        None => {
            let mut digits = String::new();
            write!(digits, "\\u{character:04x}").expect("a string takes everything");
            out.extend_from_slice(digits.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record(text: &[u8], attributes: &[u8]) -> String {
        let mut out = Vec::new();
        push_record(&mut out, text, "stdout", attributes, "2024-05-01T10:00:00.12Z");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_are_docker_s() {
        let tail = r#","stream":"stdout","time":"2024-05-01T10:00:00.12Z"}"#.to_owned() + "\n";
        for (text, expected) in [
            (&b"hello\n"[..], r#""hello\n""#),
            (b"a\tb\r\x1b[0m\x7f", r#""a\u0009b\r\u001b[0m"#),
            (b"<a href=\"x\">&\\</a>", r#""\u003ca href=\"x\"\u003e\u0026\\\u003c/a\u003e""#),
            (b"\xff\xfe-\xe2\x82", r#""\ufffd\ufffd-\ufffd\ufffd""#),
            ("gr\u{fc}n \u{2028}\u{2029}\u{1f600}".as_bytes(), "\"gr\u{fc}n \\u2028\\u2029\u{1f600}\""),
        ] {
            let expected = if text.ends_with(b"\x7f") { format!("{expected}\x7f\"") } else { expected.to_owned() };
            assert_eq!(record(text, b""), format!("{{\"log\":{expected}{tail}"));
        }
        assert_eq!(record(b"", b""), format!("{{{}", &tail[1..]));
    }

    #[test]
    fn attributes_are_sorted_and_escaped_by_go() {
        let pairs = BTreeMap::from([("tag".to_owned(), "a\tb".to_owned()), ("env".to_owned(), "<x>".to_owned())]);
        assert_eq!(attributes(&pairs), br#"{"env":"\u003cx\u003e","tag":"a\tb"}"#);
        assert!(attributes(&BTreeMap::new()).is_empty());
        assert_eq!(
            record(b"x", b"{\"a\":\"b\"}"),
            "{\"log\":\"x\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"b\"},\"time\":\"2024-05-01T10:00:00.12Z\"}\n"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let line = record(&text, b"");
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let read = value["log"].as_str().unwrap_or_default();
            // One replacement character for each bad byte, as Go counts them.
            let mut expected = String::new();
            for chunk in text.utf8_chunks() {
                expected.push_str(chunk.valid());
                expected.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
            }
            prop_assert_eq!(read, expected);
        }
    }
}
