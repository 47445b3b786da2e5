//! Where a container's cgroup lies, below the root of each hierarchy.

use std::{fmt, path::Path, str::FromStr};

/// A cgroup's path below the root of the hierarchies: absolute, without `.`, `..` or empty components. `/` is the root itself.
///
/// Follows the OCI runtime specification, "Linux Container Configuration", section "Cgroups Path".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath(String);

/// A path that names no cgroup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCgroupPath {
    /// The path is empty or has no name in it.
    #[error("cgroup path {0:?} names no cgroup")]
    Empty(String),
    /// The path has a character that cgroupfs does not allow in names.
    #[error("cgroup path {0:?} holds a line break or a NUL")]
    Character(String),
    /// A component is longer than 255 bytes.
    #[error("cgroup path {0:?} has a component of more than 255 bytes")]
    TooLong(String),
    /// The path is written for the systemd driver.
    #[error("cgroup path {0:?} has systemd's form slice:prefix:name, but the cgroupfs driver is in use")]
    Systemd(String),
}

impl CgroupPath {
    /// Finds the path of a container from the specification's `cgroupsPath`.
    ///
    /// Absent or empty means `parent`/`id`; a relative path lies below `parent`; an absolute one is taken as it is.
    ///
    /// # Errors
    /// [`InvalidCgroupPath`] as [`str::parse`], and for paths that leave no name (`/`, `..`).
    pub fn resolve(spec: Option<&str>, parent: &CgroupPath, id: &str) -> Result<Self, InvalidCgroupPath> {
        match spec {
            None | Some("") => parent.join(id),
            Some(absolute) if absolute.starts_with('/') => {
                let path: Self = absolute.parse()?;
                if path.0 == "/" { Err(InvalidCgroupPath::Empty(absolute.to_owned())) } else { Ok(path) }
            }
            Some(relative) => parent.join(relative),
        }
    }

    /// The path of a cgroup below this one; `name` may have several components, and cannot climb above `self`.
    ///
    /// # Errors
    /// [`InvalidCgroupPath`] if `name` names nothing, or something that cgroupfs does not allow.
    pub fn join(&self, name: &str) -> Result<Self, InvalidCgroupPath> {
        let below = normalized(name)?;
        if below == "/" {
            return Err(InvalidCgroupPath::Empty(name.to_owned()));
        }
        Ok(if self.0 == "/" { Self(below) } else { Self(self.0.clone() + &below) })
    }

    /// The path one level up; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.0.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        Some(Self(if parent.is_empty() { "/".to_owned() } else { parent.to_owned() }))
    }

    /// The text, with its leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path relative to a hierarchy's mount point.
    pub(crate) fn below_root(&self) -> &Path {
        Path::new(&self.0[1..])
    }
}

impl FromStr for CgroupPath {
    type Err = InvalidCgroupPath;

    /// Takes absolute and relative paths alike; the latter are read from the root.
    fn from_str(text: &str) -> Result<Self, InvalidCgroupPath> {
        normalized(text).map(Self)
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Resolves `.` and `..` by the letter, as every cgroupfs driver does: there are no symbolic links to mind.
fn normalized(text: &str) -> Result<String, InvalidCgroupPath> {
    if text.is_empty() {
        return Err(InvalidCgroupPath::Empty(text.to_owned()));
    }
    if text.contains(['\n', '\0']) {
        return Err(InvalidCgroupPath::Character(text.to_owned()));
    }
    if !text.starts_with('/') && text.matches(':').count() == 2 && !text.contains('/') {
        return Err(InvalidCgroupPath::Systemd(text.to_owned()));
    }
    let mut components = Vec::new();
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            long if long.len() > 255 => return Err(InvalidCgroupPath::TooLong(text.to_owned())),
            name => components.push(name),
        }
    }
    Ok(format!("/{}", components.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Option<&str>, expected: Result<&str, &str>) {
        let parent: CgroupPath = "/berth".parse().unwrap();
        let found = CgroupPath::resolve(spec, &parent, "abc").map_err(|e| e.to_string());
        assert_eq!(found.as_ref().map(CgroupPath::as_str).map_err(String::as_str), expected, "{spec:?}");
    }

    #[test]
    fn a_container_lies_where_its_configuration_says() {
        check(None, Ok("/berth/abc"));
        check(Some(""), Ok("/berth/abc"));
        check(Some("/docker/x"), Ok("/docker/x"));
        check(Some("//docker/./x/"), Ok("/docker/x"));
        check(Some("pods/x"), Ok("/berth/pods/x"));
        check(Some("../../etc"), Ok("/berth/etc"));
        check(Some("/a:b:c"), Ok("/a:b:c"));
    }

    #[test]
    fn what_names_no_cgroup_is_refused() {
        check(Some("/"), Err("cgroup path \"/\" names no cgroup"));
        check(Some(".."), Err("cgroup path \"..\" names no cgroup"));
        check(Some("/a/../.."), Err("cgroup path \"/a/../..\" names no cgroup"));
        check(Some("/a\nb"), Err("cgroup path \"/a\\nb\" holds a line break or a NUL"));
        check(
            Some("system.slice:runc:x"),
            Err(
                "cgroup path \"system.slice:runc:x\" has systemd's form slice:prefix:name, but the cgroupfs driver is in use",
            ),
        );
    }

    #[test]
    fn parents_end_at_the_root() {
        let path: CgroupPath = "/a/b".parse().unwrap();
        let parent = path.parent().unwrap();
        assert_eq!(parent.as_str(), "/a");
        assert_eq!(parent.parent().unwrap().as_str(), "/");
        assert_eq!(parent.parent().unwrap().parent(), None);
    }
}
