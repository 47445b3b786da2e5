//! Values of single flags: each function is the parser of one flag and gives docker's text for what it refuses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_api::host_config::{DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};
use berth_model::{ByteSize, parse_go_duration};

use super::csv;

/// A stream that a client attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

pub(super) fn stream(text: &str) -> Result<Stream, String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// A size in bytes with a binary unit: `1.5g`.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let last_digit = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(last_digit + 1);
    let known = matches!(suffix.to_ascii_lowercase().as_bytes(), [] | [b'b'] | [b'k' | b'm' | b'g' | b't' | b'p'])
        || matches!(suffix.to_ascii_lowercase().as_bytes(), [b'k' | b'm' | b'g' | b't' | b'p', b'b'])
        || matches!(suffix.to_ascii_lowercase().as_bytes(), [b'k' | b'm' | b'g' | b't' | b'p', b'i', b'b']);
    if !known {
        return Err(format!("invalid suffix: '{suffix}'"));
    }
    match number.trim_end_matches(' ').parse::<f64>() {
        Err(_) => {
            return Err(format!("strconv.ParseFloat: parsing \"{}\": invalid syntax", number.trim_end_matches(' ')));
        }
        Ok(number) if number < 0.0 => return Err(invalid()),
        Ok(_) => {}
    }
    let size: ByteSize = text.parse().map_err(|_| invalid())?;
    i64::try_from(size.bytes()).map_err(|_| invalid())
}

/// A size, or -1 for no limit.
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// A rate in bits a second with a decimal unit, as tc(8) has it: `10mbit`; 0 is without limit.
pub(crate) fn bit_rate(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid rate: '{text}': a number and bit, kbit, mbit or gbit, as in 10mbit");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "bit" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => return Err(invalid()),
    };
    let rate = number.parse::<f64>().map_err(|_| invalid())? * factor;
    if rate != 0.0 && !(8.0..=1e15).contains(&rate) { Err(invalid()) } else { Ok(rate as u64) }
}

/// How long packets wait, in nanoseconds: `20ms`; 0 is not at all.
pub(crate) fn delay(text: &str) -> Result<u64, String> {
    u64::try_from(duration(text)?).map_err(|_| format!("invalid delay: '{text}': it cannot be negative"))
}

/// How many of a million packets are lost, from a percentage: `0.5%`; 0 is none.
pub(crate) fn loss(text: &str) -> Result<u32, String> {
    let invalid = || format!("invalid loss: '{text}': a percentage from 0 to 100, as in 0.5%");
    let percent: f64 = text.strip_suffix('%').unwrap_or(text).parse().map_err(|_| invalid())?;
    if (0.0..=100.0).contains(&percent) { Ok((percent * 1e4).round() as u32) } else { Err(invalid()) }
}

/// A duration in nanoseconds; negative ones are refused later, by name of the flag.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let (sign, length) = match text.strip_prefix('-') {
        Some(length) => (-1, length),
        None => (1, text),
    };
    let duration = parse_go_duration(length).map_err(|_| format!("time: invalid duration \"{text}\""))?;
    i64::try_from(duration.as_nanos())
        .map(|nanos| sign * nanos)
        .map_err(|_| format!("time: invalid duration \"{text}\""))
}

/// A number of processors in units of 10^-9: `1.5`, or a fraction.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    const UNIT: i128 = 1_000_000_000;
    let rational = parse_rational(text).ok_or_else(|| format!("failed to parse {text} as a rational number"))?;
    let (numerator, denominator) = rational;
    let scaled = numerator.checked_mul(UNIT).ok_or("value is too large")?;
    if scaled % denominator != 0 {
        return Err("value is too precise".to_owned());
    }
    i64::try_from(scaled / denominator).map_err(|_| "value is too large".to_owned())
}

