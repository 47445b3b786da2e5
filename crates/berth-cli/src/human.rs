//! What people read in the columns of a list: short ids, ages, times of their zone, ports, shortened text.
//!
//! Sizes and durations themselves are words of [`berth_model`]. Follows B082 to B086.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use berth_api::container::PortSummary;
use berth_model::{ImageRef, human_duration};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthChar;

/// The first twelve digits of an id, without the name of its algorithm.
pub fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// Cuts `text` to `width` columns of a terminal, the last one being `…` if something was cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    let columns = |c: char| c.width().unwrap_or(1).max(1);
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let kept = text.chars().take_while(|c| {
        used += columns(*c);
        used < width
    });
    let mut out: String = kept.collect();
    out.push('…');
    out
}

/// `3 minutes ago`, of a time in seconds since 1970.
pub fn ago(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = std::time::Duration::from_secs(seconds.try_into().unwrap_or_default());
    human_duration(now.saturating_sub(then)) + " ago"
}

/// `2024-05-01 10:00:00 +0000 UTC`, in the zone of this machine.
pub fn local_time(seconds: i64) -> String {
    local(seconds, 0, "%Y-%m-%d %H:%M:%S %z %Z")
}

/// `2024-05-01T10:00:00Z`, in the zone of this machine.
pub fn local_rfc3339(seconds: i64) -> String {
    zulu(local(seconds, 0, "%Y-%m-%dT%H:%M:%S%:z"))
}

/// `2024-05-01T10:00:00.000000000Z`, in the zone of this machine.
pub fn local_nanos(seconds: i64, nanos: u32) -> String {
    zulu(local(seconds, nanos, "%Y-%m-%dT%H:%M:%S.%9f%:z"))
}

fn local(seconds: i64, nanos: u32, format: &str) -> String {
    let nanos = i32::try_from(nanos).unwrap_or_default();
    match Timestamp::new(seconds, nanos) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime(format).to_string(),
        Err(_) => seconds.to_string(),
    }
}

fn zulu(text: String) -> String {
    text.strip_suffix("+00:00").map(|time| format!("{time}Z")).unwrap_or(text)
}

/// An RFC 3339 time of the daemon as Go prints times: `2024-05-01 10:00:00.123 +0000 UTC`.
pub fn go_time(rfc3339: &str) -> String {
    if rfc3339.is_empty() || rfc3339.starts_with("0001-01-01T00:00:00") {
        return "0001-01-01 00:00:00 +0000 UTC".to_owned();
    }
    let Ok(time) = rfc3339.parse::<Timestamp>() else { return rfc3339.to_owned() };
    let digits = format!("{:09}", time.subsec_nanosecond());
    let fraction = digits.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    // Go keeps an offset as written, without a name unless it is the zone of this machine.
    let (zone, name) = match rfc3339.rsplit_once(['+', '-']).filter(|(date, _)| date.contains('T')) {
        None => (TimeZone::UTC, "+0000 UTC".to_owned()),
        Some((_, offset)) => {
            let sign = if rfc3339.ends_with(&format!("-{offset}")) { '-' } else { '+' };
            let zone =
                rfc3339.parse::<jiff::Zoned>().map_or_else(|_| offset_zone(sign, offset), |z| z.time_zone().clone());
            let compact = format!("{sign}{}", offset.replace(':', ""));
            (zone, format!("{compact} {compact}"))
        }
    };
    format!("{}{dot}{fraction} {name}", time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S"))
}

fn offset_zone(sign: char, offset: &str) -> TimeZone {
    let (hours, minutes) = offset.split_once(':').unwrap_or((offset, "0"));
    let seconds = hours.parse::<i32>().unwrap_or_default() * 3600 + minutes.parse::<i32>().unwrap_or_default() * 60;
    let seconds = if sign == '-' { -seconds } else { seconds };
    jiff::tz::Offset::from_seconds(seconds).map_or(TimeZone::UTC, TimeZone::fixed)
}

/// `a=1,b=2`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let mut pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// The reference of a container's image as `ps` shows it: familiar, without a digest, and with a tag only if it has one.
pub fn image_name(reference: &str) -> String {
    if !reference.contains(['/', ':', '@']) {
        return reference.to_owned();
    }
    let Ok(parsed) = reference.parse::<ImageRef>() else { return reference.to_owned() };
    match parsed.tag() {
        Some(tag) if reference.split('@').next().is_some_and(|name| name.ends_with(&format!(":{tag}"))) => {
            format!("{}:{tag}", parsed.familiar_repository())
        }
        _ => parsed.familiar_repository(),
    }
}

/// Whether a reference names a repository only: no tag, no digest.
pub fn is_name_only(reference: &str) -> bool {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    !last.contains([':', '@'])
}

/// The words of the operating system for an error, as Go writes them: `no such file or directory`.
pub fn system_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = words.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// The ports of a container in one line, neighbouring ones joined (B086).
pub fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(b.private_port, &b.ip, b.public_port, &b.kind))
    });
    let mut open: Vec<PortRun<'_>> = Vec::new();
    let mut closed = Vec::new();
    let mut mapped = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            mapped.push(format!(
                "{}->{}/{}",
                host_port(&port.ip, &port.public_port.to_string()),
                port.private_port,
                port.kind
            ));
            continue;
        }
        let run = PortRun { ip: &port.ip, kind: &port.kind, first: port.private_port, last: port.private_port };
        match open.iter_mut().find(|known| known.ip == run.ip && known.kind == run.kind) {
            None => open.push(run),
            Some(known) if known.last.checked_add(1) == Some(run.first) => known.last = run.first,
            Some(known) => closed.push(std::mem::replace(known, run).to_string()),
        }
    }
    closed.extend(open.iter().map(ToString::to_string));
    closed.extend(mapped);
    closed.join(", ")
}

