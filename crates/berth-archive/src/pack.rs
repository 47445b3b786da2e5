//! Turns a directory into a tar: an overlay's upper directory into a layer, or any tree into an archive.
//!
//! The same tree gives the same bytes: names in order, whole seconds, no names of users.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::fs::{Dir, FileType, OFlags, Stat};

use crate::{
    apply::Whiteouts,
    error::ArchiveError,
    member::{Kind, Member, Time},
    name::push_part,
    tree::xattrs,
    view::{file_type, is_opaque, is_whiteout, open_beneath},
    writer::TarWriter,
};

/// How a tree is packed.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// Whether overlay's whiteouts and opaque directories become `.wh.` names, or devices as they are.
    pub whiteouts: Whiteouts,
}

/// Writes everything beneath `root` to `output` as a tar. The root itself has no member.
///
/// Sockets are left out: no archive can hold them. Attributes of the host's own security modules stay behind.
///
/// # Errors
/// [`ArchiveError::Output`]; [`ArchiveError::Write`] with the path that could not be read.
pub fn pack<W: Write>(root: BorrowedFd<'_>, output: W, options: PackOptions) -> Result<W, ArchiveError> {
    let mut packer = Packer { root, options, writer: TarWriter::new(output), links: HashMap::new() };
    // A stack of paths, not of descriptors: a container can nest directories deeper than a process may have files open.
    let mut todo = packer.children(b"")?;
    while let Some(path) = todo.pop() {
        if packer.member(&path)? {
            todo.extend(packer.children(&path)?);
        }
    }
    packer.writer.finish()
}

struct Packer<'a, W> {
    root: BorrowedFd<'a>,
    options: PackOptions,
    writer: TarWriter<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<'_, W> {
    /// The paths in a directory, last first.
    fn children(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let failed = |e: io::Error| ArchiveError::write("reading directory", path, e);
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut paths = Vec::new();
        for entry in Dir::read_from(&directory).map_err(|e| failed(e.into()))? {
            let entry = entry.map_err(|e| failed(e.into()))?;
            if entry.file_name() == c"." || entry.file_name() == c".." {
                continue;
            }
            let mut child = path.to_vec();
            push_part(&mut child, entry.file_name().to_bytes());
            paths.push(child);
        }
        paths.sort_unstable_by(|a, b| b.cmp(a));
        Ok(paths)
    }

    /// Writes one member; tells whether it is a directory to descend into.
    fn member(&mut self, path: &[u8]) -> Result<bool, ArchiveError> {
        let found = self.open(path, OFlags::PATH)?;
        let failed = |e: io::Error| ArchiveError::write("reading", path, e);
        let stat = rustix::fs::fstat(&found).map_err(|e| failed(e.into()))?;
        if is_whiteout(&stat) && self.options.whiteouts == Whiteouts::Overlay {
            return self.whiteout(path, &stat).map(|()| false);
        }
        let Some(kind) = kind(&stat) else {
            return Ok(false);
        };
        let mut member = plain(path, kind, &stat);
        if kind != Kind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                member.kind = Kind::HardLink;
                member.link.clone_from(first);
                return self.writer.append_bytes(&member, b"").map(|()| false);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            Kind::Symlink => {
                member.link =
                    rustix::fs::readlinkat(&found, c"", Vec::new()).map_err(|e| failed(e.into()))?.into_bytes();
                self.writer.append_bytes(&member, b"")?;
            }
            Kind::File => self.file(path, member)?,
            Kind::Directory => return self.directory(path, member).map(|()| true),
            _ => self.writer.append_bytes(&member, b"")?,
        }
        Ok(false)
    }

    fn file(&mut self, path: &[u8], mut member: Member) -> Result<(), ArchiveError> {
        let file = self.open(path, OFlags::RDONLY)?;
        let failed = |e: io::Error| ArchiveError::write("reading", path, e);
        member.xattrs = kept_xattrs(file.as_fd()).map_err(failed)?;
        member.size = rustix::fs::fstat(&file).map_err(|e| failed(e.into()))?.st_size as u64;
        self.writer.append(&member, File::from(file))
    }

    fn directory(&mut self, path: &[u8], mut member: Member) -> Result<(), ArchiveError> {
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        member.xattrs = kept_xattrs(directory.as_fd()).map_err(|e| ArchiveError::write("reading", path, e))?;
        self.writer.append_bytes(&member, b"")?;
        if self.options.whiteouts == Whiteouts::Overlay && is_opaque(directory.as_fd()) {
            let mut name = path.to_vec();
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

    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, ArchiveError> {
        open_beneath(self.root, path, flags | OFlags::NOFOLLOW).map_err(|e| ArchiveError::write("opening", path, e))
    }
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
