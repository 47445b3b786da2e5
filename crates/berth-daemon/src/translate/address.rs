//! Addresses in requests, refused in the words that clients know.

use std::net::IpAddr;

use crate::http::error::ApiError;

/// Reads an IP address; a wrong one is a fault of the document it stands in.
pub fn ip(text: &str) -> Result<IpAddr, ApiError> {
    text.parse().map_err(|_| ApiError::invalid(format!("invalid JSON: ParseAddr({text:?}): {}", reason(text))))
}

/// Reads an address that may be empty.
pub fn optional_ip(text: &str) -> Result<Option<IpAddr>, ApiError> {
    if text.is_empty() { Ok(None) } else { ip(text).map(Some) }
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
    }
}
