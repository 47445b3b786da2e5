//! Times in requests: seconds with a fraction, dates, and durations that count back from now (B098).

use std::time::SystemTime;

use berth_model::{Timestamp, parse_go_duration};

use crate::http::error::ApiError;

/// The present moment.
pub fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Reads `SECONDS[.NANOSECONDS]`. The reason of a refusal is in the words of the reference engine.
pub fn seconds(text: &str) -> Result<Timestamp, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().map_err(|_| format!("invalid seconds {whole:?}: invalid syntax"))?;
    if fraction.is_empty() {
        return Ok(Timestamp::from_parts(whole, 0));
    }
    let digits = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanos = if digits { format!("{fraction:0<9}").parse().ok() } else { None };
    let nanos: u32 = nanos.ok_or_else(|| format!("invalid nanoseconds {fraction:?}: invalid syntax"))?;
    Ok(Timestamp::from_parts(whole, nanos))
}

/// Reads a moment that a prune filter gives: seconds, RFC 3339, a date, or a duration before now.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    if let Ok(duration) = parse_go_duration(text) {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_nanos(now.nanos().saturating_sub(nanos)));
    }
    if let Some(at) = date(text) {
        return Ok(at);
    }
    seconds(text).map_err(|reason| ApiError::invalid(format!("failed to parse value as time or duration: {reason}")))
}

/// RFC 3339, or a prefix of it in UTC: `2006-01-02`, `2006-01-02T15:04`, `2006-01-02T15:04:05`.
fn date(text: &str) -> Option<Timestamp> {
    let missing = match text.len() {
        10 => "T00:00:00Z",
        13 => ":00:00Z",
        16 => ":00Z",
        19 => "Z",
        _ => "",
    };
    text.parse().or_else(|_| format!("{text}{missing}").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_a_fraction_of_at_most_nine_digits() {
        assert_eq!(seconds("12"), Ok(Timestamp::from_parts(12, 0)));
        assert_eq!(seconds("12.5"), Ok(Timestamp::from_parts(12, 500_000_000)));
        assert_eq!(seconds("1795303079.030082464"), Ok(Timestamp::from_parts(1_795_303_079, 30_082_464)));
        assert_eq!(seconds("x"), Err("invalid seconds \"x\": invalid syntax".to_owned()));
        assert!(seconds("1.0000000001").is_err());
    }

    #[test]
    fn moments_are_dates_or_count_back() {
        let now = Timestamp::from_parts(10_000, 0);
        assert_eq!(moment("1h", now).ok(), Some(Timestamp::from_parts(6_400, 0)));
        assert_eq!(moment("1970-01-02", now).ok(), Some(Timestamp::from_parts(86_400, 0)));
        assert_eq!(moment("1970-01-01T00:01", now).ok(), Some(Timestamp::from_parts(60, 0)));
        assert_eq!(moment("1970-01-01T01:00:00+01:00", now).ok(), Some(Timestamp::from_parts(0, 0)));
        assert_eq!(
            moment("zz", now).expect_err("no moment").message,
            "failed to parse value as time or duration: invalid seconds \"zz\": invalid syntax"
        );
    }
}
