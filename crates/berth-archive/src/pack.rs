//! Turns a tree into a tar: an overlay's upper directory into a layer, a part of a tree into an archive, a stack of layers into one.
//!
//! The same tree gives the same bytes: names in order, whole seconds, no names of users.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{
    apply::Whiteouts,
    error::ArchiveError,
    member::{Kind, Member, Time},
    name::push_part,
    tree::xattrs,
    view::{LayerView, file_type, is_opaque, is_whiteout, open_beneath},
    writer::TarWriter,
};

/// How a tree is packed.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// Whether overlay's whiteouts and opaque directories become `.wh.` names, or devices as they are.
    pub whiteouts: Whiteouts,
    /// Somebody changes the tree meanwhile: what vanishes is left out, and a file that shrinks is filled up with zeros.
    pub living: bool,
}

/// Writes everything beneath `root` to `output` as a tar. The root itself has no member.
///
/// Sockets are left out: no archive can hold them. Attributes of the host's own security modules stay behind.
///
/// # Errors
/// [`ArchiveError::Output`]; [`ArchiveError::Write`] with the path that could not be read.
pub fn pack<W: Write>(root: BorrowedFd<'_>, output: W, options: PackOptions) -> Result<W, ArchiveError> {
    let packer = Packer::new(Source::Directory(root), output, options);
    let children = packer.children(&Place::root())?;
    packer.all(children)
}

/// Writes what lies at a clean path beneath `root`, and everything beneath it, to `output`. Members are named as if it were called `name`.
///
/// No symbolic link is followed on the way, and the last name is packed as what it is.
///
/// # Errors
/// As [`pack`].
pub fn pack_path<W: Write>(
    root: BorrowedFd<'_>,
    path: &[u8],
    name: &[u8],
    output: W,
    options: PackOptions,
) -> Result<W, ArchiveError> {
    let mut packer = Packer::new(Source::Directory(root), output, options);
    (packer.from, packer.to) = (path.to_vec(), name.to_vec());
    packer.all(vec![Place { path: path.to_vec(), layer: 0 }])
}

/// Writes the tree that a stack of layers shows to `output`. The root itself has no member.
///
/// # Errors
/// As [`pack`].
pub fn pack_view<W: Write>(view: &LayerView, output: W, options: PackOptions) -> Result<W, ArchiveError> {
    let packer = Packer::new(Source::View(view), output, options);
    let children = packer.children(&Place::root())?;
    packer.all(children)
}

