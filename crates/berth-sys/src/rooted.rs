//! Paths inside a root that somebody else fills: nothing resolved here ever leads out of it. See openat2(2).
//!
//! Absolute paths and absolute links count from the root, `..` stops at it, and magic links of procfs are refused.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The kernel's own limit for links in one path.
const MOST_LINKS: usize = 40;

/// Opens `path` inside `root`, following links within it.
///
/// # Errors
/// Those of openat2(2): `ENOENT`, `ELOOP`, and `EAGAIN` when somebody renames directories all the while.
pub fn open(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    open_resolving(root.as_fd(), path.as_ref(), flags, mode, resolve)
}

/// Opens `path` beneath `directory` without any link and without crossing a mount: what the file system there shows itself.
///
/// # Errors
/// `ELOOP` for a link, `EXDEV` for a mount on the way.
pub fn open_plain(directory: impl AsFd, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open_resolving(directory.as_fd(), path.as_ref(), flags, mode, resolve)
}

fn open_resolving(
    directory: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    // The kernel gives up with EAGAIN when something is renamed meanwhile; a busy host is no reason to fail.
    const TRIES: usize = 64;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            result => return Ok(result?),
        }
    }
}

/// Opens the directory at `path` inside `root` as a path descriptor, making it and its parents where they are missing.
///
/// A link on the way, dangling or not, is followed within the root.
///
/// # Errors
/// `ENOTDIR` when a file is in the way, `EROFS`, `ELOOP`.
pub fn make_directories(root: impl AsFd, path: impl AsRef<Path>, mode: Mode) -> io::Result<OwnedFd> {
    let (root, path) = (root.as_fd(), path.as_ref());
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open(root, path, flags, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    if let Some(made) = make_last(root, path, mode) {
        return Ok(made);
    }
    let mut walk = Walk::new(path);
    while let Some(name) = walk.pending.pop_front() {
        walk.step(root, &name, mode)?;
    }
    open_resolving(root, &walk.resolved, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Mostly only the last name is missing. Whatever is in the way of so short a way is met, or reported, on the long one.
fn make_last(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Option<OwnedFd> {
    let (parent, name) = open_parent(root, path).ok()?;
    rustix::fs::mkdirat(&parent, name, mode).ok()?;
    open_plain(&parent, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).ok()
}

/// Opens the file at `path` inside `root` as a path descriptor, making an empty one and its parents where they are missing.
///
/// # Errors
/// As [`make_directories`].
pub fn make_file(root: impl AsFd, path: impl AsRef<Path>, mode: Mode) -> io::Result<OwnedFd> {
    let (root, path) = (root.as_fd(), path.as_ref());
    match open(root, path, OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    if let Some(parent) = path.parent() {
        make_directories(root, parent, Mode::from_raw_mode(0o755))?;
    }
    // Opened for reading so that it is made; a path descriptor cannot make anything.
    let made = open(root, path, OFlags::RDONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY, mode)?;
    drop(made);
    open(root, path, OFlags::PATH, Mode::empty())
}

/// Splits `path` into the opened parent directory inside `root` and the last name.
///
/// # Errors
/// `EINVAL` for a path without a last name, such as `/` or one that ends in `..`.
pub fn open_parent(root: impl AsFd, path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    let parent = open(root, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    Ok((parent, name))
}

/// The making of directories: `resolved` exists, has no links and is relative to the root; `pending` is still to be walked.
struct Walk {
    resolved: PathBuf,
    pending: VecDeque<OsString>,
    links: usize,
}

impl Walk {
    fn new(path: &Path) -> Walk {
        let mut walk = Walk { resolved: PathBuf::from("."), pending: VecDeque::new(), links: 0 };
        walk.prepend(path);
        walk
    }

    fn prepend(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.pending.push_front(name.to_owned()),
                Component::ParentDir => self.pending.push_front(OsString::from("..")),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn step(&mut self, root: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> io::Result<()> {
        if name == ".." {
            self.resolved.pop();
            if self.resolved.as_os_str().is_empty() {
                self.resolved.push(".");
            }
            return Ok(());
        }
        let parent = self.open(root, &self.resolved)?;
        match rustix::fs::mkdirat(&parent, name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                if let Ok(target) = rustix::fs::readlinkat(&parent, name, Vec::new()) {
                    return self.follow(Path::new(OsStr::from_bytes(target.to_bytes())));
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.resolved.push(name);
        self.open(root, &self.resolved).map(drop)
    }

    fn open(&self, root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        open_resolving(root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), resolve)
    }

    fn follow(&mut self, target: &Path) -> io::Result<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        if target.is_absolute() {
            self.resolved = PathBuf::from(".");
        }
        self.prepend(target);
        Ok(())
    }
}

/// Reads the whole of a small file through its descriptor.
///
/// # Errors
/// Those of read(2); `EFBIG` beyond `limit` bytes, since whoever fills the root chooses the size.
pub fn read_to_end(file: impl AsFd, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Ok(content),
            Ok(count) if content.len() + count > limit => return Err(Errno::FBIG.into()),
            Ok(count) => content.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The target of the link `name` in `directory`.
///
/// # Errors
/// `EINVAL` when it is no link.
pub fn read_link(directory: impl AsFd, name: &OsStr) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> (Scratch, OwnedFd) {
            let path = std::env::temp_dir().join(format!("berth-test-rooted-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root")).unwrap();
            let root = rustix::fs::open(path.join("root"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            (Scratch(path), root)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const ALL: Mode = Mode::RWXU;

    #[test]
    fn directories_are_made_inside_however_the_path_is_spelled() {
        let (scratch, root) = Scratch::new("spelled");
        for (path, lands) in
            [("/a/b", "root/a/b"), ("c/../../../d", "root/d"), ("/dev/../e/./f", "root/e/f"), ("/../../g", "root/g")]
        {
            make_directories(&root, path, ALL).unwrap();
            assert!(scratch.0.join(lands).is_dir(), "{path}");
        }
    }

    #[test]
    fn links_are_followed_within_the_root_even_when_they_dangle() {
        let (scratch, root) = Scratch::new("links");
        let inside = scratch.0.join("root");
        symlink("/outside/deep", inside.join("absolute")).unwrap();
        symlink("../../../up", inside.join("relative")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        make_directories(&root, "/absolute/x", ALL).unwrap();
        make_directories(&root, "/relative/y", ALL).unwrap();
        assert!(inside.join("outside/deep/x").is_dir());
        assert!(inside.join("up/y").is_dir());
        assert!(!scratch.0.join("up").exists());
        let error = make_directories(&root, "/loop/z", ALL).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn files_are_made_where_they_are_missing() {
        let (scratch, root) = Scratch::new("files");
        symlink("/etc/real", scratch.0.join("root/link")).unwrap();
        make_file(&root, "/etc/hosts", Mode::from_raw_mode(0o644)).unwrap();
        make_directories(&root, "/etc", ALL).unwrap();
        make_file(&root, "/link", Mode::from_raw_mode(0o644)).unwrap();
        assert!(scratch.0.join("root/etc/hosts").is_file());
        assert!(scratch.0.join("root/etc/real").is_file());
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let (scratch, root) = Scratch::new("way");
        std::fs::write(scratch.0.join("root/file"), "").unwrap();
        let error = make_directories(&root, "/file/below", ALL).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    }
}
