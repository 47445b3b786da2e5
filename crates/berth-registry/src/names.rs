//! Names in the paths of the API: repositories, tags, and what a manifest is asked for by.

use std::{fmt, str::FromStr};

use berth_model::Digest;

/// Characters of a repository's name. Clients allow 255 for it together with the host's name.
const MAX_NAME: usize = 255;
/// Characters of a tag.
const MAX_TAG: usize = 128;

/// The name of a repository: parts of lower-case letters and digits, joined by `/`. Section "Pulling manifests".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

/// A text that is no repository's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid repository name {0:?}: it is made of lower-case letters and digits, joined by . _ __ - and /, and has at most 255 characters"
)]
pub struct InvalidName(String);

impl RepositoryName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A file name that no other repository has: `/` is not allowed in one, and `+` not in a repository's name.
    pub fn file_name(&self) -> String {
        self.0.replace('/', "+")
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() > MAX_NAME || !text.split('/').all(is_part) {
            return Err(InvalidName(text.chars().take(MAX_NAME).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_part(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes
        .split(|b| is_word(*b))
        .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-'))
}

/// A tag. Section "Pulling manifests".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// A text that is neither a tag nor a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid tag {0:?}: it is made of letters, digits, _ . and -, begins with neither . nor -, and has at most 128 characters"
)]
pub struct InvalidTag(String);

impl Tag {
    /// The tag itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let is_tag = text.len() <= MAX_TAG
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'));
        if is_tag { Ok(Self(text.to_owned())) } else { Err(InvalidTag(text.chars().take(MAX_TAG).collect())) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A name that may move.
    Tag(Tag),
    /// The address of its bytes.
    Digest(Digest),
}

/// A reference that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Meant as a digest.
    #[error(transparent)]
    Digest(#[from] berth_model::InvalidDigest),
    /// Meant as a tag.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories() {
        for good in ["a", "a/b", "a.b/c_d/e__f/g-h/i---j", "0/1", &"a".repeat(255)] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "a/../b",
            "..",
            "a+b",
            "a b",
            "a%2fb",
            "é",
            "<script>",
            "a:b",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
        let name: RepositoryName = "a/b/c".parse().expect("good");
        assert_eq!(name.file_name(), "a+b+c");
    }

    #[test]
    fn references_are_tags_or_digests() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert!(matches!(digest.parse(), Ok(Reference::Digest(_))));
        for good in ["latest", "1.0-rc_1", "_x", &"t".repeat(128)] {
            assert!(matches!(good.parse(), Ok(Reference::Tag(_))), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a b", "sha256:0A", &"t".repeat(129)] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
