//! Where the body of an answer ends: by length, by chunks, or with the connection (RFC 9112, section 6.3).

use std::io::{self, Read};

use crate::{Buffered, Head};

/// No size line of a chunk, and no trailer, is longer, in bytes.
const LONGEST_SIZE: usize = 64 * 1024;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// Bytes of known number.
    Length(u64),
    /// Inside a chunk, with this many bytes left of it.
    Chunk(u64),
    /// Before the size line of a chunk; `first` is true for the first, which has no line end before it.
    ChunkSize {
        /// Whether it is the first.
        first: bool,
    },
    /// Until the peer closes.
    UntilClose,
    /// All was read.
    Nothing,
}

impl Remaining {
    /// How long the body of this answer is.
    #[must_use]
    pub fn of(head: &Head, answers_head: bool) -> Self {
        if answers_head || matches!(head.status, 100..=199 | 204 | 304) {
            return Self::Nothing;
        }
        if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Self::ChunkSize { first: true };
        }
        match head.header("content-length").map(|length| length.trim().parse()) {
            Some(Ok(0)) => Self::Nothing,
            Some(Ok(length)) => Self::Length(length),
            _ => Self::UntilClose,
        }
    }

    /// Reads the next bytes of the body into `buffer`; 0 at its end.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` if it ends before the body does, `InvalidData` for chunks that are none.
    pub fn read<S: Read>(&mut self, connection: &mut Buffered<S>, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Nothing => return Ok(0),
                Self::UntilClose => {
                    let count = connection.read(buffer)?;
                    if count == 0 && !buffer.is_empty() {
                        *self = Self::Nothing;
                    }
                    return Ok(count);
                }
                Self::Length(left) => {
                    let count = read_within(connection, buffer, *left)?;
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Self::Nothing;
                    }
                    return Ok(count);
                }
                Self::Chunk(left) => {
                    let count = read_within(connection, buffer, *left)?;
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Self::ChunkSize { first: false };
                        // The end mark usually came with the last data: taken now, the connection is free at once. What is wrong
                        // with it is told by the next read.
                        let _ = self.take_size(connection, Wait::No);
                    }
                    return Ok(count);
                }
                Self::ChunkSize { .. } => self.take_size(connection, Wait::Yes)?,
            }
        }
    }

    /// Takes the size line of a chunk, with the line end of the chunk before it and, of the last, its trailers.
    fn take_size<S: Read>(&mut self, connection: &mut Buffered<S>, wait: Wait) -> io::Result<()> {
        let Self::ChunkSize { first } = *self else { return Ok(()) };
        loop {
            if let Some((length, size)) = parse_size(connection.unused(), first)? {
                connection.consume(length);
                *self = if size == 0 { Self::Nothing } else { Self::Chunk(size) };
                return Ok(());
            }
            if matches!(wait, Wait::No) {
                return Ok(());
            }
            if connection.unused().len() > LONGEST_SIZE {
                return Err(malformed());
            }
            if connection.fill()? == 0 {
                return Err(ended());
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Wait {
    Yes,
    No,
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed chunked encoding")
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")
}

fn read_within<S: Read>(connection: &mut Buffered<S>, buffer: &mut [u8], limit: u64) -> io::Result<usize> {
    let room = usize::try_from(limit).map_or(buffer.len(), |limit| limit.min(buffer.len()));
    match connection.read(&mut buffer[..room])? {
        0 if room > 0 => Err(ended()),
        count => Ok(count),
    }
}

/// The length of a size line with all that belongs to it, and the size that it states.
fn parse_size(bytes: &[u8], first: bool) -> io::Result<Option<(usize, u64)>> {
    let skipped = if first { 0 } else { 2 };
    if bytes.len() < skipped {
        return Ok(None);
    }
    if !first && &bytes[..2] != b"\r\n" {
        return Err(malformed());
    }
    let (length, size) = match httparse::parse_chunk_size(&bytes[skipped..]).map_err(|_| malformed())? {
        httparse::Status::Complete(found) => found,
        httparse::Status::Partial => return Ok(None),
    };
    if size > 0 {
        return Ok(Some((skipped + length, size)));
    }
    let mut trailers = [httparse::EMPTY_HEADER; 16];
    match httparse::parse_headers(&bytes[skipped + length..], &mut trailers).map_err(|_| malformed())? {
        httparse::Status::Complete((trailers, _)) => Ok(Some((skipped + length + trailers, 0))),
        httparse::Status::Partial => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most so many bytes at once.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn check(answer: &str, want: Result<&str, io::ErrorKind>, left: &str) {
        // In one piece, and byte by byte: the reader may not depend on how the bytes arrive.
        for piece in [answer.len(), 1] {
            let mut connection = Buffered::new(Pieces(answer.as_bytes(), piece));
            let head = Head::read(&mut connection, 1000).unwrap();
            let mut remaining = Remaining::of(&head, false);
            let (mut body, mut buffer) = (Vec::new(), [0; 5]);
            let result = loop {
                match remaining.read(&mut connection, &mut buffer) {
                    Ok(0) => break Ok(()),
                    Ok(count) => body.extend_from_slice(&buffer[..count]),
                    Err(error) => break Err(error.kind()),
                }
            };
            assert_eq!(
                result.map(|()| String::from_utf8_lossy(&body).into_owned()),
                want.map(str::to_owned),
                "{answer}"
            );
            while connection.fill().unwrap() > 0 {}
            assert_eq!(String::from_utf8_lossy(connection.unused()), left, "{answer}");
        }
    }

    #[test]
    fn bodies_by_length_chunks_and_close() {
        let ok = "HTTP/1.1 200 OK\r\n";
        check(&format!("{ok}Content-Length: 7\r\n\r\nabcdefgNEXT"), Ok("abcdefg"), "NEXT");
        check(
            &format!("{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n8;x=y\r\ndefghijk\r\n0\r\n\r\n"),
            Ok("abcdefghijk"),
            "",
        );
        check(&format!("{ok}Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\nNEXT"), Ok(""), "NEXT");
        check(&format!("{ok}\r\nto the end"), Ok("to the end"), "");
        check("HTTP/1.1 304 Not Modified\r\n\r\nNEXT", Ok(""), "NEXT");
        check(&format!("{ok}Content-Length: 7\r\n\r\nabc"), Err(io::ErrorKind::UnexpectedEof), "");
        check(&format!("{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nab"), Err(io::ErrorKind::UnexpectedEof), "");
        check(
            &format!("{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n"),
            Err(io::ErrorKind::InvalidData),
            "X\r\n",
        );
    }
}
