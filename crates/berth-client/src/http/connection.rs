//! One connection: bytes that were read too far stay with it, so that it can be used again or taken over.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::MAX_HEAD;
use crate::error::ClientError;
use crate::transport::Stream;

/// How much is read at a time.
const READ_SIZE: usize = 32 * 1024;

/// A connection with what was read of it and not yet used.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    used: usize,
}

/// Status and headers of an answer. Names are kept in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub status: u16,
    pub keep_alive: bool,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub fn new(stream: Stream) -> Connection {
        Connection { stream, buffer: Vec::new(), used: 0 }
    }

    /// The stream and the bytes that came with the head of the answer.
    pub fn into_parts(self) -> (Stream, Vec<u8>) {
        let Connection { stream, mut buffer, used } = self;
        buffer.drain(..used);
        (stream, buffer)
    }

    /// Whether the peer has neither closed nor said anything since the last answer.
    pub fn is_quiet(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        self.used == self.buffer.len() && matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    /// Reads the head of an answer, passing over interim ones.
    pub fn read_head(&mut self) -> Result<Head, ClientError> {
        loop {
            if let Some(head) = self.parse_head()? {
                // 100 to 199 announce another head, except 101: there the protocol changes.
                if head.status >= 200 || head.status == 101 {
                    return Ok(head);
                }
                continue;
            }
            if self.buffer.len() - self.used > MAX_HEAD {
                return Err(ClientError::Protocol("the head of the answer is too long".to_owned()));
            }
            if self.fill()? == 0 {
                return Err(ClientError::Local(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn parse_head(&mut self) -> Result<Option<Head>, ClientError> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        let status = parsed.parse(&self.buffer[self.used..]);
        let length = match status.map_err(|error| ClientError::Protocol(error.to_string()))? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let headers: Vec<_> = parsed
            .headers
            .iter()
            .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
            .collect();
        let mut head = Head { status: parsed.code.unwrap_or_default(), keep_alive: false, headers };
        let connection = head.header("connection").unwrap_or_default();
        head.keep_alive = parsed.version == Some(1) && !connection.eq_ignore_ascii_case("close");
        self.used += length;
        Ok(Some(head))
    }

    /// What is read and not used, filled up when empty; empty at the end of the stream.
    pub fn peek(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            self.fill()?;
        }
        Ok(&self.buffer[self.used..])
    }

    /// What is read and not used, without reading.
    pub fn unused(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Marks `count` of the peeked bytes as used.
    pub fn consume(&mut self, count: usize) {
        self.used += count;
    }

    /// Reads more behind what is there.
    pub fn fill(&mut self) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        }
        let have = self.buffer.len();
        self.buffer.resize(have + READ_SIZE, 0);
        loop {
            match self.stream.read(&mut self.buffer[have..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.truncate(have);
                    return Err(error);
                }
                Ok(count) => {
                    self.buffer.truncate(have + count);
                    return Ok(count);
                }
            }
        }
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn connection_with(answer: &str) -> Connection {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        theirs.write_all(answer.as_bytes()).expect("write");
        Connection::new(Stream::Unix(ours))
    }

    #[test]
    fn an_interim_answer_is_passed_over_and_names_become_lower_case() {
        let mut connection =
            connection_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nApi-Version: 1.56\r\n\r\nrest");
        let head = connection.read_head().expect("head");
        assert_eq!((head.status, head.header("api-version"), head.keep_alive), (200, Some("1.56"), true));
        assert_eq!(connection.into_parts().1, b"rest");
    }

    #[test]
    fn a_taken_over_connection_keeps_what_came_with_its_head() {
        let mut connection = connection_with("HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nhello");
        assert_eq!(connection.read_head().expect("head").status, 101);
        assert_eq!(connection.into_parts().1, b"hello");
    }

    #[test]
    fn what_is_not_http_or_ends_early_is_an_error() {
        assert!(matches!(connection_with("SSH-2.0-x\r\n\r\n").read_head(), Err(ClientError::Protocol(_))));
        assert!(matches!(connection_with("HTTP/1.1 200 OK\r\n").read_head(), Err(ClientError::Local(_))));
    }
}
