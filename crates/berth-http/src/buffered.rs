//! One connection: bytes that were read too far stay with it, so that it can be used again or taken over.

use std::io::{self, Read};

/// How much is read at first: most answers are a few hundred bytes, and room that nothing comes to costs a short program its pages.
const FIRST: usize = 1024;

/// How much is read at a time where nobody wants more at once.
const MOST: usize = 32 * 1024;

/// A stream with what was read of it and not yet used.
#[derive(Debug)]
pub struct Buffered<S> {
    stream: S,
    buffer: Vec<u8>,
    used: usize,
    /// How much is read next.
    room: usize,
}

impl<S> Buffered<S> {
    /// Begins with nothing read.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), used: 0, room: FIRST }
    }

    /// The stream, to look at.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, to write to.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream and the bytes that were read too far.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        let Self { stream, mut buffer, used, .. } = self;
        buffer.drain(..used);
        (stream, buffer)
    }

    /// What is read and not used.
    pub fn unused(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Marks `count` of those bytes as used.
    pub fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }
}

impl<S: Read> Buffered<S> {
    /// Reads more behind what is there; 0 at the end of the stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn fill(&mut self) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        }
        let have = self.buffer.len();
        self.buffer.resize(have + self.room, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[have..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = *read.as_ref().unwrap_or(&0);
        if count == self.room {
            self.room = (2 * self.room).min(MOST);
        }
        self.buffer.truncate(have + count);
        read
    }
}

impl<S: Read> Read for Buffered<S> {
    /// Gives what was read too far, or reads straight into the caller's buffer.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let have = self.unused();
        if have.is_empty() {
            return self.stream.read(buffer);
        }
        let count = have.len().min(buffer.len());
        buffer[..count].copy_from_slice(&have[..count]);
        self.consume(count);
        Ok(count)
    }
}
