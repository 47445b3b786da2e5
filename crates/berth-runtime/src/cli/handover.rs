//! What a call leaves behind for others: the pid file, the terminal, the pidfd.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_sys::fdpass;
use berth_sys::mount::descriptor_path;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;

use super::arguments::Parsed;
use crate::error::{RuntimeError, Step};

/// Writes the pid, whole or not at all: who waits for the file reads it at once.
pub(super) fn write_pid_file(parsed: &Parsed, pid: Pid) -> Result<(), RuntimeError> {
    let Some(path) = parsed.value("pid-file").map(Path::new) else { return Ok(()) };
    let name =
        path.file_name().ok_or_else(|| RuntimeError::invalid("--pid-file", format!("{path:?} is no file name")))?;
    let draft = path.with_file_name(format!(".{}", name.to_string_lossy()));
    fs::write(&draft, pid.as_raw_nonzero().to_string()).step("writing", &draft)?;
    fs::rename(&draft, path).step("writing", path)
}

/// Sends the terminal's master to the socket of `--console-socket`.
pub(super) fn send_terminal(parsed: &Parsed, terminal: Option<&OwnedFd>) -> Result<(), RuntimeError> {
    match (parsed.value("console-socket"), terminal) {
        (Some(path), Some(master)) => send(path, "/dev/ptmx", master.as_fd()).step("sending the terminal to", path),
        _ => Ok(()),
    }
}

/// Sends the pidfd to the socket of `--pidfd-socket`.
pub(super) fn send_pidfd(parsed: &Parsed, pidfd: BorrowedFd<'_>) -> Result<(), RuntimeError> {
    match parsed.value("pidfd-socket") {
        Some(path) => send(path, "pidfd", pidfd).step("sending the pidfd to", path),
        None => Ok(()),
    }
}

fn send(path: &str, word: &str, descriptor: BorrowedFd<'_>) -> std::io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, Path::new(path))?;
    fdpass::send(socket.as_fd(), word.as_bytes(), &[descriptor]).map(drop)
}

/// Connects however long the path is: the address holds 108 bytes, a descriptor stands for the rest.
fn connect(socket: &OwnedFd, path: &Path) -> std::io::Result<()> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok(rustix::net::connect(socket, &address)?);
    }
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let target = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    let address = SocketAddrUnix::new(descriptor_path(target.as_fd()))?;
    Ok(rustix::net::connect(socket, &address)?)
}

/// Who gets the terminal of a process that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TerminalUse {
    /// There is none.
    None,
    /// Whoever listens at `--console-socket`.
    Sent,
    /// The terminal that the call itself runs on.
    Own,
}

impl TerminalUse {
    /// Finds out, and refuses what cannot be.
    pub(super) fn choose(parsed: &Parsed, terminal: bool, detached: bool) -> Result<TerminalUse, RuntimeError> {
        let refuse = |reason: &str| Err(RuntimeError::invalid("--console-socket", reason));
        match (terminal, parsed.has("console-socket"), detached) {
            (true, true, true) => Ok(TerminalUse::Sent),
            (true, false, true) => refuse("a detached process with a terminal needs a console socket"),
            (false, true, _) => refuse("cannot be used without a terminal"),
            (true, true, false) => refuse("cannot be used without detaching"),
            (true, false, false) => Ok(TerminalUse::Own),
            (false, false, _) => Ok(TerminalUse::None),
        }
    }
}
