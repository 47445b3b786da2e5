//! Pseudo terminals. See pty(7).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::path::Arg;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// Both ends of a new pseudo terminal, close-on-exec. Opening it makes it nobody's controlling terminal.
#[derive(Debug)]
pub struct Pty {
    /// The side of whoever shows the terminal.
    pub master: OwnedFd,
    /// The side of the program.
    pub slave: OwnedFd,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl Pty {
    /// Opens one in the caller's own devpts.
    ///
    /// # Errors
    /// Those of opening `/dev/ptmx`, `ENOSPC` when there are too many.
    pub fn open() -> io::Result<Self> {
        Self::open_at(CWD, c"/dev/ptmx")
    }

    /// Opens one in the devpts whose `ptmx` is at `path` beneath `directory`.
    ///
    /// The slave is opened through the master (4.13), so no path inside that devpts is trusted.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open_at(directory: BorrowedFd<'_>, path: impl Arg) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::openat(directory, path, flags, Mode::empty())?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        Ok(Self { master, slave })
    }
}

/// Sets the size; the foreground process group gets `SIGWINCH` if it changed.
///
/// # Errors
/// `ENOTTY` when it is no terminal.
pub fn resize(terminal: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size = Winsize { ws_col: size.width, ws_row: size.height, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// The present size.
///
/// # Errors
/// `ENOTTY` when it is no terminal.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<Size> {
    let size = tcgetwinsize(terminal)?;
    Ok(Size { width: size.ws_col, height: size.ws_row })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn both_ends_are_one_terminal() {
        let pty = Pty::open().unwrap();
        rustix::io::write(&pty.slave, b"text\n").unwrap();
        let mut bytes = [0; 16];
        let count = rustix::io::read(&pty.master, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"text\r\n");
        resize(pty.master.as_fd(), Size { width: 100, height: 30 }).unwrap();
        assert_eq!(size(pty.slave.as_fd()).unwrap(), Size { width: 100, height: 30 });
    }

    #[test]
    fn a_file_has_no_size() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(size(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
