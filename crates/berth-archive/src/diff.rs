//! What a writable layer changes in the tree below it.
//!
//! Only the layer is walked; of the tree below only what stands at the same paths is looked at. What was touched but is as it was is no
//! change, and a directory counts as changed when something in it is.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};

use crate::{
    error::ArchiveError,
    name::push_part,
    view::{LayerView, Node, file_type, is_opaque, is_whiteout, open_beneath},
};

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From the root, without a leading slash.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another one, or has other attributes, or something in it changed.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// What the layer `upper` changes in the tree `lower`, by path.
///
/// # Errors
/// [`ArchiveError::Write`] with the path that could not be read.
pub fn changes(upper: BorrowedFd<'_>, lower: &LayerView) -> Result<Vec<Change>, ArchiveError> {
    let mut differ = Differ { upper, lower, found: Vec::new() };
    // Paths of directories, each with whether the tree below has one there too: a container may nest them deeper than a stack allows.
    let mut todo = vec![(Vec::new(), true)];
    while let Some((path, in_lower)) = todo.pop() {
        let done = differ.directory(&path, in_lower, &mut todo);
        done.map_err(|e| ArchiveError::write("comparing", &path, e))?;
    }
    let mut found = differ.found;
    add_parents(&mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Differ<'a> {
    upper: BorrowedFd<'a>,
    lower: &'a LayerView,
    found: Vec<Change>,
}

impl Differ<'_> {
    fn directory(&mut self, path: &[u8], in_lower: bool, todo: &mut Vec<(Vec<u8>, bool)>) -> io::Result<()> {
        let directory = open_beneath(self.upper, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let opaque = is_opaque(directory.as_fd());
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            let mut child = path.to_vec();
            push_part(&mut child, name);
            let before = if in_lower { self.lower.find(&child)? } else { None };
            self.entry(child, &stat, before.as_ref(), todo)?;
            names.push(name.to_vec());
        }
        if opaque && in_lower {
            for name in self.lower.read_directory(path)?.into_keys().filter(|name| !names.contains(name)) {
                let mut child = path.to_vec();
                push_part(&mut child, &name);
                self.add(child, ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: Vec<u8>,
        stat: &Stat,
        before: Option<&Node>,
        todo: &mut Vec<(Vec<u8>, bool)>,
    ) -> io::Result<()> {
        let is_directory = file_type(stat) == FileType::Directory;
        let was_directory = before.is_some_and(Node::is_directory);
        match before {
            _ if is_whiteout(stat) => {
                if before.is_some() {
                    self.add(path, ChangeKind::Deleted);
                }
                return Ok(());
            }
            None => self.add(path.clone(), ChangeKind::Added),
            Some(node) if self.differs(&path, stat, node)? => self.add(path.clone(), ChangeKind::Modified),
            Some(_) => {}
        }
        if was_directory && !is_directory {
            for name in self.lower.read_directory(&path)?.into_keys() {
                let mut child = path.clone();
                push_part(&mut child, &name);
                self.add(child, ChangeKind::Deleted);
            }
        }
        if is_directory {
            todo.push((path, was_directory));
        }
        Ok(())
    }

    /// Whether two things of the same name differ. Time and size of directories say nothing.
    fn differs(&self, path: &[u8], now: &Stat, before: &Node) -> io::Result<bool> {
        let then = &before.stat;
        let attributes = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        if attributes(now) != attributes(then) {
            return Ok(true);
        }
        let kind = file_type(now);
        if kind != FileType::Directory && (now.st_size != then.st_size || !same_time(now, then)) {
            return Ok(true);
        }
        if kind != FileType::RegularFile {
            return Ok(false);
        }
        let upper = open_beneath(self.upper, path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let lower = self.lower.open_node(path, before, OFlags::PATH)?;
        Ok(capability(upper.as_fd()) != capability(lower.as_fd()))
    }

    fn add(&mut self, path: Vec<u8>, kind: ChangeKind) {
        self.found.push(Change { path, kind });
    }
}

/// Archives often keep whole seconds: then the fraction of the other one says nothing.
fn same_time(one: &Stat, other: &Stat) -> bool {
    let (a, b) = (one.st_mtime_nsec, other.st_mtime_nsec);
    one.st_mtime == other.st_mtime && (a == b || a == 0 || b == 0)
}

/// The file's capabilities; nothing where it has none.
fn capability(file: BorrowedFd<'_>) -> Vec<u8> {
    let mut value = vec![0_u8; 64];
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let len = rustix::fs::getxattr(path, c"security.capability", &mut value[..]).unwrap_or(0);
    value.truncate(len);
    value
}

/// A directory in which something changed has changed.
fn add_parents(found: &mut Vec<Change>) {
    let mut known: std::collections::HashSet<Vec<u8>> = found.iter().map(|change| change.path.clone()).collect();
    for at in 0..found.len() {
        let mut path = found[at].path.clone();
        loop {
            crate::name::truncate_to_parent(&mut path);
            if path.is_empty() || !known.insert(path.clone()) {
                break;
            }
            found.push(Change { path: path.clone(), kind: ChangeKind::Modified });
        }
    }
}
