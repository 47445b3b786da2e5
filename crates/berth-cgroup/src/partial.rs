//! A cgroup in the making: first what a process must be born in, then the rest while that process prepares itself.
//!
//! On v1 each hierarchy is one more directory, and the process need not wait for all of them before it begins to mount.

use std::path::PathBuf;

use crate::{
    cgroup::{Cgroup, make_directory},
    error::CgroupError,
    join::{self, Join, JoinFile},
    layout::{Layout, Version},
    path::CgroupPath,
};

/// A cgroup that may lack some of its directories. Dropping it leaves those that are there.
#[derive(Clone, Debug)]
pub struct PartialCgroup {
    cgroup: Cgroup,
    /// The only directory that is there: who is in it pays for its memory there.
    first: Option<PathBuf>,
}

impl PartialCgroup {
    /// Makes the directory that pays for memory, or all of them where one does not come without the others: on v2, and where the cgroup
    /// exists already.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn begin(layout: &Layout, path: &CgroupPath) -> Result<Self, CgroupError> {
        let cgroup = Cgroup::unmade(layout, path);
        let first = cgroup.controller_directory("memory").filter(|memory| {
            // Who is asked for members must not have any before all is made.
            layout.version() == Version::V1 && *memory != cgroup.members_directory()
        });
        match first {
            Some(memory) if make_directory(&memory)? => Ok(Self { cgroup, first: Some(memory) }),
            _ => Ok(Self { cgroup: Cgroup::create(layout, path)?, first: None }),
        }
    }

    /// The cgroup, as far as it is there.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.first.is_none()
    }

    /// Opens what a new process needs to be born in what is there.
    ///
    /// # Errors
    /// As [`Cgroup::join`].
    pub fn join(&self) -> Result<Join, CgroupError> {
        match &self.first {
            Some(memory) => Ok(Join::ByWriting(vec![join::open_v1(memory)?])),
            None => self.cgroup.join(),
        }
    }

    /// Opens what a process that was born in what is there needs to join the rest, once that is made.
    ///
    /// # Errors
    /// As [`Cgroup::join`].
    pub fn join_rest(&self) -> Result<Vec<JoinFile>, CgroupError> {
        let Some(first) = &self.first else { return Ok(Vec::new()) };
        let rest = self.cgroup.directories().map(|(_, dir)| dir).filter(|dir| dir != first);
        rest.map(|dir| join::open_v1(&dir)).collect()
    }

    /// Makes what is missing.
    ///
    /// # Errors
    /// As [`Cgroup::create`]; what was made stays.
    pub fn complete(&mut self) -> Result<(), CgroupError> {
        if let Some(memory) = self.first.clone() {
            self.cgroup.make_rest(memory)?;
            self.first = None;
        }
        Ok(())
    }
}
