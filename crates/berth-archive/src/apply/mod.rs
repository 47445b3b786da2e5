//! Turns the members of a layer tar into the layer's directory.

mod assumptions;
mod attributes;
mod data;
mod whiteout;

use std::{
    collections::HashMap,
    ffi::CStr,
    io::BufRead,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timestamps},
    io::Errno,
};

use crate::{
    copy::copy_file,
    error::ArchiveError,
    member::{Kind, Member},
    name::MemberName,
    reader::TarReader,
    tree::{Tree, remove_all},
    view::{file_type, is_whiteout},
};
use attributes::{own_umask, times};
use data::write_data;

pub use assumptions::{Assumptions, Below, Settled};

/// What `.wh.` names mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// They are whiteouts: turned into what overlay understands.
    Overlay,
    /// They are names like any other.
    Keep,
}

/// The name space of overlay's own attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.`, for overlays mounted by root.
    Trusted,
    /// `user.overlay.`, for overlays mounted with `userxattr`.
    User,
}

/// Whom files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Those that the archive records.
    Recorded,
    /// The caller: for one without the privilege to give files away.
    Caller,
    /// All to the same.
    All {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// What a member may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Whatever is there.
    Anything,
    /// A directory never takes the place of anything else, nor anything else that of a directory.
    SameKind,
}

/// How a layer is applied.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// What `.wh.` names mean.
    pub whiteouts: Whiteouts,
    /// The name space of overlay's own attributes.
    pub overlay_xattrs: OverlayXattrs,
    /// Whom files belong to.
    pub owners: Owners,
    /// What a member may take the place of.
    pub replace: Replace,
    /// Whether a member for the root changes the root's attributes.
    pub root_attributes: bool,
}

impl Default for ApplyOptions {
    /// A layer, unpacked by root.
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Overlay,
            overlay_xattrs: OverlayXattrs::Trusted,
            owners: Owners::Recorded,
            replace: Replace::Anything,
            root_attributes: true,
        }
    }
}

/// What a layer takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, in whole blocks of 4 KiB, directories included.
    pub bytes: u64,
    /// Files, directories, links and devices.
    pub inodes: u64,
}

/// Applies members to one layer directory.
pub struct Applier {
    tree: Tree,
    options: ApplyOptions,
    umask: u32,
    /// Times of directories, set at the end: every file made in them changes them.
    directories: HashMap<Vec<u8>, Timestamps>,
    usage: Usage,
    /// The directory that members go to.
    beneath: Vec<u8>,
    /// A beginning of names, and what takes its place.
    renamed: Option<(Vec<u8>, Vec<u8>)>,
    /// Bytes of files that may still stay in the page cache.
    cacheable: Option<u64>,
}

/// What stands in the way of a new name.
enum Occupant {
    Directory,
    Whiteout,
    Other,
}

impl Applier {
    /// Applies to the directory `root`, which lies above the layers of `below`.
    #[must_use]
    pub fn new(root: OwnedFd, below: impl Into<Below>, options: ApplyOptions) -> Self {
        let opaque_name: &CStr = match options.overlay_xattrs {
            OverlayXattrs::Trusted => c"trusted.overlay.opaque",
            OverlayXattrs::User => c"user.overlay.opaque",
        };
        Self {
            tree: Tree::new(root, below.into(), opaque_name),
            options,
            umask: own_umask(),
            directories: HashMap::new(),
            usage: Usage { bytes: BLOCK, inodes: 1 },
            beneath: Vec::new(),
            renamed: None,
            cacheable: None,
        }
    }

    /// Leaves only so many bytes of files in the page cache; larger files beyond pass it by. `None` is any number.
    #[must_use]
    pub fn caching(mut self, bytes: Option<u64>) -> Self {
        self.cacheable = bytes;
        self
    }

    /// Gives members whose name is `from`, or that lie in it, a name that begins with `to`. An empty `from` is the root of the archive.
    #[must_use]
    pub fn renamed(mut self, from: &[u8], to: &[u8]) -> Self {
        self.renamed = Some((from.to_vec(), to.to_vec()));
        self
    }

