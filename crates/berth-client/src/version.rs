//! The version of the Engine API that both sides speak.

use std::fmt;
use std::str::FromStr;

/// An Engine API version such as `1.56`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// The newest version this client speaks.
    pub const CURRENT: ApiVersion = ApiVersion { major: 1, minor: 56 };

    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> ApiVersion {
        ApiVersion { major, minor }
    }
}

/// A text that is not `MAJOR.MINOR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version: {0:?} (must be MAJOR.MINOR)")]
pub struct InvalidApiVersion(String);

impl FromStr for ApiVersion {
    type Err = InvalidApiVersion;

    fn from_str(text: &str) -> Result<Self, InvalidApiVersion> {
        let parts = text.trim_start_matches('v').split_once('.');
        let number = |digits: &str| digits.parse().map_err(|_| InvalidApiVersion(text.to_owned()));
        let (major, minor) = parts.ok_or_else(|| InvalidApiVersion(text.to_owned()))?;
        Ok(ApiVersion { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_the_version_of_our_documents() {
        assert_eq!(ApiVersion::CURRENT.to_string(), berth_api::API_VERSION);
    }

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        let version = |text: &str| text.parse::<ApiVersion>().expect(text);
        assert!(version("1.9") < version("1.24"));
        assert_eq!(version("v1.50"), ApiVersion::new(1, 50));
        assert_eq!(version("1.50").to_string(), "1.50");
        for bad in ["", "1", "1.", "one.two", "1.2.3"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
