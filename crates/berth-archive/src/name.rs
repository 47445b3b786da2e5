//! Names of members, made safe: a path below the root, or an error that quotes it.

use crate::error::ArchiveError;

/// A path below a root: no leading slash, no `.`, no `..`, no empty part. The root itself is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberName(Vec<u8>);

impl MemberName {
    /// Reads a name as archives carry it: leading slashes mean the root of the layer, `.` nothing, `..` the directory before it.
    ///
    /// # Errors
    /// [`ArchiveError::Refused`] if it leads out of the root or holds a NUL byte.
    pub fn parse(raw: &[u8]) -> Result<Self, ArchiveError> {
        if raw.contains(&0) {
            return Err(ArchiveError::refused(raw, "its name holds a NUL byte"));
        }
        let mut path = Vec::with_capacity(raw.len());
        for part in raw.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." if path.is_empty() => return Err(ArchiveError::refused(raw, "it leads out of the root")),
                b".." => truncate_to_parent(&mut path),
                part => push_part(&mut path, part),
            }
        }
        Ok(Self(path))
    }

    /// The path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same name in a directory, given by its clean path.
    #[must_use]
    pub(crate) fn within(self, directory: &[u8]) -> Self {
        if directory.is_empty() || self.is_root() {
            return if self.is_root() { Self(directory.to_vec()) } else { self };
        }
        Self([directory, b"/", &self.0].concat())
    }

    /// The name with its beginning `from` replaced by `to`; itself if it does not begin so.
    #[must_use]
    pub(crate) fn moved(self, from: &[u8], to: &[u8]) -> Self {
        let rest = match self.0.strip_prefix(from) {
            Some(rest) if from.is_empty() || rest.is_empty() || rest.starts_with(b"/") => rest,
            _ => return self,
        };
        let joined = from.is_empty() && !rest.is_empty();
        Self([to, if joined { b"/" } else { &b""[..] }, rest].concat())
    }

    /// Whether it is the root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory it lies in, and its last part.
    #[must_use]
    pub fn split(&self) -> (&[u8], &[u8]) {
        split(&self.0)
    }
}

/// Splits a clean path into its directory and its last part.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Appends one part to a clean path.
pub(crate) fn push_part(path: &mut Vec<u8>, part: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(part);
}

/// Takes the last part off a clean path.
pub(crate) fn truncate_to_parent(path: &mut Vec<u8>) {
    let len = split(path).0.len();
    path.truncate(len);
}

/// The parts of a path, the first one last: a stack to walk down.
pub(crate) fn stack(path: &[u8]) -> Vec<Vec<u8>> {
    let mut stack: Vec<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
    stack.reverse();
    stack
}

/// The parts of a path.
pub(crate) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_never_leave_the_root() {
        for (raw, clean) in [
            ("etc/passwd", "etc/passwd"),
            ("./etc//passwd/", "etc/passwd"),
            ("/etc/passwd", "etc/passwd"),
            ("./", ""),
            ("a/../b", "b"),
            ("a/./b/..", "a"),
            ("...", "..."),
            ("..a/b", "..a/b"),
        ] {
            assert_eq!(MemberName::parse(raw.as_bytes()).expect(raw).as_bytes(), clean.as_bytes(), "{raw}");
        }
        for bad in ["..", "../etc/passwd", "a/../../b", "/..", "a\0b"] {
            let error = MemberName::parse(bad.as_bytes()).expect_err(bad);
            assert!(matches!(error, ArchiveError::Refused { .. }), "{bad}");
        }
        assert_eq!(MemberName::parse(b"a/b/c").expect("clean").split(), (&b"a/b"[..], &b"c"[..]));
    }
}
