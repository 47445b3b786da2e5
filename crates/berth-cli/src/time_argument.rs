//! Times as `--since` and `--until` take them, in the form that every daemon understands (B098).

use std::time::{SystemTime, UNIX_EPOCH};

use berth_model::parse_go_duration;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Unix seconds, with a fraction where there is one: of a number as it is, a duration counted back from now, RFC 3339, or a local time.
pub(crate) fn unix_seconds(text: &str) -> Result<String, String> {
    at(text, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i128, &TimeZone::system())
}

fn at(text: &str, now_nanos: i128, zone: &TimeZone) -> Result<String, String> {
    if is_number(text) {
        return Ok(text.to_owned());
    }
    if let Ok(ago) = parse_go_duration(text.trim_start_matches('-')) {
        let ago = ago.as_nanos() as i128;
        return Ok(seconds(if text.starts_with('-') { now_nanos + ago } else { now_nanos - ago }));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds(time.as_nanosecond()));
    }
    let local =
        text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(|date| date.to_datetime(Default::default())));
    let local = local.map_err(|_| format!("failed to parse value as time or duration: {text:?}"))?;
    let zoned = local.to_zoned(zone.clone()).map_err(|error| error.to_string())?;
    Ok(seconds(zoned.timestamp().as_nanosecond()))
}

fn is_number(text: &str) -> bool {
    let mut parts = text.splitn(2, '.');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts.next().is_some_and(digits) && parts.next().is_none_or(digits)
}

fn seconds(nanos: i128) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_becomes_seconds() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = 1_000_000_000_500_000_000;
        for (text, want) in [
            ("1136073600", Some("1136073600")),
            ("1136073600.000000001", Some("1136073600.000000001")),
            ("10m", Some("999999400.500000000")),
            ("2006-01-02T15:04:05Z", Some("1136214245.000000000")),
            ("2006-01-02T15:04:05.5+01:00", Some("1136210645.500000000")),
            ("2006-01-02T15:04:05", Some("1136207045.000000000")),
            ("2006-01-02", Some("1136152800.000000000")),
            ("yesterday", None),
        ] {
            assert_eq!(at(text, now, &zone).ok().as_deref(), want, "{text}");
        }
    }
}
