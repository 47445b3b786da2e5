//! A stack of layer directories read as one tree, as overlay would show it, without mounting anything.
//!
//! Upper layers hide lower ones: a character device 0:0 hides the name, the attribute `overlay.opaque` hides what lower layers have in that
//! directory, and anything that is no directory hides what lies below it. Symbolic links are followed inside the tree only.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use crate::name::{parts, push_part, stack, truncate_to_parent};

/// How many symbolic links a path may lead through; the kernel's limit.
const MAX_LINKS: usize = 40;
/// Paths are opened beneath a layer's root, and never through a symbolic link: those are followed here, across layers.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A stack of layer directories.
pub struct LayerView {
    /// Uppermost first.
    layers: Vec<OwnedFd>,
}

/// Something in the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// The layer that shows it, 0 for the uppermost.
    pub(crate) layer: usize,
    /// What it is.
    pub(crate) stat: Stat,
}

/// What one layer says about a path.
enum Seen {
    Here(Stat),
    /// Not here; lower layers may have it.
    Absent,
    /// Not here, and lower layers do not count.
    Hidden,
}

impl Node {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        file_type(&self.stat) == FileType::Directory
    }
}

impl LayerView {
    /// Opens layer directories, lowest first.
    ///
    /// # Errors
    /// The first directory that cannot be opened.
    pub fn open<P: AsRef<Path>>(lowest_first: &[P]) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut layers = Vec::with_capacity(lowest_first.len());
        for path in lowest_first.iter().rev() {
            layers.push(rustix::fs::open(path.as_ref(), flags, Mode::empty())?);
        }
        Ok(Self { layers })
    }

    /// A view of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { layers: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Finds a path whose parents are no symbolic links, and does not follow it if it is one itself. The root is the empty path.
    ///
    /// # Errors
    /// What the file system says, except that there is no such path.
    pub fn find(&self, path: &[u8]) -> io::Result<Option<Node>> {
        for (layer, root) in self.layers.iter().enumerate() {
            match seen(root.as_fd(), path)? {
                Seen::Here(stat) if is_whiteout(&stat) => return Ok(None),
                Seen::Here(stat) => return Ok(Some(Node { layer, stat })),
                Seen::Hidden => return Ok(None),
                Seen::Absent => {}
            }
        }
        Ok(None)
    }

    /// Where a path of the tree leads once all symbolic links are followed; `None` if it leads nowhere.
    ///
    /// # Errors
    /// `ELOOP`, or what the file system says.
    pub fn resolve(&self, path: &[u8]) -> io::Result<Option<(Vec<u8>, Node)>> {
        let mut left = stack(path);
        let mut real = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    truncate_to_parent(&mut real);
                    continue;
                }
                part => push_part(&mut real, part),
            }
            let Some(node) = self.find(&real)? else {
                return Ok(None);
            };
            match file_type(&node.stat) {
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = self.read_link(&real, &node)?;
                    truncate_to_parent(&mut real);
                    if target.starts_with(b"/") {
                        real.clear();
                    }
                    left.extend(stack(&target));
                }
                FileType::Directory => {}
                _ if left.is_empty() => {}
                _ => return Ok(None),
            }
        }
        Ok(self.find(&real)?.map(|node| (real, node)))
    }

    /// The bytes of a file, its path resolved inside the tree; `None` if there is no such file or it is longer than `limit`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_file(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        use io::Read as _;
        let Some((real, node)) = self.resolve(path.as_bytes())? else {
            return Ok(None);
        };
        if file_type(&node.stat) != FileType::RegularFile || node.stat.st_size as u64 > limit {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        std::fs::File::from(self.open_node(&real, &node, OFlags::RDONLY)?).take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The names in a directory, each with the node that the tree shows.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_directory(&self, path: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Node>> {
        let mut names: BTreeMap<Vec<u8>, Option<Node>> = BTreeMap::new();
        for (layer, directory) in self.directories(path)? {
            list_layer(&directory, layer, &mut names)?;
        }
        Ok(names.into_iter().filter_map(|(name, node)| Some((name, node?))).collect())
    }

    /// The layers that together show a path whose parents are no symbolic links, 0 for the uppermost: several for a directory, at most
    /// one for anything else.
    ///
    /// # Errors
    /// What the file system says, except that there is no such path.
    pub fn layers_of(&self, path: &[u8]) -> io::Result<Vec<usize>> {
        match self.find(path)? {
            Some(node) if node.is_directory() => {
                Ok(self.directories(path)?.into_iter().map(|(layer, _)| layer).collect())
            }
            found => Ok(found.into_iter().map(|node| node.layer).collect()),
        }
    }

    /// The directories that are shown as one, uppermost first.
    fn directories(&self, path: &[u8]) -> io::Result<Vec<(usize, OwnedFd)>> {
        let mut directories = Vec::new();
        for (layer, root) in self.layers.iter().enumerate() {
            match seen(root.as_fd(), path)? {
                Seen::Hidden => break,
                Seen::Absent => continue,
                Seen::Here(stat) if file_type(&stat) != FileType::Directory => break,
                Seen::Here(_) => {}
            }
            let directory = open_beneath(root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let opaque = is_opaque(directory.as_fd());
            directories.push((layer, directory));
            if opaque || self.hides_lower(root.as_fd(), path)? {
                break;
            }
        }
        Ok(directories)
    }

    /// Opens a node that [`LayerView::find`] or [`LayerView::read_directory`] gave.
    pub(crate) fn open_node(&self, path: &[u8], node: &Node, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(open_beneath(self.layers[node.layer].as_fd(), path, flags | OFlags::NOFOLLOW)?)
    }

    /// Opens a path in one of the layers.
    pub(crate) fn open_in(&self, layer: usize, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        Ok(open_beneath(self.layers[layer].as_fd(), path, flags | OFlags::NOFOLLOW)?)
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, path: &[u8], node: &Node) -> io::Result<Vec<u8>> {
        let link = self.open_node(path, node, OFlags::PATH)?;
        Ok(rustix::fs::readlinkat(&link, c"", Vec::new())?.into_bytes())
    }

    /// Whether a directory above `path` is opaque in this layer.
    fn hides_lower(&self, root: BorrowedFd<'_>, path: &[u8]) -> io::Result<bool> {
        let mut above = Vec::new();
        for part in parts(path) {
            push_part(&mut above, part);
            match open_beneath(root, &above, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) if is_opaque(directory.as_fd()) => return Ok(true),
                Ok(_) => {}
                Err(Errno::NOENT) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

fn list_layer(directory: &OwnedFd, layer: usize, names: &mut BTreeMap<Vec<u8>, Option<Node>>) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || names.contains_key(name) {
            continue;
        }
        let stat = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        names.insert(name.to_vec(), (!is_whiteout(&stat)).then_some(Node { layer, stat }));
    }
    Ok(())
}

fn seen(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Seen> {
    match open_beneath(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => return Ok(Seen::Here(rustix::fs::fstat(&found)?)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
        Err(error) => return Err(error.into()),
    }
    let mut above = Vec::new();
    for part in parts(path) {
        push_part(&mut above, part);
        let directory = match open_beneath(root, &above, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(Seen::Absent),
            // A file, a link or a whiteout stands where a directory should be.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Seen::Hidden),
            Err(error) => return Err(error.into()),
        };
        if is_opaque(directory.as_fd()) {
            return Ok(Seen::Hidden);
        }
    }
    Ok(Seen::Absent)
}

/// Opens a clean path beneath `root` without following any symbolic link but, with `PATH | NOFOLLOW`, the last one as itself.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mode = Mode::empty();
    if path.is_empty() {
        return rustix::fs::openat(root, c".", flags, mode);
    }
    // The kernel asks to try again when somebody renames in the same tree.
    for _ in 0..32 {
        match rustix::fs::openat2(root, path, flags, mode, BENEATH) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether overlay takes it for "there is no such name": a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether overlay hides what lower layers have in this directory.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0_u8; 1];
    [c"trusted.overlay.opaque", c"user.overlay.opaque"]
        .iter()
        .any(|name| matches!(rustix::fs::fgetxattr(directory, *name, &mut value[..]), Ok(1)) && value[0] == b'y')
}
