//! Hardware addresses of interfaces.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A hardware address of six bytes, written `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// A text that is no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {0}: invalid MAC address")]
pub struct InvalidMacAddress(String);

impl MacAddress {
    /// An address of these bytes.
    pub const fn new(octets: [u8; 6]) -> MacAddress {
        MacAddress(octets)
    }

    /// An address for one device made of random bytes: the bit of local administration is set, that of groups is not.
    pub const fn local(random: [u8; 6]) -> MacAddress {
        let [first, b, c, d, e, f] = random;
        MacAddress([first & !1 | 2, b, c, d, e, f])
    }

    /// The six bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    /// Reads six pairs of hex digits with `:` or `-` between them.
    fn from_str(text: &str) -> Result<MacAddress, InvalidMacAddress> {
        let invalid = || InvalidMacAddress(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            *octet = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(invalid)?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(MacAddress(octets)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMacAddress;

    fn try_from(text: String) -> Result<MacAddress, InvalidMacAddress> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_six_pairs_of_hex_digits() {
        let mac: MacAddress = "02:42:AC-11:00:02".replace('-', ":").parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-ac-11-00-02".parse(), Ok(mac));
        for bad in ["", "zz", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02", "02:42:ac:11:00:+2"] {
            let error = bad.parse::<MacAddress>().unwrap_err();
            assert_eq!(error.to_string(), format!("address {bad}: invalid MAC address"));
        }
    }

    #[test]
    fn a_random_address_is_local_and_no_group() {
        for first in 0..=255 {
            assert_eq!(MacAddress::local([first, 1, 2, 3, 4, 5]).octets()[0] & 3, 2);
        }
    }
}
