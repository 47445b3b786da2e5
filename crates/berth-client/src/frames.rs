//! The multiplexed stream of attach, exec and logs without a terminal: 8-byte headers before each piece.

/// Which stream a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the process read; sent back by nobody today.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// An error of the engine, as text.
    Engine,
}

/// Takes a multiplexed stream apart as it comes, in pieces of any size.
///
/// A frame's content is handed on as soon as part of it is there, so that memory does not depend on frame sizes.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    header: [u8; 8],
    header_filled: usize,
    current: Option<(Kind, u32)>,
}

/// A header that no daemon sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized stream: {0}")]
pub struct UnknownStream(pub u8);

impl Demultiplexer {
    /// Passes the content in `bytes` on to `sink`, piece by piece.
    ///
    /// # Errors
    /// [`UnknownStream`] for a header whose first byte is not a stream: the bytes are not multiplexed.
    pub fn feed(&mut self, mut bytes: &[u8], mut sink: impl FnMut(Kind, &[u8])) -> Result<(), UnknownStream> {
        while !bytes.is_empty() {
            match &mut self.current {
                Some((kind, left)) => {
                    let count = bytes.len().min(*left as usize);
                    sink(*kind, &bytes[..count]);
                    *left -= count as u32;
                    bytes = &bytes[count..];
                    if *left == 0 {
                        self.current = None;
                    }
                }
                None => {
                    let count = bytes.len().min(self.header.len() - self.header_filled);
                    self.header[self.header_filled..self.header_filled + count].copy_from_slice(&bytes[..count]);
                    self.header_filled += count;
                    bytes = &bytes[count..];
                    if self.header_filled == self.header.len() {
                        self.begin_frame()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self) -> Result<(), UnknownStream> {
        let kind = match self.header[0] {
            0 => Kind::Stdin,
            1 => Kind::Stdout,
            2 => Kind::Stderr,
            3 => Kind::Engine,
            other => return Err(UnknownStream(other)),
        };
        let [_, _, _, _, a, b, c, d] = self.header;
        self.header_filled = 0;
        let length = u32::from_be_bytes([a, b, c, d]);
        self.current = (length > 0).then_some((kind, length));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(stream: &[u8], piece: usize) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut demultiplexer = Demultiplexer::default();
        for part in stream.chunks(piece) {
            demultiplexer
                .feed(part, |kind, bytes| match kind {
                    Kind::Stdout => out.extend_from_slice(bytes),
                    _ => err.extend_from_slice(bytes),
                })
                .expect("known streams");
        }
        (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    #[test]
    fn frames_come_apart_whatever_the_pieces() {
        let stream = b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\x03bad\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01!";
        for piece in 1..stream.len() {
            assert_eq!(collect(stream, piece), ("hello!".to_owned(), "bad".to_owned()), "in pieces of {piece}");
        }
    }

    #[test]
    fn bytes_that_are_not_frames_are_refused() {
        let mut demultiplexer = Demultiplexer::default();
        assert_eq!(demultiplexer.feed(b"hello there", |_, _| {}), Err(UnknownStream(b'h')));
    }
}
