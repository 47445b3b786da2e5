//! The body of a request, read piece by piece from its connection.

use std::{io, time::Duration};

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::http::{
    head::{Framing, Head},
    transport::Transport,
};

/// How long a client may send nothing in the middle of a body.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a chunk's first line, and of the lines after the last chunk.
const MAX_LINE: usize = 8 << 10;
/// Bytes read ahead at once.
const READ_AHEAD: usize = 16 << 10;

/// A connection, and what was read from it ahead of time.
pub struct Wire {
    /// The connection.
    pub transport: Transport,
    /// Bytes that are not yet taken.
    pub ahead: BytesMut,
}

impl Wire {
    /// Reads more ahead; `false` at the end of the stream.
    pub async fn read_ahead(&mut self) -> io::Result<bool> {
        self.ahead.reserve(READ_AHEAD);
        Ok(self.transport.read_buf(&mut self.ahead).await? > 0)
    }
}

/// The body of one request.
pub struct Body<'w> {
    wire: &'w mut Wire,
    state: State,
    length: Option<u64>,
    continue_owed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This many bytes are left, and then nothing.
    Plain(u64),
    /// Before a chunk's first line.
    ChunkHead,
    /// This many bytes of a chunk are left.
    Chunk(u64),
    Ended,
}

impl<'w> Body<'w> {
    /// The body that follows a head.
    pub fn new(wire: &'w mut Wire, head: &Head) -> Self {
        let (state, length) = match head.framing {
            Framing::Length(0) => (State::Ended, Some(0)),
            Framing::Length(length) => (State::Plain(length), Some(length)),
            Framing::Chunked => (State::ChunkHead, None),
        };
        Self { wire, state, length, continue_owed: head.expects_continue && state != State::Ended }
    }

    /// Its length in bytes, where the client has told it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether all of it was read.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the client still waits for leave to send it.
    pub fn is_waiting(&self) -> bool {
        self.continue_owed
    }

    /// Appends to `buffer` until it has `limit` bytes, or the body ends.
    ///
    /// # Errors
    /// `UnexpectedEof` if the client goes before the end, `TimedOut` if it falls silent, `InvalidData` for broken chunks. What came
    /// before is in the buffer.
    pub async fn fill(&mut self, buffer: &mut Vec<u8>, limit: usize) -> io::Result<()> {
        if std::mem::take(&mut self.continue_owed) {
            self.wire.transport.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while buffer.len() < limit {
            match self.state {
                State::Ended => break,
                State::ChunkHead => self.chunk_head().await?,
                State::Plain(left) => {
                    let left = left - self.take(buffer, limit, left).await?;
                    self.state = if left == 0 { State::Ended } else { State::Plain(left) };
                }
                State::Chunk(left) => {
                    let left = left - self.take(buffer, limit, left).await?;
                    self.state = State::Chunk(left);
                    if left == 0 {
                        self.expect_empty_line().await?;
                        self.state = State::ChunkHead;
                    }
                }
            }
        }
        Ok(())
    }

    /// The whole body, unless it is longer than `limit`.
    pub async fn whole(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        if self.length.is_some_and(|length| length > limit as u64) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.fill(&mut bytes, limit + 1).await?;
        Ok((bytes.len() <= limit).then_some(bytes))
    }

    /// Reads up to `limit` bytes and forgets them; whether that was all.
    pub async fn discard(&mut self, limit: usize) -> io::Result<bool> {
        const PIECE: usize = 64 << 10;
        let mut buffer = Vec::new();
        let mut total = 0;
        while !self.is_ended() && total < limit {
            buffer.clear();
            self.fill(&mut buffer, PIECE).await?;
            total += buffer.len();
        }
        Ok(self.is_ended())
    }

    /// Moves some bytes of at most `left` into the buffer.
    async fn take(&mut self, buffer: &mut Vec<u8>, limit: usize, left: u64) -> io::Result<u64> {
        let room = (limit - buffer.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
        if !self.wire.ahead.is_empty() {
            let n = room.min(self.wire.ahead.len());
            buffer.extend_from_slice(&self.wire.ahead[..n]);
            self.wire.ahead.advance(n);
            return Ok(n as u64);
        }
        buffer.reserve(room);
        let n = patiently(self.wire.transport.read_buf(&mut buffer.limit(room))).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(n as u64)
    }

    async fn chunk_head(&mut self) -> io::Result<()> {
        let line = self.line().await?;
        let digits = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        let is_hex = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex);
        match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk's length is not a number")),
            Some(0) => {
                while !self.line().await?.is_empty() {}
                self.state = State::Ended;
                Ok(())
            }
            Some(length) => {
                self.state = State::Chunk(length);
                Ok(())
            }
        }
    }

    async fn expect_empty_line(&mut self) -> io::Result<()> {
        if self.line().await?.is_empty() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk is longer than it says"))
    }

    /// A line without its end.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let ahead = &mut self.wire.ahead;
            if let Some(end) = ahead.iter().position(|&b| b == b'\n') {
                let line = ahead.split_to(end + 1);
                let Some(line) = line.strip_suffix(b"\r\n") else {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line must end with CR LF"));
                };
                return Ok(line.to_vec());
            }
            if ahead.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            if !patiently(self.wire.read_ahead()).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(READ_PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::UnixStream};

    use super::*;

    /// What the body of `text` reads as, and what is left on the wire; the client leaves after it.
    async fn read(text: &str, piece: usize) -> io::Result<(Vec<u8>, usize)> {
        let (mut client, server) = UnixStream::pair()?;
        client.write_all(text.as_bytes()).await?;
        drop(client);
        let mut wire = Wire { transport: Transport::Unix(server), ahead: BytesMut::new() };
        let (head, length) = loop {
            assert!(wire.read_ahead().await?);
            if let Some(found) = Head::parse(&wire.ahead).expect("a head") {
                break found;
            }
        };
        wire.ahead.advance(length);
        let mut body = Body::new(&mut wire, &head);
        let mut bytes = Vec::new();
        while !body.is_ended() {
            let goal = bytes.len() + piece;
            body.fill(&mut bytes, goal).await?;
        }
        Ok((bytes, wire.ahead.len()))
    }

    #[tokio::test]
    async fn chunks_are_put_together_and_the_next_request_stays() {
        let text = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET";
        for piece in [1, 2, 5, 100] {
            assert_eq!(read(text, piece).await.expect("fine"), (b"abc0123456789".to_vec(), 3), "{piece}");
        }
    }

    #[tokio::test]
    async fn a_length_is_kept_to() {
        let text = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcdGET";
        assert_eq!(read(text, 3).await.expect("fine"), (b"abcd".to_vec(), 3));
    }

    #[tokio::test]
    async fn broken_bodies_are_errors() {
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (rest, kind) in [
            ("3\r\nab", io::ErrorKind::UnexpectedEof),
            ("3\r\nabcd\r\n0\r\n\r\n", io::ErrorKind::InvalidData),
            ("-3\r\nabc\r\n", io::ErrorKind::InvalidData),
            ("3\nabc\r\n", io::ErrorKind::InvalidData),
            ("\r\n", io::ErrorKind::InvalidData),
            ("ffffffffffffffff1\r\n", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(read(&format!("{chunked}{rest}"), 9).await.expect_err(rest).kind(), kind, "{rest}");
        }
    }
}
