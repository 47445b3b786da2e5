//! Versions of the Engine API: reading them from a path, and refusing those that nobody here speaks.

use std::fmt;
use std::str::FromStr;

use crate::http::error::ApiError;

/// A version of the Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// The newest version, which a path without a version means.
    pub const NEWEST: ApiVersion = ApiVersion::v1(56);
    /// The oldest version that can be spoken.
    pub const OLDEST: ApiVersion = ApiVersion::v1(24);

    /// Version `1.minor`.
    pub const fn v1(minor: u16) -> Self {
        ApiVersion { major: 1, minor }
    }

    /// Whether this version is older than `1.minor`.
    pub fn before(self, minor: u16) -> bool {
        self < ApiVersion::v1(minor)
    }

    /// Refuses a version outside `oldest..=NEWEST`, in the words that clients know (B027).
    pub fn check(self, oldest: ApiVersion) -> Result<Self, ApiError> {
        if self > ApiVersion::NEWEST {
            let newest = ApiVersion::NEWEST;
            return Err(ApiError::invalid(format!(
                "client version {self} is too new. Maximum supported API version is {newest}"
            )));
        }
        if self < oldest {
            return Err(ApiError::invalid(format!(
                "client version {self} is too old. Minimum supported API version is {oldest}, \
                 please upgrade your client to a newer version"
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that is no API version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version {0:?}: it must be MAJOR.MINOR")]
pub struct InvalidVersion(String);

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let number = |part: &str| part.parse::<u16>().map_err(|_| InvalidVersion(text.to_owned()));
        Ok(ApiVersion { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_number_and_not_by_text() {
        let version = |text: &str| text.parse::<ApiVersion>().expect("version");
        assert!(version("1.9") < version("1.24"));
        assert!(version("2.0") > version("1.56"));
        assert_eq!(version("1").to_string(), "1.0");
        assert!("1.2.3".parse::<ApiVersion>().is_err());
        assert!("abc".parse::<ApiVersion>().is_err());
    }

    #[test]
    fn a_version_outside_the_range_is_refused_in_known_words() {
        let refused = |text: &str| {
            text.parse::<ApiVersion>().expect("version").check(ApiVersion::OLDEST).expect_err("refused").message
        };
        assert_eq!(refused("1.99"), "client version 1.99 is too new. Maximum supported API version is 1.56");
        assert_eq!(
            refused("1.12"),
            "client version 1.12 is too old. Minimum supported API version is 1.24, \
             please upgrade your client to a newer version"
        );
        assert!(ApiVersion::OLDEST.check(ApiVersion::OLDEST).is_ok());
        assert!(ApiVersion::NEWEST.check(ApiVersion::OLDEST).is_ok());
    }
}
