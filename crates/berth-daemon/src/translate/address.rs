//! Addresses in requests, refused in the words that clients know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::http::error::ApiError;

/// Reads an IP address; a wrong one is a fault of the document it stands in.
pub fn ip(text: &str) -> Result<IpAddr, ApiError> {
    text.parse().map_err(|_| ApiError::invalid(format!("invalid JSON: ParseAddr({text:?}): {}", reason(text))))
}

/// Reads an address that may be empty.
pub fn optional_ip(text: &str) -> Result<Option<IpAddr>, ApiError> {
    if text.is_empty() { Ok(None) } else { ip(text).map(Some) }
}

/// Reads an IPv4 address that may be empty.
pub fn optional_ipv4(text: &str) -> Result<Option<Ipv4Addr>, ApiError> {
    match optional_ip(text)? {
        Some(IpAddr::V6(address)) => Err(wrong_family("IPv4", address.into())),
        Some(IpAddr::V4(address)) => Ok(Some(address)),
        None => Ok(None),
    }
}

/// Reads an IPv6 address that may be empty.
pub fn optional_ipv6(text: &str) -> Result<Option<Ipv6Addr>, ApiError> {
    match optional_ip(text)? {
        Some(IpAddr::V4(address)) => Err(wrong_family("IPv6", address.into())),
        Some(IpAddr::V6(address)) => Ok(Some(address)),
        None => Ok(None),
    }
}

fn wrong_family(family: &str, address: IpAddr) -> ApiError {
    ApiError::invalid(format!("invalid endpoint settings:\ninvalid {family} address: {address}"))
}

/// Reads an address with the length of its prefix, that may be empty.
pub fn optional_net(text: &str) -> Result<Option<IpNet>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let refused = |reason: String| ApiError::invalid(format!("invalid JSON: netip.ParsePrefix({text:?}): {reason}"));
    let (ip, length) = text.rsplit_once('/').ok_or_else(|| refused("no '/'".to_owned()))?;
    let ip: IpAddr = ip.parse().map_err(|_| refused(format!("ParseAddr({ip:?}): {}", reason(ip))))?;
    let bits: u8 = length.parse().map_err(|_| refused(format!("bad bits after slash: {length:?}")))?;
    IpNet::new(ip, bits).map(Some).map_err(|_| refused("prefix length out of range".to_owned()))
}

fn reason(text: &str) -> String {
    match text.find(['.', ':', '%']) {
        Some(at) if text.as_bytes()[at] == b'.' => match text.find(|c: char| !c.is_ascii_digit() && c != '.') {
            Some(odd) => format!("unexpected character (at {:?})", &text[odd..]),
            None => "IPv4 address is malformed".to_owned(),
        },
        _ => "unable to parse IP".to_owned(),
    }
}

/// Checks a hardware address of six bytes; empty is none.
pub fn mac(text: &str) -> Result<(), ApiError> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split(separator).collect();
    if text.is_empty() || (parts.len() == 6 && parts.iter().all(|part| is_byte(part))) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("invalid JSON: address {text}: invalid MAC address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_addresses_are_named() {
        let refused = |text: &str| ip(text).expect_err(text).message;
        assert_eq!(refused("zzz"), "invalid JSON: ParseAddr(\"zzz\"): unable to parse IP");
        assert_eq!(refused("x.y"), "invalid JSON: ParseAddr(\"x.y\"): unexpected character (at \"x.y\")");
        assert_eq!(mac("zz").expect_err("no address").message, "invalid JSON: address zz: invalid MAC address");
        assert_eq!(mac("02:42:ac:11:99:99"), Ok(()));
        assert_eq!(optional_ip(""), Ok(None));
        let net = |text: &str| optional_net(text).expect_err(text).message;
        assert_eq!(net("x"), "invalid JSON: netip.ParsePrefix(\"x\"): no '/'");
        assert_eq!(net("10.0.0.0/33"), "invalid JSON: netip.ParsePrefix(\"10.0.0.0/33\"): prefix length out of range");
        assert_eq!(
            optional_ipv4("fd00::1").expect_err("IPv6").message,
            "invalid endpoint settings:\ninvalid IPv4 address: fd00::1"
        );
    }
}
