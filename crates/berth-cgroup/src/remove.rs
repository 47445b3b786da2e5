//! Removing a directory of cgroupfs with everything below it.

use std::{io, path::Path, thread::sleep, time::Duration};

use rustix::io::Errno;

use crate::{error::CgroupError, oom::subdirectories};

/// The first pause after a refusal; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Ten doublings wait one second in all. A process that was reaped may hold its group a moment longer.
const ATTEMPTS: u32 = 11;

/// Removes the directory, children first; nothing is done if it is gone already.
pub(crate) fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        // Most groups have no children: try the leaf before looking for any.
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(failed(dir, errno)),
        }
        for child in subdirectories(dir) {
            remove_tree(&child)?;
        }
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) if attempt == ATTEMPTS => return Err(failed(dir, errno)),
            Err(_) => sleep(pause),
        }
        pause *= 2;
    }
    Ok(())
}

fn failed(dir: &Path, errno: Errno) -> CgroupError {
    CgroupError::Remove { path: dir.to_owned(), source: io::Error::from(errno) }
}