    fn name(&self, raw: &[u8]) -> Result<MemberName, ArchiveError> {
        let name = MemberName::parse(raw)?;
        Ok(match &self.renamed {
            Some((from, to)) => name.moved(from, to),
            None => name,
        })
    }

    /// Puts all members into a directory of the tree, by its clean path. Symbolic links on the way are still followed from the root.
    #[must_use]
    pub fn beneath(mut self, directory: &[u8]) -> Self {
        self.beneath = directory.to_vec();
        self
    }

    /// Applies all members of an archive, and tells what they take.
    ///
    /// # Errors
    /// The first member that is refused or cannot be written.
    pub fn apply<R: BufRead>(self, archive: &mut TarReader<R>) -> Result<Usage, ArchiveError> {
        self.apply_all(archive).map(|(usage, _)| usage)
    }

    /// As [`Applier::apply`], and tells what was taken for granted about what lies below.
    pub(crate) fn apply_all<R: BufRead>(
        mut self,
        archive: &mut TarReader<R>,
    ) -> Result<(Usage, Assumptions), ArchiveError> {
        while let Some(member) = archive.next_member()? {
            self.member(&member, archive)?;
        }
        self.finish()
    }

    fn member<R: BufRead>(&mut self, member: &Member, archive: &mut TarReader<R>) -> Result<(), ArchiveError> {
        let name = self.name(&member.name)?;
        if name.is_root() {
            return if self.options.root_attributes { self.root(member) } else { Ok(()) };
        }
        let name = name.within(&self.beneath);
        let (parent, base) = name.split();
        if self.options.whiteouts == Whiteouts::Overlay
            && let Some(hidden) = base.strip_prefix(b".wh.")
        {
            return self.whiteout(member, parent, hidden);
        }
        let directory = self.tree.directory(parent)?;
        self.tree.forget_below(name.as_bytes());
        match member.kind {
            Kind::Directory => self.directory(member, &name, &directory),
            Kind::File => self.file(member, &name, &directory, archive),
            Kind::HardLink => self.hard_link(member, &name, &directory),
            Kind::Symlink => self.symlink(member, &name, &directory),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.special(member, &name, &directory),
        }
    }

    /// The root's own member only brings attributes.
    fn root(&mut self, member: &Member) -> Result<(), ArchiveError> {
        if member.kind != Kind::Directory {
            return Err(ArchiveError::refused(&member.name, "it would replace the root"));
        }
        let root = self.tree.root();
        self.tree.named(b"");
        self.set_attributes(member, &MemberName::default(), root.as_fd())
    }

