//! The socket between a new process and its maker: a few short messages, and the reason when something fails.
//!
//! A packet socket (`SOCK_SEQPACKET`), so a message is one packet and the end of the other side is a clean end of file: the
//! descriptor is close-on-exec, so end of file is also how the maker learns that execve(2) succeeded.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::fdpass;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{RuntimeError, Step};

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What the new process says.
#[derive(Debug)]
pub(crate) enum Report {
    /// The environment is there, but the root is not switched: hooks may run now.
    Environment,
    /// Everything is set up but for the program; with the terminal's master, if it has one.
    Ready(Option<OwnedFd>),
    /// It failed and has ended.
    Failed(RuntimeError),
    /// It ended without a word, or became the program.
    Ended,
}

const ENVIRONMENT: u8 = b'H';
const READY: u8 = b'R';
const FAILED: u8 = b'E';
const GO_ON: u8 = b'G';
const LONGEST: usize = 16 * 1024;

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> Result<(Channel, Channel), RuntimeError> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .step("making the start socket", "")?;
        Ok((Channel(one), Channel(other)))
    }

    /// An end that was connected elsewhere.
    pub(crate) fn from_socket(socket: OwnedFd) -> Channel {
        Channel(socket)
    }

    /// Tells the other side to go on.
    pub(crate) fn go_on(&self) -> Result<(), RuntimeError> {
        self.send(&[GO_ON], &[]).step("letting the container go on", "")
    }

    /// Waits to be told to go on; `false` when the other side has gone.
    pub(crate) fn wait(&self) -> Result<bool, RuntimeError> {
        let mut byte = [0_u8; 1];
        let count = retry(|| fdpass::receive(self.0.as_fd(), &mut byte, &mut Vec::new()));
        Ok(count.step("waiting for the runtime", "")? == 1)
    }

    /// Says that hooks may run.
    pub(crate) fn environment(&self) -> Result<(), RuntimeError> {
        self.send(&[ENVIRONMENT], &[]).step("reporting the environment", "")
    }

    /// Says that all is ready, and hands over the terminal.
    pub(crate) fn ready(&self, terminal: Option<&OwnedFd>) -> Result<(), RuntimeError> {
        match terminal {
            Some(master) => self.send(&[READY], &[master.as_fd()]),
            None => self.send(&[READY], &[]),
        }
        .step("reporting readiness", "")
    }

    /// Says what failed, in a second message. There is nobody to tell when this fails too.
    pub(crate) fn failed(&self, error: &RuntimeError) {
        let mut text = serde_json::to_vec(error).unwrap_or_default();
        text.truncate(LONGEST);
        let _ = self.send(&[FAILED], &[]).and_then(|()| self.send(&text, &[]));
    }

    /// Waits for what the other side has to say.
    pub(crate) fn receive(&self) -> Result<Report, RuntimeError> {
        let mut descriptors = Vec::new();
        let mut word = [0_u8; 1];
        let count = self.read(&mut word, &mut descriptors)?;
        Ok(match word[..count] {
            [] => Report::Ended,
            [ENVIRONMENT] => Report::Environment,
            [READY] => Report::Ready(descriptors.pop()),
            _ => Report::Failed(self.receive_error()?),
        })
    }

    fn receive_error(&self) -> Result<RuntimeError, RuntimeError> {
        let mut text = vec![0_u8; LONGEST];
        let count = self.read(&mut text, &mut Vec::new())?;
        Ok(serde_json::from_slice(&text[..count]).unwrap_or_else(|_| unreadable()))
    }

    fn read(&self, message: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<usize, RuntimeError> {
        let mut read = || retry(|| fdpass::receive(self.0.as_fd(), message, descriptors));
        match read() {
            // The other end was closed with something of ours unread. The kernel tells that once, and before what was said last.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => read(),
            count => count,
        }
        .step("waiting for the container", "")
    }

    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        retry(|| fdpass::send(self.0.as_fd(), message, descriptors)).map(drop)
    }
}

fn unreadable() -> RuntimeError {
    RuntimeError::Lost { reason: "its report cannot be read".to_owned() }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_the_socket_whole() {
        let (here, there) = Channel::pair().unwrap();
        let error = RuntimeError::invalid("mounts[3]", "no such option");
        there.failed(&error);
        drop(there);
        assert!(matches!(here.receive().unwrap(), Report::Failed(received) if received == error));
        assert!(matches!(here.receive().unwrap(), Report::Ended));
        assert!(!here.wait().unwrap());
    }

    #[test]
    fn the_last_word_is_heard_of_one_that_did_not_listen() {
        for error in [None, Some(RuntimeError::invalid("mounts[3]", "no such option"))] {
            let (here, there) = Channel::pair().unwrap();
            here.go_on().unwrap();
            error.iter().for_each(|error| there.failed(error));
            drop(there);
            let told = match here.receive().unwrap() {
                Report::Failed(error) => Some(error),
                _ => None,
            };
            assert_eq!(told, error);
            assert!(matches!(here.receive().unwrap(), Report::Ended));
        }
    }
}
