//! Records of a PAX extended header: `length key=value\n`.
//!
//! Read here and not by the `tar` crate, because that one ends a value at its first line feed, and extended attributes
//! (`security.capability`, access control lists) are binary.

use base64::Engine as _;

use crate::member::Time;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// Splits a header's data into its records.
pub(crate) fn records(mut data: &[u8]) -> Result<Vec<Record>, &'static str> {
    let mut records = Vec::new();
    // Some writers fill the last block with NUL bytes and count them.
    while !data.is_empty() && data[0] != 0 {
        let space = data.iter().take(20).position(|b| *b == b' ').ok_or("a PAX record has no length")?;
        let length: usize = number(&data[..space]).ok_or("a PAX record's length is no number")?;
        if length > data.len() || length < space + 4 || data[length - 1] != b'\n' {
            return Err("a PAX record's length is wrong");
        }
        let body = &data[space + 1..length - 1];
        let equals = body.iter().position(|b| *b == b'=').ok_or("a PAX record has no value")?;
        records.push(Record { key: body[..equals].to_vec(), value: body[equals + 1..].to_vec() });
        data = &data[length..];
    }
    Ok(records)
}

/// Appends a record to the data of a header.
pub(crate) fn append(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    data.extend_from_slice(length.to_string().as_bytes());
    data.push(b' ');
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

/// A decimal number.
pub(crate) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text).ok()?;
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// A time, `-1.5` or `1700000000.123456789`.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = if whole.is_empty() || whole == "-" { 0 } else { whole.parse().ok()? };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let kept = &fraction[..fraction.len().min(9)];
    let nanos: u32 = if kept.is_empty() { 0 } else { kept.parse::<u32>().ok()? * 10_u32.pow(9 - kept.len() as u32) };
    if text.starts_with('-') && nanos > 0 {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Time { seconds, nanos })
}

/// An extended attribute, in the form of GNU tar and star, or of libarchive.
pub(crate) fn xattr(record: &Record) -> Option<(Vec<u8>, Vec<u8>)> {
    if let Some(name) = record.key.strip_prefix(b"SCHILY.xattr.") {
        return Some((name.to_vec(), record.value.clone()));
    }
    let name = record.key.strip_prefix(b"LIBARCHIVE.xattr.")?;
    let engine = base64::engine::general_purpose::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    Some((percent_decoded(name), engine.decode(&record.value).ok()?))
}

fn percent_decoded(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        if let (b'%', Some(high), Some(low)) =
            (first, tail.first().copied().and_then(hex), tail.get(1).copied().and_then(hex))
        {
            out.push(high << 4 | low);
            rest = &tail[2..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_any_byte() {
        let mut data = Vec::new();
        append(&mut data, b"SCHILY.xattr.security.capability", b"\x01\n\x00=\n");
        append(&mut data, b"path", "ä\n".repeat(60).as_bytes());
        let records = records(&data).expect("records");
        assert_eq!(xattr(&records[0]), Some((b"security.capability".to_vec(), b"\x01\n\x00=\n".to_vec())));
        assert_eq!(records[1].value.len(), 180);
    }

    #[test]
    fn damaged_records_are_refused() {
        for bad in ["x", "5 a=b", "99 a=b\n", "4 a\n", "7 a=b\n", "00000000000000000000000 a=b\n", "-6 a=b\n", "3 =\n"]
        {
            assert!(records(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(records(b"6 a=b\n").expect("whole").len(), 1);
        assert_eq!(records(b"7 a=bc\n\0\0\0").expect("padded").len(), 1);
    }

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("-1.25", -2, 750_000_000),
            ("-3", -3, 0),
            ("7.1234567899", 7, 123_456_789),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { seconds, nanos }), "{text}");
        }
        assert_eq!(time(b"x"), None);
        assert_eq!(time(b"1.x"), None);
    }
}
