//! A client that is attached to a process: takes part in its output, and may write its input.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_proto::shim;
use rustix::io::Errno;

use crate::poll::{EventFlags, Key, Poll};
use crate::stdio::Stream;

/// So much output waits for a slow client before the process has to wait too.
pub const MAX_BACKLOG: usize = 1 << 20;

/// How output goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Each piece in a frame that names its stream.
    Multiplexed,
    /// As it is: there is a terminal, and so one stream.
    Plain,
}

/// An attached client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub number: u32,
    /// The process it is attached to.
    pub process: u32,
    descriptor: OwnedFd,
    framing: Framing,
    streams: shim::StreamSet,
    backlog: Backlog,
    detach: DetachKeys,
    input: Input,
    /// What it is watched for at present.
    watched: Watched,
    /// No output will come any more.
    ended: bool,
}

/// Whether the client's input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// It is not wanted, or has ended.
    Closed,
    /// It is read as it comes.
    Open,
    /// It waits until the process has taken what came before.
    Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    /// A plain file is always ready.
    Never,
    For(EventFlags),
}

/// What reading a client's input gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes for the process.
    Bytes(Vec<u8>),
    /// Nothing now.
    Nothing,
    /// The client has ended its side.
    End,
    /// The client has typed its detach keys, perhaps after some bytes.
    Detach(Vec<u8>),
}

impl Client {
    /// Takes a client's descriptor: a socket, or one end of a FIFO or pipe, or a file.
    ///
    /// `before` goes out first, as it is.
    pub fn new(
        poll: &Poll,
        number: u32,
        process: u32,
        descriptor: OwnedFd,
        wish: Wish,
        before: Vec<u8>,
    ) -> io::Result<Self> {
        let input = if wish.streams.stdin { Input::Open } else { Input::Closed };
        let mut client = Self {
            number,
            process,
            descriptor,
            framing: wish.framing,
            streams: wish.streams,
            backlog: Backlog { bytes: before, done: 0 },
            detach: DetachKeys::new(wish.detach_keys),
            input,
            watched: Watched::Never,
            ended: false,
        };
        crate::stdio::set_nonblocking(client.descriptor.as_fd())?;
        let flags = client.interest();
        match poll.watch(&client.descriptor, client.key(), flags) {
            Ok(()) => client.watched = Watched::For(flags),
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(client)
    }

    /// Whether the client has a part in a stream.
    pub fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        }
    }

    /// Whether the client writes input, or did.
    pub fn has_stdin(&self) -> bool {
        self.streams.stdin
    }

    /// Gives a piece of output to the client. What it does not take now waits.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn push(&mut self, poll: &Poll, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let header = frame_header(stream, bytes.len());
        let header = if self.framing == Framing::Multiplexed { &header[..] } else { &[] };
        let mut sent = 0;
        if self.backlog.is_empty() {
            sent = match write_both(self.descriptor.as_fd(), header, bytes) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
        }
        if sent < header.len() + bytes.len() {
            self.backlog.bytes.extend_from_slice(&header[sent.min(header.len())..]);
            self.backlog.bytes.extend_from_slice(&bytes[sent.saturating_sub(header.len())..]);
            self.rewatch(poll)?;
        }
        Ok(())
    }

    /// Sends what waits, as far as the client takes it.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn flush(&mut self, poll: &Poll) -> io::Result<()> {
        while !self.backlog.is_empty() {
            match write_both(self.descriptor.as_fd(), self.backlog.rest(), &[]) {
                Ok(count) => self.backlog.advance(count),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.rewatch(poll)
    }

    /// Reads input from the client.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn receive(&mut self) -> io::Result<Received> {
        let mut bytes = [0; 4096];
        if self.input != Input::Open {
            return Ok(Received::Nothing);
        }
        match rustix::io::read(&self.descriptor, &mut bytes) {
            Ok(0) => Ok(Received::End),
            Ok(count) => Ok(self.detach.filter(&bytes[..count])),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Passes bytes through the client's detach keys that came before it was attached.
    pub fn receive_early(&mut self, bytes: &[u8]) -> Received {
        if self.input == Input::Closed || bytes.is_empty() { Received::Nothing } else { self.detach.filter(bytes) }
    }

    /// Reads no more input for now.
    pub fn hold_input(&mut self, poll: &Poll, hold: bool) -> io::Result<()> {
        self.input = match (self.input, hold) {
            (Input::Closed, _) => Input::Closed,
            (_, true) => Input::Held,
            (_, false) => Input::Open,
        };
        self.rewatch(poll)
    }

    /// Reads no more input for ever.
    pub fn close_input(&mut self, poll: &Poll) -> io::Result<()> {
        self.input = Input::Closed;
        self.rewatch(poll)
    }

    /// Tells that no output will come: the client is done with once it has taken what waits.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether no output will come any more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether everything has been sent that ever will be.
    pub fn is_done(&self) -> bool {
        self.ended && self.backlog.is_empty()
    }

    /// Whether so much waits that its process should wait too.
    pub fn is_behind(&self) -> bool {
        self.backlog.len() > MAX_BACKLOG
    }

    /// Whether nearly nothing waits.
    pub fn has_caught_up(&self) -> bool {
        self.backlog.len() <= MAX_BACKLOG / 2
    }

    /// Ends the connection, so that the other side reads to its end and then sees it.
    pub fn close(self, poll: &Poll) {
        if self.watched != Watched::Never {
            poll.forget(&self.descriptor);
        }
        if rustix::net::shutdown(&self.descriptor, rustix::net::Shutdown::Both).is_ok() {
            // Input left unread would turn the end of the stream into a reset for the other side.
            let mut bytes = [0; 4096];
            while matches!(rustix::io::read(&self.descriptor, &mut bytes), Ok(count) if count > 0) {}
        }
    }

    fn key(&self) -> Key {
        Key::Client(self.number)
    }

    fn interest(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        if self.input == Input::Open {
            flags |= EventFlags::IN;
        }
        if !self.backlog.is_empty() {
            flags |= EventFlags::OUT;
        }
        flags
    }

    fn rewatch(&mut self, poll: &Poll) -> io::Result<()> {
        let flags = self.interest();
        if let Watched::For(present) = self.watched
            && present != flags
        {
            poll.change(&self.descriptor, self.key(), flags)?;
            self.watched = Watched::For(flags);
        }
        Ok(())
    }
}

/// How a client wants to be attached.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What it takes part in.
    pub streams: shim::StreamSet,
    /// How output goes to it.
    pub framing: Framing,
    /// What it types to detach; may be empty.
    pub detach_keys: Vec<u8>,
}

