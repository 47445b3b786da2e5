//! Names of images: `[domain/]path[:tag][@digest]` (B070-B073).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The registry that a name without a domain means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Another name of it, from before there were other registries.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where names without a slash live on the default registry.
const OFFICIAL: &str = "library/";
/// What no tag and no digest mean.
const DEFAULT_TAG: &str = "latest";
/// Domain and path together.
const MAX_NAME: usize = 255;

/// A normal image reference: the domain is always known, and there is a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no image reference. The texts are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It does not have the form.
    #[error("invalid reference format")]
    Format,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// Domain and path are longer than 255 characters.
    #[error("repository name must not be more than {MAX_NAME} characters")]
    TooLong,
    /// It looks like an id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
}

impl ImageRef {
    /// The registry: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/nginx`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, `latest` where neither tag nor digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given; it decides over the tag.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path: `docker.io/library/nginx`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it: `nginx`, `user/app`, `localhost:5000/app`.
    #[must_use]
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as people write it: `nginx:latest`, `app@sha256:...`.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_repository(), self.suffix())
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// [`InvalidReference::Format`] if `tag` is none.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository, named by digest alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl FromStr for ImageRef {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = split_digest(text)?;
        let (domain, rest) = split_domain(rest);
        let (path, tag) = split_tag(&rest);
        // What comes after a first colon was meant as a tag, however wrong.
        let name = path.split(':').next().unwrap_or_default();
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidReference::UpperCase(name.to_owned()));
        }
        if !is_domain(&domain) || !is_path(path) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(InvalidReference::TooLong);
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { domain, path: path.to_owned(), tag, digest })
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), InvalidReference> {
    match text.split_once('@') {
        None => Ok((text, None)),
        Some((rest, digest)) => Ok((rest, Some(digest.parse().map_err(|_| InvalidReference::Format)?))),
    }
}

/// The first part is a domain when it has `.` or `:`, is `localhost`, or has an upper-case letter.
fn split_domain(text: &str) -> (String, String) {
    let (domain, path) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    (domain.to_owned(), if official { format!("{OFFICIAL}{path}") } else { path.to_owned() })
}

fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Host name, IPv4 or bracketed IPv6 address, with an optional port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest))
                if !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') =>
            {
                if !rest.is_empty() && !rest.starts_with(':') {
                    return false;
                }
                ("ip6", rest.strip_prefix(':'))
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Components of `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`; components are joined by `/`.
fn is_path(text: &str) -> bool {
    text.split('/').all(|component| {
        let mut bytes = component.bytes().peekable();
        let alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
        loop {
            if bytes.next_if(|b| alphanumeric(*b)).is_none() {
                return false;
            }
            while bytes.next_if(|b| alphanumeric(*b)).is_some() {}
            match bytes.next() {
                None => return true,
                Some(b'.') => {}
                Some(b'_') => {
                    bytes.next_if_eq(&b'_');
                }
                Some(b'-') => while bytes.next_if_eq(&b'-').is_some() {},
                Some(_) => return false,
            }
        }
    })
}

impl TryFrom<String> for ImageRef {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ImageRef {
    /// The full form: `docker.io/library/nginx:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_normal() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("user/app:1", "docker.io/user/app:1", "user/app:1"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/a/b:x", "localhost:5000/a/b:x", "localhost:5000/a/b:x"),
            ("Reg/app", "Reg/app:latest", "Reg/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("a__b/c-d---e.f_g", "docker.io/a__b/c-d---e.f_g:latest", "a__b/c-d---e.f_g:latest"),
        ] {
            let reference: ImageRef = text.parse().expect(text);
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
            assert_eq!(reference.to_string().parse::<ImageRef>().expect("its own text"), reference);
        }
        let by_digest: ImageRef = format!("nginx@{digest}").parse().expect("digest");
        assert_eq!((by_digest.tag(), by_digest.familiar()), (None, format!("nginx@{digest}")));
        let both: ImageRef = format!("nginx:1@{digest}").parse().expect("both");
        assert_eq!(both.tag(), Some("1"));
    }

    #[test]
    fn bad_references_are_refused_in_docker_s_words() {
        for (text, message) in [
            ("", "invalid reference format"),
            ("Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase"),
            ("UP::", "invalid reference format: repository name (library/UP) must be lowercase"),
            ("a/B", "invalid reference format: repository name (a/B) must be lowercase"),
            ("UP::", "invalid reference format: repository name (library/UP) must be lowercase"),
            ("nginx:", "invalid reference format"),
            ("nginx:-x", "invalid reference format"),
            ("nginx@sha256:12", "invalid reference format"),
            ("-nginx", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("ng inx", "invalid reference format"),
        ] {
            assert_eq!(text.parse::<ImageRef>().expect_err(text).to_string(), message, "{text}");
        }
        assert!(matches!("ab".repeat(32).parse::<ImageRef>(), Err(InvalidReference::LooksLikeId(_))));
        assert_eq!("a/".repeat(130).trim_end_matches('/').parse::<ImageRef>(), Err(InvalidReference::TooLong));
    }
}