/// Where the tree is.
enum Source<'a> {
    Directory(BorrowedFd<'a>),
    View(&'a LayerView),
}

/// A path of the tree, and the layer that shows it.
struct Place {
    path: Vec<u8>,
    layer: usize,
}

impl Place {
    fn root() -> Self {
        Self { path: Vec::new(), layer: 0 }
    }

    fn child(&self, name: &[u8], layer: usize) -> Self {
        let mut path = self.path.clone();
        push_part(&mut path, name);
        Self { path, layer }
    }
}

struct Packer<'a, W> {
    source: Source<'a>,
    options: PackOptions,
    writer: TarWriter<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The path that is packed ...
    from: Vec<u8>,
    /// ... and what it is called in the archive.
    to: Vec<u8>,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(source: Source<'a>, output: W, options: PackOptions) -> Self {
        let writer = TarWriter::new(output);
        Self { source, options, writer, links: HashMap::new(), from: Vec::new(), to: Vec::new() }
    }

    /// Packs places and what lies beneath them. The last one comes first.
    fn all(mut self, mut todo: Vec<Place>) -> Result<W, ArchiveError> {
        // A stack of paths, not of descriptors: a container can nest directories deeper than a process may have files open.
        while let Some(place) = todo.pop() {
            match self.member(&place) {
                Ok(true) => todo.extend(self.children(&place)?),
                Ok(false) => {}
                Err(ArchiveError::Write { source, .. }) if self.options.living && has_vanished(&source) => {}
                Err(error) => return Err(error),
            }
        }
        self.writer.finish()
    }

    /// What lies in a directory, last first.
    fn children(&self, place: &Place) -> Result<Vec<Place>, ArchiveError> {
        let failed = |e: io::Error| ArchiveError::write("reading directory", &place.path, e);
        let mut children: Vec<Place> = match &self.source {
            Source::View(view) => {
                let entries = view.read_directory(&place.path).map_err(failed)?;
                entries.iter().map(|(name, node)| place.child(name, node.layer)).collect()
            }
            Source::Directory(_) => match self.open(place, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => {
                    let entries: Result<Vec<_>, Errno> = Dir::read_from(&directory).and_then(Iterator::collect);
                    let entries = entries.map_err(|e| failed(e.into()))?;
                    let names = entries.iter().map(|entry| entry.file_name().to_bytes());
                    names.filter(|name| !matches!(*name, b"." | b"..")).map(|name| place.child(name, 0)).collect()
                }
                Err(ArchiveError::Write { source, .. }) if self.options.living && has_vanished(&source) => Vec::new(),
                Err(error) => return Err(error),
            },
        };
        children.sort_unstable_by(|a, b| b.path.cmp(&a.path));
        Ok(children)
    }

    /// Writes one member; tells whether it is a directory to descend into.
    fn member(&mut self, place: &Place) -> Result<bool, ArchiveError> {
        let path = &place.path;
        let found = self.open(place, OFlags::PATH)?;
        let failed = |e: io::Error| ArchiveError::write("reading", path, e);
        let stat = rustix::fs::fstat(&found).map_err(|e| failed(e.into()))?;
        let name = self.name(path);
        if is_whiteout(&stat) && self.options.whiteouts == Whiteouts::Overlay {
            return self.whiteout(&name, &stat).map(|()| false);
        }
        let Some(kind) = kind(&stat) else {
            return Ok(false);
        };
        let mut member = plain(&name, kind, &stat);
        if kind != Kind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                member.kind = Kind::HardLink;
                member.link.clone_from(first);
                return self.writer.append_bytes(&member, b"").map(|()| false);
            }
            self.links.insert((stat.st_dev, stat.st_ino), name);
        }
        match kind {
            Kind::Symlink => {
                member.link =
                    rustix::fs::readlinkat(&found, c"", Vec::new()).map_err(|e| failed(e.into()))?.into_bytes();
                self.writer.append_bytes(&member, b"")?;
            }
            Kind::File => self.file(path, member, &found)?,
            Kind::Directory => return self.directory(path, member, &found).map(|()| true),
            _ => self.writer.append_bytes(&member, b"")?,
        }
        Ok(false)
    }

    /// What a path is called in the archive.
    fn name(&self, path: &[u8]) -> Vec<u8> {
        let beneath = &path[self.from.len()..];
        // Of a part of the tree what is left begins with a slash already, and of the root nothing may be left.
        let joined = self.from.is_empty() && !self.to.is_empty() && !self.to.ends_with(b"/") && !path.is_empty();
        let slash: &[u8] = if joined { b"/" } else { b"" };
        [&self.to, slash, beneath].concat()
    }

    fn file(&mut self, path: &[u8], mut member: Member, found: &OwnedFd) -> Result<(), ArchiveError> {
        let file = reopen(found, OFlags::RDONLY).map_err(|e| ArchiveError::write("opening", path, e))?;
        let failed = |e: io::Error| ArchiveError::write("reading", path, e);
        member.xattrs = kept_xattrs(file.as_fd()).map_err(failed)?;
        member.size = rustix::fs::fstat(&file).map_err(|e| failed(e.into()))?.st_size as u64;
        let filler = io::repeat(0).take(if self.options.living { member.size } else { 0 });
        self.writer.append(&member, File::from(file).chain(filler))
    }

    fn directory(&mut self, path: &[u8], mut member: Member, found: &OwnedFd) -> Result<(), ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = reopen(found, flags).map_err(|e| ArchiveError::write("opening", path, e))?;
        member.xattrs = kept_xattrs(directory.as_fd()).map_err(|e| ArchiveError::write("reading", path, e))?;
        self.writer.append_bytes(&member, b"")?;
        if self.options.whiteouts == Whiteouts::Overlay && is_opaque(directory.as_fd()) {
            let mut name = member.name.clone();
            push_part(&mut name, b".wh..wh..opq");
            self.writer.append_bytes(&marker(&name, member.mtime), b"")?;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], stat: &Stat) -> Result<(), ArchiveError> {
        let (above, base) = crate::name::split(path);
        let mut name = above.to_vec();
        push_part(&mut name, &[b".wh.", base].concat());
        self.writer.append_bytes(&marker(&name, mtime(stat)), b"")
    }

    fn open(&self, place: &Place, flags: OFlags) -> Result<OwnedFd, ArchiveError> {
        let opened = match &self.source {
            Source::Directory(root) => open_beneath(*root, &place.path, flags | OFlags::NOFOLLOW).map_err(Into::into),
            Source::View(view) => view.open_in(place.layer, &place.path, flags),
        };
        opened.map_err(|e: io::Error| ArchiveError::write("opening", &place.path, e))
    }
}

/// Opens what a path descriptor stands for, and nothing that somebody put in its place since: a pipe would never open, a device might act.
fn reopen(found: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn has_vanished(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE))
}

/// The empty file that stands for something hidden.
fn marker(name: &[u8], mtime: Time) -> Member {
    Member { mode: 0o600, mtime, ..Member::new(name, Kind::File) }
}

fn kind(stat: &Stat) -> Option<Kind> {
    Some(match file_type(stat) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => return None,
    })
}

fn plain(path: &[u8], kind: Kind, stat: &Stat) -> Member {
    let mut member = Member::new(path, kind);
    member.mode = stat.st_mode & 0o7777;
    (member.uid, member.gid) = (stat.st_uid.into(), stat.st_gid.into());
    member.mtime = mtime(stat);
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        member.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    }
    member
}

/// Whole seconds: fractions would cost a header block for each member, and no engine keeps them in layers.
#[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
fn mtime(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime as i64, nanos: 0 }
}

fn kept_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let kept = |name: &[u8]| !name.starts_with(b"security.") || name == b"security.capability";
    Ok(xattrs(file)?
        .into_iter()
        .map(|(name, value)| (name.into_bytes(), value))
        .filter(|(name, _)| kept(name))
        .collect())
}
