//! Identifiers of 64 hex digits: containers, execs, endpoints, networks.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An identifier of 256 random bits, written as 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexId(Box<str>);

/// The id of a container.
pub type ContainerId = HexId;
/// The id of an exec.
pub type ExecId = HexId;

/// A text that is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: it must be 64 hex digits")]
pub struct InvalidId(String);

impl HexId {
    /// How many digits people see.
    pub const SHORT: usize = 12;

    /// An id from random bytes. `None` if its short form were all decimal digits, which programs could take for a number (B062).
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Option<Self> {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        }
        if text[..Self::SHORT].bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self(text.into_boxed_str()))
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..Self::SHORT]
    }
}

impl FromStr for HexId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(lower_hex) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for HexId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<HexId> for String {
    fn from(id: HexId) -> Self {
        id.0.into_string()
    }
}

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl AsRef<str> for HexId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_lower_case_hex_digits() {
        assert!("ab".repeat(32).parse::<HexId>().is_ok());
        for bad in ["", "ab", &"AB".repeat(32), &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(bad.parse::<HexId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_id_never_looks_like_a_number() {
        assert_eq!(HexId::from_random([0x12; 32]), None);
        let id = HexId::from_random([0xa1; 32]).expect("has a letter");
        assert_eq!(id.short(), "a1a1a1a1a1a1");
    }
}
