//! The body of an answer: by length, by chunks, or to the end of the connection.

use std::io::{self, Read};

use super::connection::{Connection, Head};

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// Bytes of known number.
    Length(u64),
    /// Inside a chunk, with this many bytes left of it.
    Chunk(u64),
    /// Before the size line of a chunk; `first` is true for the first, which has no line end before it.
    ChunkSize { first: bool },
    /// Until the peer closes.
    UntilClose,
    /// All was read.
    Nothing,
}

impl Remaining {
    /// How long the body of this answer is, by RFC 9112, section 6.3.
    pub fn of(head: &Head, answers_head: bool) -> Remaining {
        if answers_head || matches!(head.status, 100..=199 | 204 | 304) {
            return Remaining::Nothing;
        }
        if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Remaining::ChunkSize { first: true };
        }
        match head.header("content-length").map(|length| length.trim().parse()) {
            Some(Ok(0)) => Remaining::Nothing,
            Some(Ok(length)) => Remaining::Length(length),
            _ => Remaining::UntilClose,
        }
    }

    /// Reads the next bytes of the body into `buffer`; 0 at its end.
    pub fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Remaining::Nothing => return Ok(0),
                Remaining::UntilClose => {
                    let count = connection.peek()?.read(buffer)?;
                    connection.consume(count);
                    if count == 0 && !buffer.is_empty() {
                        *self = Remaining::Nothing;
                    }
                    return Ok(count);
                }
                Remaining::Length(left) => {
                    let count = read_some(connection, buffer, *left)?;
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Remaining::Nothing;
                    }
                    return Ok(count);
                }
                Remaining::Chunk(left) => {
                    let count = read_some(connection, buffer, *left)?;
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Remaining::ChunkSize { first: false };
                        // The end marker usually came with the last data: taken now, the connection is free at once.
                        let _ = self.take_chunk_size(connection, Wait::No);
                    }
                    return Ok(count);
                }
                Remaining::ChunkSize { .. } => self.take_chunk_size(connection, Wait::Yes)?,
            }
        }
    }

    fn take_chunk_size(&mut self, connection: &mut Connection, wait: Wait) -> io::Result<()> {
        let Remaining::ChunkSize { first } = *self else { return Ok(()) };
        loop {
            if let Some((length, size)) = parse_chunk_size(connection.unused(), first)? {
                connection.consume(length);
                *self = if size == 0 { Remaining::Nothing } else { Remaining::Chunk(size) };
                return Ok(());
            }
            if matches!(wait, Wait::No) {
                return Ok(());
            }
            if connection.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Wait {
    Yes,
    No,
}

fn read_some(connection: &mut Connection, buffer: &mut [u8], limit: u64) -> io::Result<usize> {
    let room = usize::try_from(limit).map_or(buffer.len(), |limit| limit.min(buffer.len()));
    let count = connection.peek()?.read(&mut buffer[..room])?;
    if count == 0 && room > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    connection.consume(count);
    Ok(count)
}

/// The length of a size line (with the line end of the chunk before it, and the trailers of the last) and the size that it states.
fn parse_chunk_size(bytes: &[u8], first: bool) -> io::Result<Option<(usize, u64)>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "invalid chunk in the body of the answer");
    let skipped = if first { 0 } else { 2 };
    if bytes.len() < skipped {
        return Ok(None);
    }
    if !first && &bytes[..2] != b"\r\n" {
        return Err(invalid());
    }
    let (length, size) = match httparse::parse_chunk_size(&bytes[skipped..]).map_err(|_| invalid())? {
        httparse::Status::Complete(found) => found,
        httparse::Status::Partial => return Ok(None),
    };
    if size > 0 {
        return Ok(Some((skipped + length, size)));
    }
    let mut trailers = [httparse::EMPTY_HEADER; 16];
    match httparse::parse_headers(&bytes[skipped + length..], &mut trailers).map_err(|_| invalid())? {
        httparse::Status::Complete((trailers, _)) => Ok(Some((skipped + length + trailers, 0))),
        httparse::Status::Partial => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::transport::Stream;

    fn check(answer: &str, want: Result<&str, io::ErrorKind>, left: &str) {
        // In one piece, and byte by byte: the reader may not depend on how the bytes arrive.
        for piece in [answer.len(), 1] {
            let (ours, mut theirs) = UnixStream::pair().expect("pair");
            let bytes = answer.as_bytes().to_vec();
            let writer =
                std::thread::spawn(move || bytes.chunks(piece).for_each(|part| theirs.write_all(part).expect("write")));
            let mut connection = Connection::new(Stream::Unix(ours));
            let head = connection.read_head().expect("head");
            let mut remaining = Remaining::of(&head, false);
            let mut body = Vec::new();
            let mut buffer = [0; 5];
            let result = loop {
                match remaining.read(&mut connection, &mut buffer) {
                    Ok(0) => break Ok(()),
                    Ok(count) => body.extend_from_slice(&buffer[..count]),
                    Err(error) => break Err(error.kind()),
                }
            };
            writer.join().expect("writer");
            assert_eq!(
                result.map(|()| String::from_utf8_lossy(&body).into_owned()),
                want.map(str::to_owned),
                "{answer}"
            );
            let mut rest = connection.unused().to_vec();
            while connection.fill().expect("fill") > 0 {
                rest = connection.unused().to_vec();
            }
            assert_eq!(String::from_utf8_lossy(&rest), left, "{answer}");
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
