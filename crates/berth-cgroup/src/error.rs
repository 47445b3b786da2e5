//! What can go wrong with a cgroup, and what is merely left out.

use std::{fmt, io, path::PathBuf, time::Duration};

use berth_model::ErrorKind;

use crate::path::InvalidCgroupPath;

/// An operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The table of mounts could not be read.
    #[error("reading {}", .path.display())]
    Layout {
        /// The table.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted")]
    NotMounted,
    /// The path of the cgroup is malformed.
    #[error(transparent)]
    Path(#[from] InvalidCgroupPath),
    /// A directory could not be made.
    #[error("creating cgroup {}", .path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no such cgroup.
    #[error("no cgroup {}", .path.display())]
    Missing {
        /// The directory that is not there.
        path: PathBuf,
    },
    /// A new container was to be put into a cgroup with processes.
    #[error("cgroup {} is not empty: it holds {count} processes", .path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// How many processes are in it.
        count: usize,
    },
    /// A new container was to be put into a frozen cgroup.
    #[error("cgroup {} is frozen", .path.display())]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// A control file could not be read.
    #[error("reading {}", .file.display())]
    Read {
        /// The control file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A control file does not say what it should.
    #[error("{} says {text:?}", .file.display())]
    Unexpected {
        /// The control file.
        file: PathBuf,
        /// What it says.
        text: String,
    },
    /// A control file refused a value.
    #[error("writing {value:?} to {}", .file.display())]
    Write {
        /// The control file.
        file: PathBuf,
        /// What was written.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// A limit makes no sense.
    #[error("{setting}: {reason}")]
    Invalid {
        /// The field of the runtime specification.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A memory limit is below what is used already.
    #[error("memory limit {limit} is below the current usage {usage} of {}", .path.display())]
    BelowUsage {
        /// The directory.
        path: PathBuf,
        /// The limit asked for, in bytes.
        limit: u64,
        /// Bytes in use.
        usage: u64,
    },
    /// The device program could not be loaded or attached.
    #[error("{step} the device program of {}", .path.display())]
    DeviceProgram {
        /// `loading`, `attaching`, ...
        step: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Some process did not freeze in time; all are thawed again.
    #[error("cgroup {} did not freeze within {} ms", .path.display(), .waited.as_millis())]
    NotFrozen {
        /// The directory.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The cgroup has no freezer.
    #[error("cgroup {} has no freezer", .path.display())]
    NoFreezer {
        /// The path.
        path: PathBuf,
    },
    /// A process could not be signalled.
    #[error("sending signal {signal} to process {pid}")]
    Signal {
        /// The signal's number.
        signal: i32,
        /// The process.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
    /// A directory could not be removed.
    #[error("removing cgroup {}", .path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl CgroupError {
    /// The kind, for whoever turns it into a status.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Path(_) | Self::Invalid { .. } | Self::BelowUsage { .. } => ErrorKind::Invalid,
            Self::Write { source, .. } if refused_value(source) => ErrorKind::Invalid,
            Self::NotEmpty { .. } | Self::Frozen { .. } => ErrorKind::Conflict,
            Self::Missing { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        }
    }

    /// The cause's `errno`, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Layout { source, .. }
            | Self::Create { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::DeviceProgram { source, .. }
            | Self::Signal { source, .. }
            | Self::Remove { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    pub(crate) fn invalid(setting: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { setting, reason: reason.into() }
    }
}

fn refused_value(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::ResourceBusy)
        || source.raw_os_error() == Some(rustix::io::Errno::RANGE.raw_os_error())
}

/// A setting that was left out because this kernel or this layout does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

impl Warning {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
