//! Layers that are unpacked before anybody knows what lies below them, and what becomes of them once it is known.
//!
//! Little in a layer depends on those below: what directories look like that no member names, and where symbolic links lead that only a
//! lower layer has. The first can be made up for later. Where the second turns out to matter, the layer has to be unpacked once more.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use rustix::fs::{Gid, Mode, OFlags, Uid};

use crate::{
    tree::{copy_attributes, xattrs},
    view::{LayerView, open_beneath},
};

/// What lies below a layer.
pub enum Below {
    /// These layers.
    Layers(LayerView),
    /// Nobody knows yet. Members that cannot do without are an error.
    Unknown,
}

impl From<LayerView> for Below {
    fn from(layers: LayerView) -> Self {
        Self::Layers(layers)
    }
}

/// What a layer takes for granted about those below: that nothing but a directory is where it has made one unasked.
#[derive(Clone, Debug, Default)]
pub struct Assumptions {
    /// Directories that members only implied, outer ones first, and who says what they look like.
    directories: BTreeMap<Vec<u8>, Looks>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    /// The lower layers, where they have it.
    AsBelow,
    /// A member that came later.
    AsNamed,
}

/// Whether a layer can stay as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It can: now it is as if it had been unpacked above those layers.
    Fits,
    /// It has to be unpacked once more.
    Differs,
}

impl Assumptions {
    /// About layers that are not known: at least the root looks as they say.
    pub(crate) fn about_unknown() -> Self {
        Self { directories: BTreeMap::from([(Vec::new(), Looks::AsBelow)]) }
    }

    /// A directory was made that no member has named so far.
    pub(crate) fn implied(&mut self, path: &[u8]) {
        self.directories.entry(path.to_vec()).or_insert(Looks::AsBelow);
    }

    /// A member says what a directory looks like.
    pub(crate) fn named(&mut self, path: &[u8]) {
        if let Some(looks) = self.directories.get_mut(path) {
            *looks = Looks::AsNamed;
        }
    }

    /// Compares with what really lies below the layer in the directory `root`, and gives directories their looks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn settle(&self, root: BorrowedFd<'_>, below: &LayerView) -> io::Result<Settled> {
        if self.directories.is_empty() {
            return Ok(Settled::Fits);
        }
        // First look at all of it: a layer that does not fit is left alone.
        let mut found = Vec::new();
        for (path, looks) in &self.directories {
            let Some(node) = below.find(path)? else { continue };
            if !node.is_directory() {
                return Ok(Settled::Differs);
            }
            let original = below.open_node(path, &node, OFlags::RDONLY | OFlags::DIRECTORY)?;
            match looks {
                Looks::AsBelow => found.push((path, node, original)),
                // What the member did not say would have come from below.
                Looks::AsNamed if !path.is_empty() && !xattrs(original.as_fd())?.is_empty() => {
                    return Ok(Settled::Differs);
                }
                Looks::AsNamed => {}
            }
        }
        for (path, node, original) in found {
            let Ok(own) = open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY) else {
                // A later member took its place.
                continue;
            };
            if path.is_empty() {
                let (have, wanted) = (rustix::fs::fstat(&own)?, &node.stat);
                // Without the privilege only what is already so can be wished for.
                if (have.st_uid, have.st_gid) != (wanted.st_uid, wanted.st_gid) && rustix::process::geteuid().is_root()
                {
                    rustix::fs::fchown(&own, Some(Uid::from_raw(wanted.st_uid)), Some(Gid::from_raw(wanted.st_gid)))?;
                }
                rustix::fs::fchmod(&own, Mode::from_raw_mode(node.stat.st_mode & 0o7777))?;
            } else {
                copy_attributes(original.as_fd(), &node.stat, own.as_fd())?;
            }
        }
        Ok(Settled::Fits)
    }
}
