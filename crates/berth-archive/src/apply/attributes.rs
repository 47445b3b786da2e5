//! Owners, modes, times and extended attributes of what was unpacked.

use std::{
    ffi::CString,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Gid, Mode, Timestamps, Uid},
    io::Errno,
};

use super::{Applier, Owners};
use crate::{
    error::ArchiveError,
    member::Member,
    name::MemberName,
    tree::{self, timespec, tolerate},
};

impl Applier {
    /// Owner, mode and attributes of an open directory now, its times at the end.
    pub(super) fn set_attributes(
        &mut self,
        member: &Member,
        name: &MemberName,
        directory: BorrowedFd<'_>,
    ) -> Result<(), ArchiveError> {
        let failed = |error: Errno| ArchiveError::write("setting attributes of", name.as_bytes(), error);
        if let Some((uid, gid)) = self.owner(member)? {
            rustix::fs::fchown(directory, Some(uid), Some(gid)).map_err(failed)?;
        }
        rustix::fs::fchmod(directory, Mode::from_raw_mode(member.mode)).map_err(failed)?;
        self.xattrs_of_open(member, directory).map_err(failed)?;
        if member.xattrs.iter().any(|(name, _)| name == b"system.posix_acl_default") {
            // From now on an inherited list, not the umask, decides what a new file gets.
            self.umask = 0o777;
        }
        self.directories.insert(name.as_bytes().to_vec(), times(member));
        Ok(())
    }

    /// Attributes of what cannot be opened: links and devices. The name was made a moment ago, in a tree nobody else may enter.
    pub(super) fn attributes_by_name(
        &mut self,
        member: &Member,
        path: &[u8],
        parent: &OwnedFd,
        base: &[u8],
    ) -> Result<(), ArchiveError> {
        let failed = |error: Errno| ArchiveError::write("setting attributes of", path, error);
        if let Some((uid, gid)) = self.owner(member)? {
            rustix::fs::chownat(parent, base, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        for (name, value) in self.wanted_xattrs(member) {
            let mut by_descriptor = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            by_descriptor.extend_from_slice(base);
            let done = rustix::fs::lsetxattr(by_descriptor, &name, value, rustix::fs::XattrFlags::empty());
            tolerate(name.as_bytes(), done).map_err(failed)?;
        }
        rustix::fs::utimensat(parent, base, &times(member), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// The owner to set, if any is to be set.
    pub(super) fn owner(&self, member: &Member) -> Result<Option<(Uid, Gid)>, ArchiveError> {
        match self.options.owners {
            Owners::Recorded => {}
            Owners::Caller => return Ok(None),
            Owners::All { uid, gid } => return Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid)))),
        }
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        match (id(member.uid), id(member.gid)) {
            (Some(uid), Some(gid)) => Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid)))),
            _ => Err(ArchiveError::refused(
                &member.name,
                format!("its owner {}:{} is no user of Linux", member.uid, member.gid),
            )),
        }
    }

    /// The attributes to set. Overlay's own are left out: they are for the engine to set, not for an image. A caller who cannot give files
    /// away cannot give them privileges either.
    fn wanted_xattrs<'m>(&self, member: &'m Member) -> impl Iterator<Item = (CString, &'m [u8])> + use<'m> {
        let privileged = self.options.owners != Owners::Caller;
        let usable = member
            .xattrs
            .iter()
            .filter(move |(name, _)| !tree::is_overlay_attribute(name) && (privileged || name.starts_with(b"user.")));
        usable.filter_map(|(name, value)| Some((CString::new(name.as_slice()).ok()?, value.as_slice())))
    }

    pub(super) fn xattrs_of_open(&self, member: &Member, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        for (name, value) in self.wanted_xattrs(member) {
            tree::set_xattr(file, &name, value)?;
        }
        Ok(())
    }
}

pub(super) fn times(member: &Member) -> Timestamps {
    let modification = timespec(member.mtime);
    Timestamps { last_access: member.atime.map_or(modification, timespec), last_modification: modification }
}

/// The umask of this process, which other threads rely on and nobody may touch. Unknown, every bit counts as masked.
pub(super) fn own_umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777)
}
