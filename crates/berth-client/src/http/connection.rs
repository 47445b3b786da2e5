//! One connection to the daemon.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use berth_http::{Buffered, Head, HeadError, Remaining};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::MAX_HEAD;
use crate::error::ClientError;
use crate::transport::Stream;

/// A connection with what was read of it and not yet used.
#[derive(Debug)]
pub(crate) struct Connection(Buffered<Stream>);

impl Connection {
    pub fn new(stream: Stream) -> Connection {
        Connection(Buffered::new(stream))
    }

    /// The stream and the bytes that came with the head of the answer.
    pub fn into_parts(self) -> (Stream, Vec<u8>) {
        self.0.into_parts()
    }

    /// Whether the peer has neither closed nor said anything since the last answer.
    pub fn is_quiet(&self) -> bool {
        let mut fds = [PollFd::new(self.0.stream(), PollFlags::IN)];
        self.unused().is_empty() && matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    /// Reads the head of an answer, passing over interim ones.
    pub fn read_head(&mut self) -> Result<Head, ClientError> {
        Head::read(&mut self.0, MAX_HEAD).map_err(|error| match error {
            HeadError::Malformed(error) => ClientError::Protocol(error.to_string()),
            HeadError::TooLong => ClientError::Protocol("the head of the answer is too long".to_owned()),
            HeadError::Io(error) => ClientError::Local(error),
        })
    }

    /// Reads the next bytes of a body; 0 at its end.
    pub fn read_body(&mut self, remaining: &mut Remaining, buffer: &mut [u8]) -> io::Result<usize> {
        remaining.read(&mut self.0, buffer)
    }

    /// What is read and not used, without reading.
    pub fn unused(&self) -> &[u8] {
        self.0.unused()
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.stream_mut().write_all(bytes)?;
        self.0.stream_mut().flush()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.stream().as_fd()
    }
}