/// The header of a frame of output: stream, three zero bytes, length.
pub fn frame_header(stream: Stream, length: usize) -> [u8; 8] {
    let mut header = [stream.number(), 0, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&u32::try_from(length).expect("pieces are short").to_be_bytes());
    header
}

/// Writes to a socket without a signal, or to anything else.
fn write_both(fd: BorrowedFd<'_>, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
    // SIGPIPE is ignored by the whole process.
    rustix::io::writev(fd, &[IoSlice::new(first), IoSlice::new(second)])
}

/// Output that waits for a client.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    done: usize,
}

impl Backlog {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn advance(&mut self, count: usize) {
        self.done += count;
        if self.is_empty() {
            *self = Self::default();
        } else if self.done > MAX_BACKLOG / 2 {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
    }
}

/// Finds the detach keys in what a client types.
#[derive(Debug, Default)]
struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were typed last, and are held back.
    matched: usize,
}

impl DetachKeys {
    fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    fn filter(&mut self, bytes: &[u8]) -> Received {
        if self.keys.is_empty() {
            return Received::Bytes(bytes.to_vec());
        }
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte != self.keys[self.matched] {
                // Not the sequence after all: what was held back belongs to the process.
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return Received::Detach(out);
                }
            } else {
                out.push(byte);
            }
        }
        if out.is_empty() { Received::Nothing } else { Received::Bytes(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn wish(framing: Framing) -> Wish {
        let streams = shim::StreamSet { stdin: true, stdout: true, stderr: false };
        Wish { streams, framing, detach_keys: vec![16, 17] }
    }

    fn client(framing: Framing) -> (Poll, Client, UnixStream) {
        let poll = Poll::new().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let client = Client::new(&poll, 1, 0, ours.into(), wish(framing), Vec::new()).unwrap();
        (poll, client, theirs)
    }

    #[test]
    fn output_is_framed_unless_there_is_a_terminal() {
        for (framing, expected) in
            [(Framing::Multiplexed, &b"\x01\0\0\0\0\0\0\x02hi"[..]), (Framing::Plain, &b"hi"[..])]
        {
            let (poll, mut client, mut theirs) = client(framing);
            assert!(client.wants(Stream::Stdout) && !client.wants(Stream::Stderr));
            client.push(&poll, Stream::Stdout, b"hi").unwrap();
            client.close(&poll);
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn a_slow_client_gets_everything_later() {
        let (poll, mut client, mut theirs) = client(Framing::Multiplexed);
        let piece = vec![b'x'; 60_000];
        while !client.is_behind() {
            client.push(&poll, Stream::Stdout, &piece).unwrap();
        }
        client.end();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).unwrap();
            bytes
        });
        while !client.is_done() {
            client.flush(&poll).unwrap();
        }
        assert!(client.has_caught_up());
        client.close(&poll);
        let bytes = reader.join().unwrap();
        assert_eq!(bytes.len() % (60_000 + 8), 0);
        for frame in bytes.chunks(60_008) {
            assert_eq!(frame[..8], frame_header(Stream::Stdout, 60_000));
        }
    }

    #[test]
    fn detach_keys_are_found_and_nothing_else_is_lost() {
        let bytes = |text: &[u8]| Received::Bytes(text.to_vec());
        let mut keys = DetachKeys::new(vec![16, 17]);
        assert_eq!(keys.filter(b"ab"), bytes(b"ab"));
        assert_eq!(keys.filter(&[16]), Received::Nothing);
        assert_eq!(keys.filter(b"x"), bytes(b"\x10x"));
        assert_eq!(keys.filter(&[16, 16, 17]), Received::Detach(vec![16]));
        assert_eq!(DetachKeys::default().filter(&[16, 17]), bytes(&[16, 17]));
    }

    #[test]
    fn a_dead_client_is_an_error() {
        let (poll, mut client, theirs) = client(Framing::Plain);
        drop(theirs);
        assert!(client.push(&poll, Stream::Stdout, b"hi").is_err());
    }
}
