//! Copies out of a stack of layers: a file that a layer refers to, or a directory into a new volume.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use crate::{
    name::push_part,
    tree::{copy_attributes, stat_times, tolerate},
    view::{LayerView, Node, file_type},
};

/// Copies what the tree shows at `path` into the directory `target`: content, and the owner, mode, times and extended attributes of the
/// directory itself and of everything in it. Hard links within it stay hard links.
///
/// Symbolic links in `path` are followed inside the tree, those in the content are copied as they are. Gives `false`, and copies nothing,
/// where the tree has no directory at `path`.
///
/// # Errors
/// What the file system says; the copy is then incomplete.
pub fn copy_directory(view: &LayerView, path: &[u8], target: BorrowedFd<'_>) -> io::Result<bool> {
    let Some((real, node)) = view.resolve(path)? else {
        return Ok(false);
    };
    if !node.is_directory() {
        return Ok(false);
    }
    let mut copier = Copier { view, links: HashMap::new() };
    copier.directory(&real, &node, target)?;
    Ok(true)
}

struct Copier<'a> {
    view: &'a LayerView,
    /// Files with several names that were copied already: by layer and inode, where their copy is.
    links: HashMap<(usize, u64), (OwnedFd, Vec<u8>)>,
}

impl Copier<'_> {
    fn directory(&mut self, path: &[u8], node: &Node, target: BorrowedFd<'_>) -> io::Result<()> {
        for (name, child) in self.view.read_directory(path)? {
            let mut child_path = path.to_vec();
            push_part(&mut child_path, &name);
            if child.is_directory() {
                rustix::fs::mkdirat(target, name.as_slice(), Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(target, name.as_slice(), flags, Mode::empty())?;
                self.directory(&child_path, &child, made.as_fd())?;
            } else {
                self.entry(&child_path, &child, target, &name)?;
            }
        }
        let original = self.view.open_node(path, node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        copy_attributes(original.as_fd(), &node.stat, target)
    }

    fn entry(&mut self, path: &[u8], node: &Node, target: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let several_names = node.stat.st_nlink > 1;
        let key = (node.layer, node.stat.st_ino);
        if several_names && let Some((directory, first)) = self.links.get(&key) {
            return Ok(rustix::fs::linkat(directory, first.as_slice(), target, name, AtFlags::empty())?);
        }
        if file_type(&node.stat) == FileType::RegularFile {
            copy_file(self.view, path, node, target, name)?;
        } else {
            copy_special(self.view, path, node, target, name)?;
        }
        if several_names {
            self.links.insert(key, (target.try_clone_to_owned()?, name.to_vec()));
        }
        Ok(())
    }
}

/// Copies one regular file of the tree, as `name` in `target`. Blocks are shared where the file system can.
pub(crate) fn copy_file(
    view: &LayerView,
    path: &[u8],
    node: &Node,
    target: BorrowedFd<'_>,
    name: &[u8],
) -> io::Result<()> {
    let from = view.open_node(path, node, OFlags::RDONLY)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
        let (mut from, mut to) = (std::fs::File::from(from.try_clone()?), std::fs::File::from(to.try_clone()?));
        io::copy(&mut from, &mut to)?;
    }
    copy_attributes(from.as_fd(), &node.stat, to.as_fd())
}

/// Copies a symbolic link, a device, a pipe or a socket's name.
fn copy_special(view: &LayerView, path: &[u8], node: &Node, target: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let kind = file_type(&node.stat);
    if kind == FileType::Symlink {
        rustix::fs::symlinkat(view.read_link(path, node)?.as_slice(), target, name)?;
    } else {
        let mode = Mode::from_raw_mode(node.stat.st_mode & 0o7777);
        rustix::fs::mknodat(target, name, kind, mode, node.stat.st_rdev)?;
        rustix::fs::chmodat(target, name, mode, AtFlags::empty())?;
    }
    let (uid, gid) = (Uid::from_raw(node.stat.st_uid), Gid::from_raw(node.stat.st_gid));
    rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    copy_link_xattrs(view, path, node, target, name)?;
    Ok(rustix::fs::utimensat(target, name, &stat_times(&node.stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Attributes of what has no descriptor that takes them: by way of `/proc/self/fd`, whose last part is not followed.
fn copy_link_xattrs(view: &LayerView, path: &[u8], node: &Node, target: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let (above, base) = crate::name::split(path);
    let parent = view.open_node(above, node, OFlags::PATH | OFlags::DIRECTORY)?;
    let from = by_descriptor(parent.as_fd(), base);
    let mut names = vec![0_u8; 4096];
    let len = match rustix::fs::llistxattr(&from, &mut names[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP | Errno::PERM) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for attribute in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty() && !crate::tree::is_overlay_attribute(n))
    {
        let mut value = vec![0_u8; 65_536];
        let len = rustix::fs::lgetxattr(&from, attribute, &mut value[..])?;
        let to = by_descriptor(target, name);
        tolerate(attribute, rustix::fs::lsetxattr(to, attribute, &value[..len], rustix::fs::XattrFlags::empty()))?;
    }
    Ok(())
}

fn by_descriptor(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
