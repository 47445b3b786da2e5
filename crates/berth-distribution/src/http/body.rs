//! Where the body of an answer ends: by length, by chunks, or with the connection (RFC 9112, section 6.3).

use std::io;

use super::{Connection, Head};

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    Length(u64),
    /// Inside a chunk, with so many bytes left of it.
    Chunk(u64),
    /// Before the size line of a chunk; the first has no line end before it.
    ChunkSize {
        first: bool,
    },
    UntilClose,
    Nothing,
}

impl Remaining {
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

    /// Reads the next bytes of the body; 0 at its end. One that ends too early is an error.
    pub fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Nothing => return Ok(0),
                Self::UntilClose => {
                    let count = connection.read_some(buffer)?;
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
                    }
                    return Ok(count);
                }
                Self::ChunkSize { first } => {
                    let size = read_size(connection, *first)?;
                    *self = if size == 0 { Self::Nothing } else { Self::Chunk(size) };
                }
            }
        }
    }
}

fn read_within(connection: &mut Connection, buffer: &mut [u8], limit: u64) -> io::Result<usize> {
    let room = usize::try_from(limit).map_or(buffer.len(), |limit| limit.min(buffer.len()));
    match connection.read_some(&mut buffer[..room])? {
        0 if room > 0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")),
        count => Ok(count),
    }
}

/// Reads the size line of a chunk, with the line end of the chunk before it and, of the last, its trailers.
fn read_size(connection: &mut Connection, first: bool) -> io::Result<u64> {
    loop {
        if let Some((length, size)) = parse_size(connection.unused(), first)? {
            connection.used += length;
            return Ok(size);
        }
        if connection.unused().len() > super::MAX_HEAD || connection.fill()? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
        }
    }
}

fn parse_size(bytes: &[u8], first: bool) -> io::Result<Option<(usize, u64)>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "malformed chunked encoding");
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
