//! Whiteouts: from the names that archives have for them to what overlay understands.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use super::{Applier, Occupant};
use crate::{error::ArchiveError, member::Member, name::push_part};

impl Applier {
    pub(super) fn whiteout(&mut self, member: &Member, parent: &[u8], hidden: &[u8]) -> Result<(), ArchiveError> {
        if hidden == b".wh..opq" {
            return self.opaque(parent);
        }
        if hidden.starts_with(b".wh.") {
            // Other bookkeeping of the union file system that this form comes from.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ArchiveError::refused(&member.name, "it is a whiteout of nothing"));
        }
        let directory = self.tree.directory(parent)?;
        self.hide(&directory, hidden).map_err(|error| {
            let mut path = parent.to_vec();
            push_part(&mut path, hidden);
            ArchiveError::write("hiding", &path, error)
        })
    }

    /// Hides a name of lower layers. A name that this layer has itself hides them already, a directory once it is opaque.
    fn hide(&mut self, directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
        match rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {}
            done => {
                self.usage.inodes += 1;
                return done;
            }
        }
        if matches!(self.occupant(directory, name)?, Occupant::Directory) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.tree.make_opaque(rustix::fs::openat(directory, name, flags, Mode::empty())?.as_fd())?;
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let failed = |error: std::io::Error| ArchiveError::write("making opaque", path, error);
        let directory = self.tree.directory(path)?;
        if !path.is_empty() {
            return self.tree.make_opaque(directory.as_fd()).map_err(|e| failed(e.into()));
        }
        self.tree.must_know_lower().map_err(failed)?;
        // Overlay always merges the roots: here each name below has to be hidden by itself.
        for name in self.tree.lower().read_directory(b"").map_err(failed)?.into_keys() {
            self.hide(&directory, &name).map_err(|e| failed(e.into()))?;
        }
        Ok(())
    }
}
