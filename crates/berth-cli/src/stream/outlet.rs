//! One of our output descriptors: takes bytes without ever blocking the loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, fstat};

/// With so much waiting, nothing more is read from the connection: a slow reader slows the process down, as it would a local one.
const FULL: usize = 64 * 1024;

/// A pipe that poll(2) calls writable takes so much without blocking.
const PIPE_STEP: usize = 4096;

/// Bytes on their way to one of our output descriptors.
pub(super) struct Outlet {
    /// Not the standard library's handle: that one splits the output into lines.
    descriptor: BorrowedFd<'static>,
    waiting: Vec<u8>,
    written: usize,
    /// Known once something was written: many processes write nothing, and this costs a question.
    step: Option<usize>,
}

impl Outlet {
    pub fn new(descriptor: BorrowedFd<'static>) -> Outlet {
        Outlet { descriptor, waiting: Vec::new(), written: 0, step: None }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.waiting.len()
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() - self.written >= FULL
    }

    /// Writes what the descriptor takes at once; called when poll(2) says that it is writable.
    pub fn write_some(&mut self) -> io::Result<()> {
        let step = *self.step.get_or_insert_with(|| step_of(self.descriptor));
        let end = self.waiting.len().min(self.written.saturating_add(step));
        match rustix::io::write(self.descriptor, &self.waiting[self.written..end]) {
            Ok(count) => self.written += count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if self.is_empty() {
            self.waiting.clear();
            self.written = 0;
        }
        Ok(())
    }
}

impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor
    }
}

/// Files never block for long; pipes, sockets and terminals may, for more than a step.
fn step_of(descriptor: BorrowedFd<'_>) -> usize {
    let regular = fstat(descriptor).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    if regular { usize::MAX } else { PIPE_STEP }
}
