//! The operating system and processor an image is made for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `os/architecture[/variant]` in the words of the OCI image specification (Go's `GOOS` and `GOARCH`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64` and so on.
    pub architecture: String,
    /// `v7`, `v8` and so on; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A text that is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: unknown operating system or architecture: invalid argument")]
pub struct InvalidPlatform(String);

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = normal_architecture(std::env::consts::ARCH, "");
        Self { os: "linux".to_owned(), architecture, variant }
    }

    /// Whether an image for `self` runs on a machine of `wanted`. An absent variant is the architecture's usual one.
    #[must_use]
    pub fn matches(&self, wanted: &Platform) -> bool {
        self.os == wanted.os
            && normal_architecture(&self.architecture, &self.variant)
                == normal_architecture(&wanted.architecture, &wanted.variant)
    }
}

/// Other names of an architecture, and variants that mean the usual one.
fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        (other, variant) => (other, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let word =
            |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || !parts.iter().copied().all(word) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        match parts[..] {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => Ok(Self { os: os.to_owned(), ..Self::host() }),
            [architecture] if is_known_architecture(architecture) => {
                let (architecture, variant) = normal_architecture(architecture, "");
                Ok(Self { os: "linux".to_owned(), architecture, variant })
            }
            [os, architecture] => {
                let (architecture, variant) = normal_architecture(architecture, "");
                Ok(Self { os: os.to_owned(), architecture, variant })
            }
            [os, architecture, variant] => {
                let (architecture, variant) = normal_architecture(architecture, variant);
                Ok(Self { os: os.to_owned(), architecture, variant })
            }
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

fn is_known_architecture(word: &str) -> bool {
    matches!(
        word,
        "386"
            | "amd64"
            | "x86_64"
            | "x86-64"
            | "i386"
            | "arm"
            | "armhf"
            | "armel"
            | "arm64"
            | "aarch64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "mips64le"
            | "loong64"
    )
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_in_every_usual_form() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm64/v8", "linux/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), shown);
        }
        for bad in ["", "a b", "linux//x", "a/b/c/d", "nonsense"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
