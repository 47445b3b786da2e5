//! Names of images: as clients give them, and as filters match them.

use berth_model::{Digest, ImageRef};

use crate::ImageError;

/// The full name that `repo` and `tag` of a request mean together. A tag in `repo` counts only where `tag` is empty.
///
/// # Errors
/// [`ImageError::Reference`], [`ImageError::InvalidTag`], [`ImageError::AmbiguousTag`], in Docker's words.
pub fn image_name(repo: &str, tag: &str) -> Result<ImageRef, ImageError> {
    let algorithm = repo.split(':').next().unwrap_or_default();
    if repo.parse::<Digest>().is_ok() || matches!(algorithm, "sha256" | "sha512") && !repo.contains('/') {
        return Err(ImageError::AmbiguousTag);
    }
    let name: ImageRef = repo.parse()?;
    if tag.is_empty() {
        return Ok(name);
    }
    if let Ok(digest) = tag.parse::<Digest>() {
        return Ok(name.with_digest(digest));
    }
    name.with_tag(tag).map_err(|_| ImageError::InvalidTag)
}

/// Whether a filter `reference=PATTERN` selects a name: the pattern is matched with the whole familiar name, and with it less its tag.
/// A pattern that is none selects nothing.
#[must_use]
pub fn reference_matches(pattern: &str, name: &ImageRef) -> bool {
    let familiar = name.familiar();
    let matches = |text: &str| glob(pattern.as_bytes(), text.as_bytes());
    matches(&familiar) || matches(&name.familiar_repository())
}

/// Go's `path.Match`: `*` and `?` stop at slashes, `[a-z]` and `[^a-z]` are classes, a backslash quotes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    match first {
        b'*' => {
            let stop = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=stop).any(|skipped| glob(rest, &text[skipped..]))
        }
        b'?' => text.split_first().is_some_and(|(b, text)| *b != b'/' && glob(rest, text)),
        b'[' => match (class(rest), text.split_first()) {
            (Some((set, rest)), Some((b, text))) => *b != b'/' && set.contains(*b) && glob(rest, text),
            _ => false,
        },
        b'\\' => match (rest.split_first(), text.split_first()) {
            (Some((quoted, rest)), Some((b, text))) => quoted == b && glob(rest, text),
            _ => false,
        },
        literal => text.split_first().is_some_and(|(b, text)| *b == literal && glob(rest, text)),
    }
}

struct Class {
    negated: bool,
    ranges: Vec<(u8, u8)>,
}

impl Class {
    fn contains(&self, b: u8) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&b)) != self.negated
    }
}

fn class(mut pattern: &[u8]) -> Option<(Class, &[u8])> {
    let negated = pattern.first() == Some(&b'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if pattern.first() == Some(&b']') && !ranges.is_empty() {
            return Some((Class { negated, ranges }, &pattern[1..]));
        }
        let (low, rest) = class_member(pattern)?;
        let (high, rest) = match rest.split_first() {
            Some((b'-', rest)) => class_member(rest)?,
            _ => (low, rest),
        };
        ranges.push((low, high));
        pattern = rest;
    }
}

fn class_member(pattern: &[u8]) -> Option<(u8, &[u8])> {
    match pattern.split_first()? {
        (b'-' | b']', _) => None,
        (b'\\', rest) => rest.split_first().map(|(b, rest)| (*b, rest)),
        (b, rest) => Some((*b, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repo_and_tag_of_a_request_make_one_name() {
        for (repo, tag, name) in
            [("a", "", "a:latest"), ("a:5", "", "a:5"), ("a:5", "6", "a:6"), ("h:5000/a", "1", "h:5000/a:1")]
        {
            assert_eq!(image_name(repo, tag).expect(repo).familiar(), name);
        }
        let hex = "ab".repeat(32);
        for (repo, tag, message) in [
            ("a", "-bad!", "invalid tag format".to_owned()),
            ("GX", "a", "invalid reference format: repository name (library/GX) must be lowercase".to_owned()),
            (
                &format!("sha256:{hex}"),
                "",
                "refusing to create an ambiguous tag using digest algorithm as name".to_owned(),
            ),
            (&hex, "", format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings")),
        ] {
            assert_eq!(image_name(repo, tag).expect_err(repo).to_string(), message);
        }
    }

    #[test]
    fn filters_match_as_go_does() {
        let name: ImageRef = "docker.io/user/app:1.2".parse().expect("name");
        for (pattern, matches) in [
            ("user/app", true),
            ("user/app:1.2", true),
            ("user/*", true),
            ("user/app:1.*", true),
            ("*", false),
            ("*/*", true),
            ("user/ap[a-z]", true),
            ("user/ap[^p]", false),
            ("user/ap?:1.2", true),
            ("[", false),
            ("user/app:", false),
        ] {
            assert_eq!(reference_matches(pattern, &name), matches, "{pattern}");
        }
    }
}