    fn directory(&mut self, member: &Member, name: &MemberName, parent: &OwnedFd) -> Result<(), ArchiveError> {
        let (path, base) = (name.as_bytes(), name.split().1);
        let failed = |error: Errno| ArchiveError::write("creating directory", path, error);
        let mut hides_lower = false;
        let made = match rustix::fs::mkdirat(parent, base, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => match self.occupant(parent, base).map_err(failed)? {
                Occupant::Directory => false,
                _ if self.options.replace == Replace::SameKind => {
                    return Err(ArchiveError::refused(
                        &member.name,
                        "a directory would take the place of what is none",
                    ));
                }
                occupant => {
                    // What a whiteout hid stays hidden behind the directory that follows it.
                    hides_lower = matches!(occupant, Occupant::Whiteout);
                    self.clear(parent, base).map_err(failed)?;
                    rustix::fs::mkdirat(parent, base, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    true
                }
            },
            done => done.map(|()| true).map_err(failed)?,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = Rc::new(rustix::fs::openat(parent, base, flags, Mode::empty()).map_err(failed)?);
        if hides_lower {
            self.tree.make_opaque(directory.as_fd()).map_err(failed)?;
        }
        if made {
            self.count(BLOCK);
        }
        self.tree.remember(path, &directory);
        self.tree.named(path);
        self.set_attributes(member, name, directory.as_fd())
    }

    fn file<R: BufRead>(
        &mut self,
        member: &Member,
        name: &MemberName,
        parent: &OwnedFd,
        archive: &mut TarReader<R>,
    ) -> Result<(), ArchiveError> {
        let (path, base) = (name.as_bytes(), name.split().1);
        let failed = |error: Errno| ArchiveError::write("creating", path, error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, base, flags, Mode::from_raw_mode(member.mode & 0o777));
        let file = match open() {
            Err(Errno::EXIST) => {
                self.make_room(member, parent, base, failed)?;
                open().map_err(failed)?
            }
            done => done.map_err(failed)?,
        };
        let written = write_data(member, path, &file, archive, &mut self.cacheable)?;
        let failed = |error: Errno| ArchiveError::write("setting attributes of", path, error);
        if let Some((uid, gid)) = self.owner(member)? {
            rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        // Changing the owner takes set-uid away, and the umask may have taken other bits.
        if member.mode & (0o7000 | self.umask) != 0 || !member.xattrs.is_empty() {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(member.mode)).map_err(failed)?;
        }
        self.xattrs_of_open(member, file.as_fd()).map_err(failed)?;
        rustix::fs::futimens(&file, &times(member)).map_err(failed)?;
        self.count(written.next_multiple_of(BLOCK));
        Ok(())
    }

    fn hard_link(&mut self, member: &Member, name: &MemberName, parent: &OwnedFd) -> Result<(), ArchiveError> {
        let target = self.name(&member.link).map_err(|_| {
            ArchiveError::refused(
                &member.name,
                format!("its hard link {:?} leads out of the root", String::from_utf8_lossy(&member.link)),
            )
        })?;
        let target = target.within(&self.beneath);
        if target == *name {
            return Ok(());
        }
        if target.is_root() {
            return Err(ArchiveError::refused(&member.name, "it is a hard link to the root"));
        }
        let (path, base) = (name.as_bytes(), name.split().1);
        let failed = |error: Errno| ArchiveError::write("creating hard link", path, error);
        let (target_parent, target_base) = target.split();
        let target_directory = self.tree.existing_directory(target_parent).map_err(|error| match error {
            ArchiveError::Write { source, .. } if source.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                missing_target(member)
            }
            error => error,
        })?;
        let link = || rustix::fs::linkat(&*target_directory, target_base, parent, base, AtFlags::empty());
        match link() {
            Err(Errno::NOENT) => {
                self.copy_up(&target, &target_directory)
                    .map_err(|e| ArchiveError::write("copying up", target.as_bytes(), e))?
                    .then_some(())
                    .ok_or_else(|| missing_target(member))?;
                link().map_err(failed)?;
            }
            Err(Errno::EXIST) => {
                self.make_room(member, parent, base, failed)?;
                link().map_err(failed)?;
            }
            done => done.map_err(failed)?,
        }
        Ok(())
    }

    /// Brings a file that only lower layers have into this one, so that it can get another name here.
    fn copy_up(&mut self, target: &MemberName, directory: &OwnedFd) -> std::io::Result<bool> {
        let (parent, base) = target.split();
        if self.tree.hides_lower(parent)? {
            return Ok(false);
        }
        self.tree.must_know_lower()?;
        let Some(node) = self.tree.lower().find(target.as_bytes())? else {
            return Ok(false);
        };
        if file_type(&node.stat) != FileType::RegularFile {
            return Ok(false);
        }
        copy_file(self.tree.lower(), target.as_bytes(), &node, directory.as_fd(), base)?;
        self.count((node.stat.st_size as u64).next_multiple_of(BLOCK));
        Ok(true)
    }

    fn symlink(&mut self, member: &Member, name: &MemberName, parent: &OwnedFd) -> Result<(), ArchiveError> {
        let (path, base) = (name.as_bytes(), name.split().1);
        let failed = |error: Errno| ArchiveError::write("creating symbolic link", path, error);
        if member.link.is_empty() || member.link.contains(&0) {
            return Err(ArchiveError::refused(&member.name, "it is a symbolic link without a proper target"));
        }
        let make = || rustix::fs::symlinkat(member.link.as_slice(), parent, base);
        if let Err(error) = make() {
            if error != Errno::EXIST {
                return Err(failed(error));
            }
            self.make_room(member, parent, base, failed)?;
            make().map_err(failed)?;
        }
        // Short targets live in the inode.
        self.count(if member.link.len() < 60 { 0 } else { BLOCK });
        self.attributes_by_name(member, path, parent, base)
    }

    fn special(&mut self, member: &Member, name: &MemberName, parent: &OwnedFd) -> Result<(), ArchiveError> {
        let (path, base) = (name.as_bytes(), name.split().1);
        let failed = |error: Errno| ArchiveError::write("creating device", path, error);
        let kind = match member.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = if member.kind == Kind::Fifo { 0 } else { rustix::fs::makedev(member.device.0, member.device.1) };
        let make = || rustix::fs::mknodat(parent, base, kind, Mode::from_raw_mode(member.mode & 0o777), device);
        if let Err(error) = make() {
            if error != Errno::EXIST {
                return Err(failed(error));
            }
            self.make_room(member, parent, base, failed)?;
            make().map_err(failed)?;
        }
        self.count(0);
        set_mode(parent, base, kind, member.mode).map_err(failed)?;
        self.attributes_by_name(member, path, parent, base)
    }

    fn occupant(&self, parent: &OwnedFd, base: &[u8]) -> rustix::io::Result<Occupant> {
        let stat = rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(match file_type(&stat) {
            FileType::Directory => Occupant::Directory,
            _ if is_whiteout(&stat) => Occupant::Whiteout,
            _ => Occupant::Other,
        })
    }

    /// Makes room for a member that is no directory.
    fn make_room(
        &mut self,
        member: &Member,
        parent: &OwnedFd,
        base: &[u8],
        failed: impl Fn(Errno) -> ArchiveError,
    ) -> Result<(), ArchiveError> {
        let occupant = self.occupant(parent, base).map_err(&failed)?;
        if self.options.replace == Replace::SameKind && matches!(occupant, Occupant::Directory) {
            return Err(ArchiveError::refused(&member.name, "it would take the place of a directory"));
        }
        self.clear(parent, base).map_err(failed)
    }

    /// Makes room for a member whose name came before: the later one wins.
    fn clear(&mut self, parent: &OwnedFd, base: &[u8]) -> rustix::io::Result<()> {
        self.tree.forget();
        remove_all(parent.as_fd(), base)
    }

    fn count(&mut self, bytes: u64) {
        self.usage.bytes += bytes;
        self.usage.inodes += 1;
    }

    /// Sets the times of directories, now that nothing changes in them any more.
    fn finish(mut self) -> Result<(Usage, Assumptions), ArchiveError> {
        self.tree.forget();
        for (path, times) in std::mem::take(&mut self.directories) {
            // A later member may have taken its place.
            if let Some(directory) = self.tree.still_there(&path) {
                let done = rustix::fs::futimens(&directory, &times);
                done.map_err(|e| ArchiveError::write("setting attributes of", &path, e))?;
            }
        }
        self.usage.bytes += self.tree.implied * BLOCK;
        self.usage.inodes += self.tree.implied;
        Ok((self.usage, self.tree.into_assumptions()))
    }
}

/// Sets the mode of what was just made. By its descriptor: in a tree that somebody else uses, a symbolic link may have taken the name
/// since, and the kernel would follow it out of the tree.
fn set_mode(parent: &OwnedFd, base: &[u8], kind: FileType, mode: u32) -> rustix::io::Result<()> {
    let made = rustix::fs::openat(parent, base, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if file_type(&rustix::fs::fstat(&made)?) != kind {
        return Err(Errno::STALE);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), Mode::from_raw_mode(mode))
}

/// The block size that usage is counted in.
const BLOCK: u64 = 4096;

fn missing_target(member: &Member) -> ArchiveError {
    let target = String::from_utf8_lossy(&member.link).into_owned();
    ArchiveError::refused(&member.name, format!("it is a hard link to {target:?}, which does not exist"))
}
