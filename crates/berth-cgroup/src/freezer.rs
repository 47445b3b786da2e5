//! Stopping all processes of a cgroup at once, and letting them go on.

use std::{
    os::fd::AsFd,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::Errno,
};

use crate::{control_file, error::CgroupError};

/// How long processes may take to stop. A process in an uninterruptible wait takes as long as its device does.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at a v1 group that is on its way.
const PAUSE: Duration = Duration::from_micros(20);
/// So often a v1 group that does not get there is let go for a moment, which resolves most ties.
const ATTEMPTS_BEFORE_THAW: u32 = 50;

const STATE_V1: &str = "freezer.state";
const FREEZE_V2: &str = "cgroup.freeze";
const EVENTS_V2: &str = "cgroup.events";

/// Freezes a v1 group.
///
/// A process that forks while the freezer walks the group may get away in the state `FREEZING`, which does not end by itself: the
/// state is written again until it holds.
pub(crate) fn freeze_v1(dir: &Path) -> Result<(), CgroupError> {
    let start = Instant::now();
    for attempt in 1u32.. {
        control_file::write(dir, STATE_V1, "FROZEN")?;
        if control_file::read(dir, STATE_V1)?.trim_end() == "FROZEN" {
            // Once more where it was a race: older kernels report a group frozen whose newest member is not.
            return if attempt > 1 { control_file::write(dir, STATE_V1, "FROZEN") } else { Ok(()) };
        }
        if start.elapsed() > PATIENCE {
            thaw_v1(dir)?;
            return Err(CgroupError::NotFrozen { path: dir.to_owned(), waited: PATIENCE });
        }
        if attempt % ATTEMPTS_BEFORE_THAW == 0 {
            thaw_v1(dir)?;
        }
        sleep(PAUSE);
    }
    Ok(())
}

pub(crate) fn thaw_v1(dir: &Path) -> Result<(), CgroupError> {
    control_file::write(dir, STATE_V1, "THAWED")
}

/// Whether a v1 group is frozen, or on its way there; false where the freezer is missing.
pub(crate) fn is_frozen_v1(dir: &Path) -> Result<bool, CgroupError> {
    Ok(control_file::read_if_present(dir, STATE_V1)?.is_some_and(|state| state.trim_end() != "THAWED"))
}

/// Freezes a v2 group and waits until the kernel says that all processes have stopped.
pub(crate) fn freeze_v2(dir: &Path) -> Result<(), CgroupError> {
    let path = dir.join(EVENTS_V2);
    let failed = |errno: Errno| CgroupError::Read { file: path.clone(), source: errno.into() };
    let events = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    control_file::write(dir, FREEZE_V2, "1")?;
    let start = Instant::now();
    loop {
        // Reading from the beginning also arms the next notification.
        let mut buffer = [0u8; 256];
        let length = rustix::io::pread(&events, &mut buffer, 0).map_err(failed)?;
        if buffer[..length].split(|byte| *byte == b'\n').any(|line| line == b"frozen 1") {
            return Ok(());
        }
        let Some(left) = PATIENCE.checked_sub(start.elapsed()) else {
            thaw_v2(dir)?;
            return Err(CgroupError::NotFrozen { path: dir.to_owned(), waited: PATIENCE });
        };
        wait_for_change(events.as_fd(), left).map_err(failed)?;
    }
}

pub(crate) fn thaw_v2(dir: &Path) -> Result<(), CgroupError> {
    control_file::write(dir, FREEZE_V2, "0")
}

/// Whether a v2 group was told to freeze; false where the kernel cannot.
pub(crate) fn is_frozen_v2(dir: &Path) -> Result<bool, CgroupError> {
    Ok(control_file::read_if_present(dir, FREEZE_V2)?.is_some_and(|state| state.trim_end() == "1"))
}

/// Waits until the kernel announces a change of an open control file, or the time is over.
pub(crate) fn wait_for_change(file: std::os::fd::BorrowedFd<'_>, at_most: Duration) -> Result<(), Errno> {
    let timeout = Timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(at_most.subsec_nanos()),
    };
    match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
