//! Compresses a rotated log in a child: it takes long, and the memory it needs goes with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::clone::{CloneRequest, Cloned, exit_now};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitId, WaitIdOptions};

/// A running compression.
#[derive(Debug)]
pub struct Compressor {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Compressor {
    /// Starts one. `None` when no process can be made: the file stays as it is.
    pub fn start(path: &Path) -> Option<Self> {
        match CloneRequest::default().run().ok()? {
            Cloned::Child => {
                // Whoever runs in the container needs the processor more.
                let _ = rustix::process::nice(19);
                exit_now(u8::from(compress(path).is_err()))
            }
            Cloned::Parent { pid, pidfd } => Some(Self { pid, pidfd }),
        }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end.
    pub fn finish(self) {
        while waitid(&self.pidfd) == Err(rustix::io::Errno::INTR) {}
    }
}

fn waitid(pidfd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).map(drop)
}

/// Compresses a file beside itself (`FILE.gz`) and removes the plain one.
pub fn compress(path: &Path) -> io::Result<()> {
    let mut name = OsString::from(path);
    name.push(".gz");
    let finished = PathBuf::from(&name);
    name.push(".tmp");
    let unfinished = PathBuf::from(name);
    let source = std::fs::File::open(path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let target = rustix::fs::open(&unfinished, flags, Mode::from_raw_mode(0o640))?;
    let mut encoder = flate2::write::GzEncoder::new(std::fs::File::from(target), flate2::Compression::default());
    let copied = io::copy(&mut &source, &mut encoder).and_then(|_| encoder.finish());
    if let Err(error) = copied {
        // The plain file stays, and readers know it by its name.
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    std::fs::rename(&unfinished, &finished)?;
    std::fs::remove_file(path)
}
