//! The directory a layer is unpacked into: descriptors of its directories, opened beneath the root and kept for the next member.

use std::{
    collections::HashMap,
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use crate::{
    apply::{Assumptions, Below},
    error::ArchiveError,
    member::Time,
    name::{parts, push_part, stack, truncate_to_parent},
    view::{LayerView, file_type, is_opaque, is_whiteout, open_beneath},
};

/// How many directories are kept open. Archives come directory by directory; few are needed at a time.
const MAX_OPEN: usize = 64;
/// How many symbolic links a parent may lead through; the kernel's limit.
const MAX_LINKS: usize = 40;

/// A layer directory being filled, above the layers that lie below it.
pub(crate) struct Tree {
    root: Rc<OwnedFd>,
    lower: LayerView,
    /// Where nobody knows the layers below yet: what is taken for granted about them.
    assumed: Option<Assumptions>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    opaque_name: &'static std::ffi::CStr,
    /// Directories that no member named, as they came to be: for the count of used space.
    pub implied: u64,
}

impl Tree {
    pub fn new(root: OwnedFd, below: Below, opaque_name: &'static std::ffi::CStr) -> Self {
        let (lower, assumed) = match below {
            Below::Layers(lower) => (lower, None),
            Below::Unknown => (LayerView::empty(), Some(Assumptions::about_unknown())),
        };
        Self { root: Rc::new(root), lower, assumed, open: HashMap::new(), opaque_name, implied: 0 }
    }

    /// A member says what the directory at a clean path looks like.
    pub fn named(&mut self, path: &[u8]) {
        if let Some(assumed) = &mut self.assumed {
            assumed.named(path);
        }
    }

    /// # Errors
    /// That the layers below are not known yet, where the caller cannot go on without.
    pub fn must_know_lower(&self) -> io::Result<()> {
        match self.assumed {
            Some(_) => Err(io::Error::other("the layers below are not known yet")),
            None => Ok(()),
        }
    }

    pub fn into_assumptions(self) -> Assumptions {
        self.assumed.unwrap_or_default()
    }

    pub fn root(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.root)
    }

    /// The directory at a path as members name it, made if it is missing. Symbolic links on the way are followed inside the tree.
    pub fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, ArchiveError> {
        if path.is_empty() {
            return Ok(self.root());
        }
        if let Some(known) = self.open.get(path) {
            return Ok(Rc::clone(known));
        }
        let opened = match open_beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(opened) => Rc::new(opened),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.walk(path, Missing::Make)?,
            Err(error) => return Err(ArchiveError::write("opening", path, error)),
        };
        self.remember(path, &opened);
        Ok(opened)
    }

    /// As [`Tree::directory`], but nothing is made where neither this layer nor those below have it.
    pub fn existing_directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, ArchiveError> {
        match self.open.get(path) {
            Some(known) => Ok(Rc::clone(known)),
            None => self.walk(path, Missing::Fail),
        }
    }

    /// Keeps a directory that was just made.
    pub fn remember(&mut self, path: &[u8], directory: &Rc<OwnedFd>) {
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), Rc::clone(directory));
    }

    /// Forgets all open directories: one of them may be gone.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// Forgets directories whose path leads through `name`, which is about to become something else: a symbolic link of a lower layer may
    /// have stood there.
    pub fn forget_below(&mut self, name: &[u8]) {
        if !self.has_no_lower() {
            self.open.retain(|path, _| !(path.starts_with(name) && path.get(name.len()) == Some(&b'/')));
        }
    }

    /// The directory of this layer at a clean path, if there still is one.
    pub fn still_there(&self, path: &[u8]) -> Option<OwnedFd> {
        self.open_real(path).ok()
    }

    pub fn lower(&self) -> &LayerView {
        &self.lower
    }

    /// Hides what lower layers have in a directory.
    pub fn make_opaque(&self, directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
        rustix::fs::fsetxattr(directory, self.opaque_name, b"y", XattrFlags::empty())
    }

    /// Walks a path part by part, over this layer and those below: what only they have as a directory is made here with their
    /// attributes, because in an overlay the uppermost directory's attributes are the ones that show.
    fn walk(&mut self, path: &[u8], missing: Missing) -> Result<Rc<OwnedFd>, ArchiveError> {
        let failed = |error: Errno| ArchiveError::write("opening", path, error);
        let mut left = stack(path);
        let mut real = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == b".." {
                truncate_to_parent(&mut real);
                continue;
            }
            if part == b"." {
                continue;
            }
            let parent = self.open_real(&real).map_err(failed)?;
            let target =
                match self.step(&parent, &real, &part, missing).map_err(|e| ArchiveError::write("opening", path, e))? {
                    Step::Directory => {
                        push_part(&mut real, &part);
                        continue;
                    }
                    Step::Link(target) => target,
                };
            links += 1;
            if links > MAX_LINKS {
                return Err(failed(Errno::LOOP));
            }
            if target.starts_with(b"/") {
                real.clear();
            }
            left.extend(stack(&target));
        }
        Ok(Rc::new(self.open_real(&real).map_err(failed)?))
    }

    fn open_real(&self, real: &[u8]) -> rustix::io::Result<OwnedFd> {
        open_beneath(self.root.as_fd(), real, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Looks at one part: a directory is there (or is made), or a symbolic link leads elsewhere.
    fn step(&mut self, parent: &OwnedFd, above: &[u8], part: &[u8], missing: Missing) -> io::Result<Step> {
        let here = match rustix::fs::statat(parent, part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        match here {
            Some(stat) if file_type(&stat) == FileType::Directory => return Ok(Step::Directory),
            Some(stat) if file_type(&stat) == FileType::Symlink => {
                return Ok(Step::Link(rustix::fs::readlinkat(parent, part, Vec::new())?.into_bytes()));
            }
            // A whiteout followed by something beneath it: the directory begins anew.
            Some(stat) if is_whiteout(&stat) && missing == Missing::Make => {
                rustix::fs::unlinkat(parent, part, AtFlags::empty())?;
                let made = self.make(parent, part)?;
                self.make_opaque(made.as_fd())?;
                return Ok(Step::Directory);
            }
            Some(_) => return Err(Errno::NOTDIR.into()),
            None => {}
        }
        let mut path = above.to_vec();
        push_part(&mut path, part);
        let hidden = self.hides_lower(above)?;
        if !hidden && let Some(assumed) = &mut self.assumed {
            match missing {
                Missing::Make => assumed.implied(&path),
                Missing::Fail => self.must_know_lower()?,
            }
        }
        let below = if hidden { None } else { self.lower.find(&path)? };
        match below {
            Some(node) if node.is_directory() => {
                let made = self.make(parent, part)?;
                let original = self.lower.open_node(&path, &node, OFlags::RDONLY | OFlags::DIRECTORY)?;
                copy_attributes(original.as_fd(), &node.stat, made.as_fd())?;
                Ok(Step::Directory)
            }
            Some(node) if file_type(&node.stat) == FileType::Symlink => {
                Ok(Step::Link(self.lower.read_link(&path, &node)?))
            }
            Some(_) => Err(Errno::NOTDIR.into()),
            None if missing == Missing::Make => {
                self.make(parent, part)?;
                Ok(Step::Directory)
            }
            None => Err(Errno::NOENT.into()),
        }
    }

    fn has_no_lower(&self) -> bool {
        self.lower.is_empty() && self.assumed.is_none()
    }

    /// Whether a directory of this layer at or above `path` is opaque.
    pub fn hides_lower(&self, path: &[u8]) -> io::Result<bool> {
        if self.has_no_lower() {
            return Ok(true);
        }
        let mut above = Vec::new();
        for part in parts(path) {
            push_part(&mut above, part);
            if is_opaque(self.open_real(&above)?.as_fd()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn make(&mut self, parent: &OwnedFd, part: &[u8]) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(parent, part, Mode::from_raw_mode(0o755))?;
        self.implied += 1;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, part, flags, Mode::empty())?;
        // Whatever the umask of this process is.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
        Ok(made)
    }
}

/// What to do about a directory that is nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Fail,
}

enum Step {
    Directory,
    Link(Vec<u8>),
}

/// Gives `to` the owner, mode, attributes and times of `from`.
pub(crate) fn copy_attributes(from: BorrowedFd<'_>, stat: &Stat, to: BorrowedFd<'_>) -> io::Result<()> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, value) in xattrs(from)? {
        set_xattr(to, &name, &value)?;
    }
    Ok(rustix::fs::futimens(to, &stat_times(stat))?)
}

