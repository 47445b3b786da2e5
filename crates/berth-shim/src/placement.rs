//! The shim's own place among the cgroups: out of the daemon's, so that what ends the daemon spares the shim.

use std::io;
use std::path::PathBuf;

use berth_cgroup::{CgroupPath, Layout, Version};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The v1 hierarchies that matter for a process that only waits: who pays for its memory, who counts it, whose service it is.
const HIERARCHIES: [&str; 3] = ["memory", "pids", "name=systemd"];

/// Why the shim could not move.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// The path is none.
    #[error("shim cgroup: {0}")]
    Path(#[from] berth_cgroup::InvalidCgroupPath),
    /// The hierarchies could not be found.
    #[error("shim cgroup: {0}")]
    Layout(#[from] berth_cgroup::CgroupError),
    /// The group could not be made or joined.
    #[error("joining the shim cgroup {}: {source}", directory.display())]
    Join {
        /// The group's directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Moves the calling process, which has one thread, into the group `path` of each hierarchy that matters; makes it if need be.
pub fn enter(layout: &Layout, path: &str) -> Result<(), PlacementError> {
    let path: CgroupPath = path.parse()?;
    let below = path.as_str().trim_start_matches('/');
    for hierarchy in layout.hierarchies() {
        let wanted = |name: &&str| hierarchy.controllers().iter().any(|controller| controller == name);
        if layout.version() == Version::V1 && !HIERARCHIES.iter().any(wanted) {
            continue;
        }
        let directory = hierarchy.mount_point().join(below);
        join(&directory, layout.version()).map_err(|source| PlacementError::Join { directory, source })?;
    }
    Ok(())
}

fn join(directory: &std::path::Path, version: Version) -> io::Result<()> {
    // On v1 a thread that moves itself alone spares the lock that a whole process would take.
    let file = directory.join(match version {
        Version::V1 => "tasks",
        Version::V2 => "cgroup.procs",
    });
    let open = || rustix::fs::open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let file = match open() {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(directory)?;
            open()?
        }
        result => result?,
    };
    rustix::io::write(&file, b"0")?;
    Ok(())
}