/// `a/b`, or a decimal number, as numerator and denominator.
fn parse_rational(text: &str) -> Option<(i128, i128)> {
    if let Some((numerator, denominator)) = text.split_once('/') {
        return Some((numerator.parse().ok()?, denominator.parse().ok().filter(|d| *d > 0)?));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['-', '+']));
    if digits.is_empty() || digits.len() > 25 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let numerator: i128 = digits.parse().ok()?;
    Some((if negative { -numerator } else { numerator }, 10_i128.pow(u32::try_from(fraction.len()).ok()?)))
}

/// `NAME=value`, or `NAME` alone, which takes the client's value or stays as it is for the daemon to drop.
pub(crate) fn environment(text: &str) -> Result<String, String> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(std::env::var(name).map_or_else(|_| text.to_owned(), |value| format!("{name}={value}")))
}

pub(super) fn label(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid label '{text}': empty name")),
        Some(_) => Ok(text.to_owned()),
    }
}

/// `name:address` or `name=address`; becomes `name:address`, an IPv6 address without brackets.
pub(super) fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: \"{text}\"");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() || address.is_empty() {
        return Err(bad());
    }
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: \"{address}\""));
    }
    Ok(format!("{name}:{bare}"))
}

pub(super) fn ip_address(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

pub(super) fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv4 address: {text}"))
}

pub(super) fn ipv6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv6 address: {text}"))
}

/// A search domain; `.` means none at all.
pub(super) fn dns_search(text: &str) -> Result<String, String> {
    let domain = text.trim();
    if domain == "." {
        return Ok(domain.to_owned());
    }
    let good = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = domain.len() < 255
        && domain.trim_end_matches('.').split('.').all(good)
        && domain.contains(|c: char| c.is_ascii_alphabetic());
    if valid { Ok(domain.to_owned()) } else { Err(format!("{text} is not a valid domain")) }
}

