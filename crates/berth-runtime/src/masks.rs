//! Paths that a container must not read, or not write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::mount::{AttributeChange, Attributes, Depth, Filesystem, Interface};
use berth_sys::{mount, rooted};
use rustix::fs::{FileType, Mode, OFlags};

use crate::devices;
use crate::error::{RuntimeError, Step};

const READ_ONLY: AttributeChange<'static> =
    AttributeChange { clear: Attributes::NONE, set: Attributes::READ_ONLY, user_namespace: None };

/// Makes paths read-only; those that are missing are skipped.
pub(crate) fn make_read_only(
    interface: Interface,
    root: BorrowedFd<'_>,
    paths: &[PathBuf],
) -> Result<(), RuntimeError> {
    for path in paths {
        if let Some(target) = open_present(root, path)? {
            let reopen = || rooted::open(root, path, OFlags::PATH, Mode::empty());
            mount::bind_changed(interface, target.as_fd(), Depth::Tree, &READ_ONLY, target.as_fd(), reopen)
                .step("making read-only", path)?;
        }
    }
    Ok(())
}

/// Hides paths: files behind `/dev/null`, directories behind an empty one; those that are missing are skipped.
pub(crate) fn mask(interface: Interface, root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), RuntimeError> {
    let mut cover = Cover { interface, root, null: None, empty: None };
    for path in paths {
        if let Some(target) = open_present(root, path)? {
            cover.hide(&target, path)?;
        }
    }
    Ok(())
}

fn open_present(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, RuntimeError> {
    match rooted::open(root, path, OFlags::PATH, Mode::empty()) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).step("opening", path),
    }
}

/// What lies over hidden paths. One empty file system serves all directories: a mount each, not a tmpfs each.
struct Cover<'a> {
    interface: Interface,
    root: BorrowedFd<'a>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Cover<'_> {
    fn hide(&mut self, target: &OwnedFd, path: &Path) -> Result<(), RuntimeError> {
        let status = rustix::fs::fstat(target).step("reading", path)?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            return self.hide_directory(target, path);
        }
        let null = match &self.null {
            Some(null) => null,
            None => self.null.insert(devices::open_null(self.root)?),
        };
        mount::bind(self.interface, null.as_fd(), Depth::Single, target.as_fd()).step("masking", path)
    }

    fn hide_directory(&mut self, target: &OwnedFd, path: &Path) -> Result<(), RuntimeError> {
        if let Some(empty) = &self.empty {
            // A copy is as read-only as the mount it is made of.
            return mount::bind(self.interface, empty.as_fd(), Depth::Single, target.as_fd()).step("masking", path);
        }
        let data = ["nr_blocks=1".to_owned(), "nr_inodes=1".to_owned()];
        let tmpfs = Filesystem { kind: "tmpfs", source: "tmpfs", data: &data };
        let reopen = || rooted::open(self.root, path, OFlags::PATH, Mode::empty());
        let empty = mount::mount_and_open(self.interface, &tmpfs, Attributes::READ_ONLY, target.as_fd(), reopen);
        self.empty = Some(empty.step("masking", path)?);
        Ok(())
    }
}