/// The extended attributes of an open file, without those that belong to overlay itself.
pub(crate) fn xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = vec![0_u8; 1024];
    let len = loop {
        match rustix::fs::flistxattr(file, &mut names[..]) {
            Ok(len) => break len,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty() && !is_overlay_attribute(n)) {
        let name = CString::new(name).expect("split at NUL bytes");
        let mut value = vec![0_u8; 65_536];
        match rustix::fs::fgetxattr(file, &name, &mut value[..]) {
            Ok(len) => value.truncate(len),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((name, value));
    }
    Ok(found)
}

/// Attributes by which overlay keeps its books. An image must not set them: `redirect` and `metacopy` would show it other files than its own.
pub(crate) fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Sets an extended attribute; one that this file system or kind of file cannot have is passed over, as other engines do.
pub(crate) fn set_xattr(file: BorrowedFd<'_>, name: &CString, value: &[u8]) -> rustix::io::Result<()> {
    tolerate(name.as_bytes(), rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))
}

pub(crate) fn tolerate(name: &[u8], done: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match done {
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(Errno::PERM) if name.starts_with(b"user.") => Ok(()),
        done => done,
    }
}

pub(crate) fn stat_times(stat: &Stat) -> Timestamps {
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    let time = |seconds: i64, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

pub(crate) fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() }
}

/// Removes a name and everything beneath it. Never follows a symbolic link.
pub(crate) fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return done,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            remove_all(directory.as_fd(), entry.file_name().to_bytes())?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
