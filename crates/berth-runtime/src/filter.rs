//! The system call filter of a container's processes: compiled once, small enough to be kept while the container lives.

use std::path::{Path, PathBuf};

use berth_oci::runtime::SeccompText;

use crate::error::RuntimeError;
use crate::seccomp::{self, Filter};

/// A compiled filter, and who is told when it notifies.
#[derive(Clone, Debug)]
pub(crate) struct SystemCallFilter {
    pub(crate) filter: Filter,
    pub(crate) listener_path: String,
    pub(crate) listener_metadata: String,
}

/// Where the filter of later processes comes from.
#[derive(Clone, Debug)]
pub(crate) enum FilterSource {
    /// It was compiled for the first process; a profile is ten times as large.
    Compiled(Option<SystemCallFilter>),
    /// It is compiled when it is needed.
    Profile { profile: Option<SeccompText>, cache: Option<PathBuf> },
}

impl SystemCallFilter {
    /// Compiles a profile, or finds it compiled. Names that nobody knows are skipped in silence: every profile has some from other kernels
    /// and machines.
    pub(crate) fn new(profile: &SeccompText, cache: Option<&Path>) -> Result<Self, RuntimeError> {
        let invalid = |error: String| RuntimeError::invalid("linux.seccomp", error);
        let filter = seccomp::compile_cached(profile, cache).map_err(|error| invalid(error.to_string()))?;
        let mut own = Self { filter, listener_path: String::new(), listener_metadata: String::new() };
        if own.filter.notifies() {
            let profile = profile.read().map_err(|error| invalid(error.to_string()))?;
            (own.listener_path, own.listener_metadata) = (profile.listener_path, profile.listener_metadata);
        }
        Ok(own)
    }
}

impl FilterSource {
    /// The filter for one more process.
    pub(crate) fn get(&self) -> Result<Option<SystemCallFilter>, RuntimeError> {
        match self {
            FilterSource::Compiled(filter) => Ok(filter.clone()),
            FilterSource::Profile { profile, cache } => {
                profile.as_ref().map(|profile| SystemCallFilter::new(profile, cache.as_deref())).transpose()
            }
        }
    }
}