/// Ports in a row, published under their own numbers on `ip`, or only exposed.
struct PortRun<'a> {
    ip: &'a str,
    kind: &'a str,
    first: u16,
    last: u16,
}

impl std::fmt::Display for PortRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let range =
            if self.first == self.last { self.first.to_string() } else { format!("{}-{}", self.first, self.last) };
        if self.ip.is_empty() {
            return write!(f, "{range}/{}", self.kind);
        }
        write!(f, "{}->{range}/{}", host_port(self.ip, &range), self.kind)
    }
}

/// `127.0.0.1:80`, `[::1]:80`.
pub fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Orders names as people do: `a2` before `a10`.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let (Some(&l), Some(&r)) = (left.first(), right.first()) {
        if l.is_ascii_digit() && r.is_ascii_digit() {
            let (x, rest_left) = number(left);
            let (y, rest_right) = number(right);
            match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                Ordering::Equal => (left, right) = (rest_left, rest_right),
                unequal => return unequal,
            }
        } else if l == r {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return l.cmp(&r);
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.len().cmp(&b.len()))
}

/// The digits at the head of `text` without leading zeros, and what follows them.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let zeros = text[..end].iter().position(|b| *b != b'0').unwrap_or(end);
    (&text[zeros..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: u16, kind: &str) -> PortSummary {
        PortSummary { ip: ip.into(), private_port: private, public_port: public, kind: kind.into() }
    }

    #[test]
    fn neighbouring_ports_are_joined_and_mapped_ones_follow() {
        let check = |list: &[PortSummary], want: &str| assert_eq!(ports(list), want);
        check(&[], "");
        check(&[port("", 80, 0, "tcp")], "80/tcp");
        check(&[port("", 81, 0, "tcp"), port("", 80, 0, "tcp"), port("", 90, 0, "tcp")], "80-81/tcp, 90/tcp");
        check(
            &[port("0.0.0.0", 80, 8080, "tcp"), port("::", 80, 8080, "tcp")],
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        );
        check(
            &[
                port("0.0.0.0", 80, 80, "tcp"),
                port("0.0.0.0", 81, 81, "tcp"),
                port("::", 80, 80, "tcp"),
                port("", 53, 0, "udp"),
            ],
            "53/udp, 0.0.0.0:80-81->80-81/tcp, [::]:80->80/tcp",
        );
    }

    #[test]
    fn long_text_ends_in_an_ellipsis_within_its_width() {
        assert_eq!(ellipsis("short", 20), "short");
        assert_eq!(ellipsis("sh -c 'echo one; echo two >&2'", 20), "sh -c 'echo one; ec…");
        assert_eq!(ellipsis("漢字漢字漢字", 7), "漢字漢…");
        assert_eq!(ellipsis("漢字漢字漢字", 12), "漢字漢字漢字");
    }

    #[test]
    fn names_with_numbers_are_ordered_by_the_numbers() {
        let mut names = ["v10", "v2", "a", "v02", "v1b", "v1a"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["a", "v1a", "v1b", "v2", "v02", "v10"]);
    }

    #[test]
    fn times_are_printed_as_go_prints_them() {
        assert_eq!(go_time("2024-05-01T10:00:00.12Z"), "2024-05-01 10:00:00.12 +0000 UTC");
        assert_eq!(go_time("2024-05-01T10:00:00+02:00"), "2024-05-01 10:00:00 +0200 +0200");
        assert_eq!(go_time("0001-01-01T00:00:00Z"), "0001-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn ids_lose_their_algorithm_and_most_digits() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("short"), "short");
    }
}
