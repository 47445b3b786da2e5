//! The socket on which the shim is found by a manager that comes back.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A listening socket and its name in the file system.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

/// How many managers may wait to be accepted.
const BACKLOG: i32 = 16;

impl Listener {
    /// Listens at `path`; a socket that a dead shim has left there is replaced.
    ///
    /// The name is bound through its directory's descriptor, so the 108 bytes of an address never matter.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = bound(path)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Takes over a socket that already listens at `path`.
    pub fn inherited(socket: OwnedFd, path: PathBuf) -> io::Result<Self> {
        crate::stdio::set_nonblocking(rustix::fd::AsFd::as_fd(&socket))?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self { socket, path })
    }

    /// Accepts a connection from root or from the shim's own user; others are closed at once.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let socket = match rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let peer = rustix::net::sockopt::socket_peercred(&socket)?.uid;
        let trusted = peer.is_root() || peer == rustix::process::geteuid();
        Ok(trusted.then_some(socket))
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the name.
    pub fn remove(self) {
        // Whoever removed it before us wanted the same.
        let _ = rustix::fs::unlink(&self.path);
    }
}

impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        rustix::fd::AsFd::as_fd(&self.socket)
    }
}

fn bound(path: &Path) -> io::Result<OwnedFd> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdir(parent, Mode::from_raw_mode(0o700)).or_else(|errno| match errno {
                Errno::EXIST => Ok(()),
                other => Err(other),
            })?;
            rustix::fs::open(parent, flags, Mode::empty())?
        }
        result => result?,
    };
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(short)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty())?;
            rustix::net::bind(&socket, &address)?;
        }
        result => result?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_no_hindrance() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200));
        let path = deep.join("socket");
        let first = Listener::bind(&path).unwrap();
        // What a dead shim left is replaced.
        drop(first);
        let second = Listener::bind(&path).unwrap();
        assert!(second.accept().unwrap().is_none());
        let dir = std::fs::File::open(&deep).unwrap();
        let short = format!("/proc/self/fd/{}/socket", dir.as_raw_fd());
        let _client = std::os::unix::net::UnixStream::connect(short).unwrap();
        assert!(second.accept().unwrap().is_some());
        second.remove();
        assert!(!path.exists());
    }
}
