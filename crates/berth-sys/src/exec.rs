//! Becoming another program, and leaving it nothing by accident.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// A list of C strings as execve(2) takes it, made ahead so that the last step before it allocates nothing.
#[derive(Debug)]
pub struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CStrings {
    /// Takes over `strings`.
    pub fn new(strings: Vec<CString>) -> CStrings {
        let mut list = CStrings { strings, pointers: Vec::new() };
        list.point();
        list
    }

    /// Copies text into a list.
    ///
    /// # Errors
    /// `InvalidInput` when one holds a NUL byte.
    pub fn from_texts<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> io::Result<CStrings> {
        let strings = texts.into_iter().map(|text| CString::new(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        Ok(CStrings::new(strings))
    }

    /// Appends one.
    pub fn push(&mut self, string: CString) {
        self.strings.push(string);
        self.point();
    }

    /// The strings.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.strings.iter().map(CString::as_c_str)
    }

    /// Points to the strings, whose heap memory does not move with the list.
    fn point(&mut self) {
        self.pointers.clear();
        self.pointers.extend(self.strings.iter().map(|string| string.as_ptr()));
        self.pointers.push(ptr::null());
    }
}

/// Becomes the program at `path`; returns only the reason why not. See execve(2).
pub fn execve(path: &CStr, arguments: &CStrings, environment: &CStrings) -> io::Error {
    // SAFETY: all three point to NUL-terminated strings, the lists end with a null pointer, and both live across the call.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Becomes the program that `program` is open on; returns only the reason why not. See execveat(2).
pub fn execve_descriptor(program: BorrowedFd<'_>, arguments: &CStrings, environment: &CStrings) -> io::Error {
    // SAFETY: as in `execve`; the empty path with AT_EMPTY_PATH names the borrowed descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` on close-on-exec. See close_range(2).
///
/// # Errors
/// Those of the fallback through `/proc/self/fd`, used before 5.11 (`CLOSE_RANGE_CLOEXEC`).
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
    // SAFETY: only flags of descriptors change; nobody's ownership of them does.
    if unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, CLOSE_RANGE_CLOEXEC) } == 0 {
        return Ok(());
    }
    close_on_exec_one_by_one(first)
}

fn close_on_exec_one_by_one(first: RawFd) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|text| text.parse::<RawFd>().ok()) else { continue };
        if number >= first {
            // SAFETY: sets a flag on a descriptor by number; at worst it has been closed since (EBADF, ignored).
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Lets the next program inherit the descriptor `number`, if it is open. See fcntl(2).
///
/// For the descriptors that a manager counts out by number (`--preserve-fds`, socket activation).
///
/// # Errors
/// `EBADF` when it is not open.
pub fn keep_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: changes only the close-on-exec flag of a descriptor by number.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the descriptor `number` is open and the next program would inherit it. See fcntl(2).
pub fn is_inherited(number: RawFd) -> bool {
    // SAFETY: reads the flags of a descriptor by number.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Makes descriptor 0, 1 or 2 a copy of `source` that the next program inherits. See dup2(2).
///
/// # Errors
/// Those of dup2(2).
pub fn replace_standard(source: BorrowedFd<'_>, target: Standard) -> io::Result<()> {
    let number = target as RawFd;
    if source.as_raw_fd() == number {
        return keep_on_exec(number); // dup2 would do nothing, and leave close-on-exec set.
    }
    // SAFETY: the standard descriptors are nobody's owned value in std; replacing one is what the caller asks for.
    if unsafe { libc::dup2(source.as_raw_fd(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor every program finds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Descriptor 0.
    Input = 0,
    /// Descriptor 1.
    Output = 1,
    /// Descriptor 2.
    Error = 2,
}

/// Gives every signal its default action and unblocks all of them, as a fresh program expects. See signal(7).
pub fn restore_default_signals() {
    // The kernel's `struct sigaction`: default action, no flags, no restorer, empty mask.
    let default = [0_usize; 4];
    for number in 1..=64 {
        // SAFETY: the kernel reads one structure and an 8-byte mask within it. Called directly, because C libraries keep
        // two signals to themselves, which somebody before us may have ignored. KILL and STOP are refused, which is fine.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), ptr::null_mut::<usize>(), 8_usize) };
    }
    // SAFETY: an empty set is made in local memory, then installed.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{CloneRequest, Cloned, exit_now};
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn a_program_gets_its_arguments() {
        let arguments = CStrings::from_texts(["sh", "-c", "exit $1", "sh", "5"]).unwrap();
        let environment = CStrings::from_texts(["A=b"]).unwrap();
        let Cloned::Parent { pidfd, .. } = CloneRequest::default().run().unwrap() else {
            execve(c"/bin/sh", &arguments, &environment);
            exit_now(99)
        };
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(5));
    }

    #[test]
    fn text_with_a_nul_byte_is_refused() {
        assert!(CStrings::from_texts(["a\0b"]).is_err());
    }

    #[test]
    fn the_fallback_marks_descriptors_too() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let first = reader.as_raw_fd();
        let Cloned::Parent { pidfd, .. } = CloneRequest::default().run().unwrap() else {
            let marked = close_on_exec_one_by_one(first).is_ok()
                && rustix::io::fcntl_getfd(&reader).is_ok_and(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC));
            exit_now(u8::from(!marked))
        };
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
}
