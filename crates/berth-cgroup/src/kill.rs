//! Signalling every process of a cgroup, and waiting until none is left.

use std::{
    collections::HashSet,
    io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{cgroup::Cgroup, control_file, error::CgroupError, layout::Version, oom::subdirectories};

/// Between two looks at a group that is emptying.
const PAUSE: Duration = Duration::from_millis(1);
/// Processes that fork faster than they are killed need several rounds where there is no freezer.
const ROUNDS: u32 = 100;

impl Cgroup {
    /// Every process in the cgroup and in the groups below it, by its number in the caller's pid namespace.
    ///
    /// # Errors
    /// [`CgroupError::Read`]. A cgroup that is gone has no processes.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        collect(&self.members_directory(), &mut pids)?;
        Ok(pids)
    }

    /// Kills every process in the cgroup and below, also those that fork meanwhile. Does not wait for their end.
    ///
    /// # Errors
    /// [`CgroupError::Signal`], or [`CgroupError::Read`] and [`CgroupError::Write`] of its control files.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if self.version() == Version::V2 {
            match control_file::write(&self.members_directory(), "cgroup.kill", "1") {
                // Linux 5.14 has it; before, it is done as on v1.
                Err(CgroupError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        self.signal(Signal::KILL).map(drop)
    }

    /// Sends a signal to every process in the cgroup and below, while all are frozen if that can be had, so that none escapes by
    /// forking. Tells how many there were.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn signal(&self, signal: Signal) -> Result<usize, CgroupError> {
        let was_frozen = self.is_frozen()?;
        let frozen = was_frozen || self.freeze().is_ok();
        let done = self.signal_until_none_is_new(signal, if frozen { 1 } else { ROUNDS });
        // On v1 a frozen process dies only once it is thawed, so a paused cgroup that is killed must be let go.
        if frozen && (!was_frozen || signal == Signal::KILL) {
            self.thaw()?;
        }
        done
    }

    /// Waits until no process is left, at most as long as given; tells whether that came true.
    ///
    /// # Errors
    /// [`CgroupError::Read`] of its control files.
    pub fn wait_until_empty(&self, at_most: Duration) -> Result<bool, CgroupError> {
        let start = Instant::now();
        loop {
            if self.pids()?.is_empty() {
                return Ok(true);
            }
            if start.elapsed() >= at_most {
                return Ok(false);
            }
            sleep(PAUSE);
        }
    }

    fn signal_until_none_is_new(&self, signal: Signal, rounds: u32) -> Result<usize, CgroupError> {
        let mut seen = HashSet::new();
        for _ in 0..rounds {
            let mut fresh = self.pids()?;
            fresh.retain(|pid| seen.insert(*pid));
            if fresh.is_empty() {
                break;
            }
            fresh.iter().try_for_each(|pid| send(signal, *pid))?;
        }
        Ok(seen.len())
    }
}

fn send(signal: Signal, number: u32) -> Result<(), CgroupError> {
    // Zero stands for a process outside the caller's pid namespace.
    let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(CgroupError::Signal { signal: signal.as_raw(), pid: number, source: errno.into() }),
    }
}

fn collect(dir: &Path, pids: &mut Vec<u32>) -> Result<(), CgroupError> {
    let Some(text) = control_file::read_if_present(dir, "cgroup.procs")? else { return Ok(()) };
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    subdirectories(dir).iter().try_for_each(|child| collect(child, pids))
}
