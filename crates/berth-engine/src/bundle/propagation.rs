//! Whether what is mounted on the host can pass mounts on, as a bind with propagation demands.

use std::path::{Path, PathBuf};

use crate::{EngineError, spec::Propagation};

/// Refuses a propagation that the mount below `source` does not have: nothing would ever arrive.
pub(super) fn check(source: &Path, wanted: Propagation) -> Result<(), EngineError> {
    let (tags, demanded): (&[&str], _) = match wanted {
        Propagation::Private | Propagation::Rprivate => return Ok(()),
        Propagation::Shared | Propagation::Rshared => (&["shared:"], "shared"),
        Propagation::Slave | Propagation::Rslave => (&["shared:", "master:"], "shared or slave"),
    };
    let file = "/proc/self/mountinfo";
    let table = std::fs::read_to_string(file).map_err(|source| EngineError::Io {
        what: "reading",
        path: file.into(),
        source,
    })?;
    let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    match mount_of(&table, &real) {
        Some((point, optional)) if !optional.iter().any(|field| tags.iter().any(|tag| field.starts_with(tag))) => {
            Err(EngineError::internal(format!(
                "path {} is mounted on {} but it is not a {demanded} mount",
                source.display(),
                point.display()
            )))
        }
        _ => Ok(()),
    }
}

/// The mount that holds a path: its mount point and its optional fields. See proc_pid_mountinfo(5).
fn mount_of<'a>(table: &'a str, path: &Path) -> Option<(PathBuf, Vec<&'a str>)> {
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let point = PathBuf::from(unescaped(fields.nth(4)?));
        let optional = fields.skip(1).take_while(|field| *field != "-").collect();
        path.starts_with(&point).then_some((point, optional))
    });
    // Of two at the same place the later one lies on top.
    mounts.max_by_key(|(point, _)| point.components().count())
}

/// The table writes blanks and the like as octal numbers.
fn unescaped(field: &str) -> String {
    let letters = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    letters.iter().fold(field.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 8:1 / / rw,relatime - ext4 /dev/sda rw
30 21 0:30 / /mnt rw shared:7 - tmpfs a rw
31 21 0:31 / /mnt rw master:7 propagate_from:2 - tmpfs b rw
32 21 0:32 / /mnt/a\\040b rw - tmpfs c rw
";

    #[test]
    fn the_topmost_mount_that_holds_the_path_decides() {
        let found = |path: &str| mount_of(TABLE, Path::new(path)).expect("the root holds all");
        assert_eq!(found("/srv"), (PathBuf::from("/"), vec![]));
        assert_eq!(found("/mnt/x"), (PathBuf::from("/mnt"), vec!["master:7", "propagate_from:2"]));
        assert_eq!(found("/mnt/a b/c"), (PathBuf::from("/mnt/a b"), vec![]));
        assert_eq!(found("/mntx"), (PathBuf::from("/"), vec![]));
    }
}
