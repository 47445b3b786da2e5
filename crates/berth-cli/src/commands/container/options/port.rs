//! Published and exposed ports: `[ip:][hostport:]port[/proto]`, ranges, and the long form with names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_api::Empty;
use berth_api::host_config::{PortBinding, PortMap};

use crate::flag::integer_error;

/// Exposed ports and their bindings.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ports {
    pub exposed: BTreeMap<String, Empty>,
    pub bindings: PortMap,
}

/// What `-p` and `--expose` ask for together.
pub(super) fn ports(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for text in publish {
        publish_one(&mut ports, &short_form(text)?)?;
    }
    for text in expose {
        expose_one(&mut ports, text)?;
    }
    Ok(ports)
}

/// What one text after `-p` asks for, if it is one.
#[cfg(feature = "fuzz")]
pub fn published(text: &str) -> Option<PortMap> {
    ports(&[text.to_owned()], &[]).ok().map(|ports| ports.bindings)
}

/// `target=80,published=8080,protocol=udp` in the short form.
fn short_form(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let mut named = BTreeMap::from([("protocol", "tcp")]);
    for field in text.split(',') {
        match field.split_once('=') {
            Some((key, value)) if !key.is_empty() => named.insert(key, value),
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{field}')")),
        };
    }
    let of = |key| named.get(key).copied().unwrap_or_default();
    Ok(format!("{}:{}/{}", of("published"), of("target"), of("protocol")))
}

fn publish_one(ports: &mut Ports, text: &str) -> Result<(), String> {
    let (address, host, container) = split_from_the_right(text);
    let (container, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    let (first, last) = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        text => Some(range(text).map_err(|_| format!("invalid hostPort: {text}"))?),
    };
    // One port of the container may take any of a range of the host; otherwise the ranges go together.
    let one_of_many = |(low, high): (u16, u16)| first == last && low != high;
    if let Some((low, high)) = host_range
        && high - low != last - first
        && !one_of_many((low, high))
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    for port in first..=last {
        let host_port = match host_range {
            None => String::new(),
            Some(both) if one_of_many(both) => format!("{}-{}", both.0, both.1),
            Some((low, _)) => (low + (port - first)).to_string(),
        };
        let key = format!("{port}/{protocol}");
        ports.exposed.insert(key.clone(), Empty);
        let binding = PortBinding { host_ip: address.to_owned(), host_port };
        ports.bindings.entry(key).or_default().get_or_insert_with(Vec::new).push(binding);
    }
    Ok(())
}

fn split_from_the_right(text: &str) -> (&str, &str, &str) {
    match text.rsplit_once(':') {
        None => ("", "", text),
        Some((left, container)) => match left.rsplit_once(':') {
            None => ("", left, container),
            Some((address, host)) => (address, host, container),
        },
    }
}

fn expose_one(ports: &mut Ports, text: &str) -> Result<(), String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (container, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) =
        range(container).map_err(|error| format!("invalid range format for --expose: {text}, error: {error}"))?;
    for port in first..=last {
        ports.exposed.insert(format!("{port}/{protocol}"), Empty);
    }
    Ok(())
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number = |digits: &str| match digits.strip_prefix('+') {
        // What reads numbers here takes a sign, what reads them in Docker does not.
        Some(_) => Err(format!("strconv.ParseUint: parsing {digits:?}: invalid syntax")),
        None => digits.parse::<u16>().map_err(|error| integer_error(digits, &error).replace("ParseInt", "ParseUint")),
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first { Err(format!("invalid range specified for port: {text}")) } else { Ok((first, last)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(publish: &[&str], expose: &[&str], want: &[(&str, &str, &str)]) {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let ports = ports(&owned(publish), &owned(expose)).expect("ports");
        let mut got = Vec::new();
        for (port, bindings) in &ports.bindings {
            for binding in bindings.iter().flatten() {
                got.push((port.as_str(), binding.host_ip.as_str(), binding.host_port.as_str()));
            }
        }
        assert_eq!(got, want, "{publish:?}");
    }

    #[test]
    fn the_forms_of_a_published_port() {
        check(&["80"], &[], &[("80/tcp", "", "")]);
        check(&["8080:80/udp"], &[], &[("80/udp", "", "8080")]);
        check(&["127.0.0.1::80"], &[], &[("80/tcp", "127.0.0.1", "")]);
        check(&["[::1]:8080:80"], &[], &[("80/tcp", "::1", "8080")]);
        check(&["9000-9001:90-91"], &[], &[("90/tcp", "", "9000"), ("91/tcp", "", "9001")]);
        check(&["1000-1003:80"], &[], &[("80/tcp", "", "1000-1003")]);
        check(&["target=80,published=8080,protocol=sctp"], &[], &[("80/sctp", "", "8080")]);
    }

    #[test]
    fn a_sign_makes_no_port() {
        let refused = |text: &str| ports(&[text.to_owned()], &[]).expect_err(text);
        assert_eq!(refused("+80"), "invalid containerPort: +80");
        assert_eq!(refused("+80:80"), "invalid hostPort: +80");
        assert_eq!(refused("80-+81"), "invalid containerPort: 80-+81");
    }

    #[test]
    fn exposing_opens_nothing() {
        let ports = ports(&[], &["5-6".to_owned(), "7/udp".to_owned()]).expect("ports");
        assert!(ports.bindings.is_empty());
        assert_eq!(ports.exposed.keys().collect::<Vec<_>>(), ["5/tcp", "6/tcp", "7/udp"]);
    }
}