/// `name[:alias]`.
pub(super) fn link(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// Kernel parameters that belong to a namespace; the others would change the host.
pub(super) fn sysctl(text: &str) -> Result<String, String> {
    const OF_IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed = |name: &str| OF_IPC.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    match text.split_once('=') {
        Some((name, _)) if allowed(name) => Ok(text.to_owned()),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

pub(super) fn annotation(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        Err(format!("invalid annotation: {text:?}"))
    } else {
        Ok(text.to_owned())
    }
}

/// A device is looked at when the mapping is made; only an empty word is refused here.
pub(super) fn device(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// `type major:minor mode`, as the kernel takes it.
pub(super) fn device_cgroup_rule(text: &str) -> Result<String, String> {
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let valid = || {
        let mut words = text.split(' ');
        let (kind, numbers, mode) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let mode_is_good = (1..=3).contains(&mode.len()) && mode.bytes().all(|b| b"rwm".contains(&b));
        Some(
            matches!(kind, "a" | "b" | "c") && number(major) && number(minor) && mode_is_good && words.next().is_none(),
        )
    };
    if valid() == Some(true) { Ok(text.to_owned()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

/// A device path and what follows its colon.
fn device_and_value(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((path, value)) if !value.contains(':') && !path.is_empty() => {
            if path.starts_with("/dev/") {
                Ok((path, value))
            } else {
                Err(format!("bad format for device path: {text}"))
            }
        }
        _ => Err(format!("bad format: {text}")),
    }
}

pub(super) fn weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and_value(text)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => {
            Ok(WeightDevice { path: path.to_owned(), weight })
        }
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

pub(super) fn throttle_bps(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and_value(text)?;
    match bytes(rate) {
        Ok(rate) => Ok(ThrottleDevice { path: path.to_owned(), rate: rate.unsigned_abs() }),
        Err(_) => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )),
    }
}

pub(super) fn throttle_iops(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and_value(text)?;
    match rate.parse() {
        Ok(rate) => Ok(ThrottleDevice { path: path.to_owned(), rate }),
        Err(_) => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )),
    }
}

/// `name=soft[:hard]`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |digits: &str| digits.parse::<i64>().map_err(|error| crate::flag::integer_error(digits, &error));
    let mut parts = limits.split(':');
    let soft = number(parts.next().unwrap_or_default())?;
    let hard = parts.next().map_or(Ok(soft), number)?;
    if parts.next().is_some() {
        return Err(format!("too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"));
    }
    // -1 is no limit, so that it is above everything.
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// `all`, a count, or `device=...,capabilities=...,driver=...,options=...`.
pub(super) fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { options: Some(Default::default()), ..DeviceRequest::default() };
    let mut capabilities = Vec::new();
    let mut counted = false;
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" => {
                request.count = gpu_count(value)?;
                counted = true;
            }
            "device" => request.device_ids = Some(value.split(',').map(str::to_owned).collect()),
            "capabilities" => capabilities = value.split(',').map(str::to_owned).collect(),
            "options" => {
                let pairs = csv::fields(value)?;
                let pairs = pairs.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                request.options = Some(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !counted && request.device_ids.is_none() {
        request.count = 1;
    }
    if !capabilities.iter().any(|word| word == "gpu") {
        capabilities.push("gpu".to_owned());
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, want) in [
            ("0", Ok(0)),
            ("42", Ok(42)),
            ("1k", Ok(1024)),
            ("1.5g", Ok(1_610_612_736)),
            ("6MiB", Ok(6 << 20)),
            ("1 GB", Ok(1 << 30)),
            ("abc", Err("invalid size: 'abc'")),
            ("-5", Err("invalid size: '-5'")),
            ("1x", Err("invalid suffix: 'x'")),
            ("1kx", Err("invalid suffix: 'kx'")),
            ("1.2.3", Err("strconv.ParseFloat: parsing \"1.2.3\": invalid syntax")),
        ] {
            assert_eq!(bytes(text), want.map_err(str::to_owned), "{text}");
        }
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn processors_are_exact_to_the_ninth_digit() {
        for (text, want) in [
            ("1.5", Ok(1_500_000_000)),
            ("0.000000001", Ok(1)),
            ("1/2", Ok(500_000_000)),
            (".5", Ok(500_000_000)),
            ("0.0000000001", Err("value is too precise")),
            ("1/3", Err("value is too precise")),
            ("abc", Err("failed to parse abc as a rational number")),
            ("", Err("failed to parse  as a rational number")),
        ] {
            assert_eq!(cpus(text), want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_gpu_request_counts_names_and_asks_for_gpus() {
        let request = gpus("all").expect("all");
        assert_eq!((request.count, request.capabilities), (-1, Some(vec![vec!["gpu".to_owned()]])));
        let request = gpus("\"device=0,1\",capabilities=compute").expect("devices");
        assert_eq!(request.device_ids, Some(vec!["0".to_owned(), "1".to_owned()]));
        assert_eq!(request.capabilities, Some(vec![vec!["compute".to_owned(), "gpu".to_owned()]]));
        assert_eq!(request.count, 0);
    }

    #[test]
    fn limits_of_processes() {
        let limit = ulimit("nofile=5:6").expect("limit");
        assert_eq!((limit.soft, limit.hard), (5, 6));
        assert_eq!(ulimit("core=-1").expect("limit").hard, -1);
        assert!(ulimit("core=-1:5").is_err());
    }

    #[test]
    fn rates_delays_and_losses_have_their_units() {
        for (text, bits) in
            [("10mbit", 10_000_000), ("1.5Gbit", 1_500_000_000), ("64kbit", 64_000), ("800", 800), ("0", 0)]
        {
            assert_eq!(bit_rate(text), Ok(bits), "{text}");
        }
        for text in ["", "fast", "10mb", "-1mbit", "1bit", "1.2.3mbit", "99999999gbit"] {
            assert!(bit_rate(text).is_err_and(|error| error.starts_with("invalid rate")), "{text}");
        }
        assert_eq!(
            (delay("20ms"), delay("0"), loss("0.5%"), loss("100")),
            (Ok(20_000_000), Ok(0), Ok(5_000), Ok(1_000_000))
        );
        assert!(delay("-1s").is_err() && loss("101%").is_err() && loss("-1").is_err() && loss("much").is_err());
    }
}
