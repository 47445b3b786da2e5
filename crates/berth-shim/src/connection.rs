//! A connection that carries ttrpc calls.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_proto::ttrpc::{Call, Server, Status};
use rustix::io::Errno;

use crate::poll::{EventFlags, Key, Poll};

/// A connection of a manager.
#[derive(Debug)]
pub struct Connection {
    /// Its number.
    pub number: u32,
    socket: OwnedFd,
    server: Server,
    /// Descriptors that came along and that no call has taken yet.
    received: Vec<OwnedFd>,
    watched: EventFlags,
}

/// A connection between two calls, of which nothing else is known than the number of the last one.
#[derive(Debug)]
pub struct Resting {
    socket: OwnedFd,
    server: Server,
}

impl Resting {
    /// One on which nothing was ever said.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, server: Server::default() }
    }
}

/// Whether the other side may still send calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It may.
    Open,
    /// It has closed the connection.
    Closed,
}

impl Connection {
    /// Takes over a connected socket.
    pub fn new(poll: &Poll, number: u32, socket: OwnedFd) -> io::Result<Self> {
        Self::resume(poll, number, Resting::new(socket))
    }

    /// Takes a connection up again.
    pub fn resume(poll: &Poll, number: u32, resting: Resting) -> io::Result<Self> {
        let Resting { socket, server } = resting;
        crate::stdio::set_nonblocking(socket.as_fd())?;
        poll.watch(&socket, Key::Connection(number), EventFlags::IN)?;
        Ok(Self { number, socket, server, received: Vec::new(), watched: EventFlags::IN })
    }

    /// Reads what is there.
    pub fn read(&mut self) -> Side {
        let mut bytes = [0; 4096];
        loop {
            match berth_sys::fdpass::receive(self.socket.as_fd(), &mut bytes, &mut self.received) {
                Ok(0) => return Side::Closed,
                Ok(count) => {
                    self.server.feed(&bytes[..count]);
                    // A short read has emptied the socket: no need to ask again.
                    if count < bytes.len() {
                        return Side::Open;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Side::Open,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Side::Closed,
            }
        }
    }

    /// Gives the next call.
    pub fn next_call(&mut self) -> Option<Call> {
        self.server.next_call()
    }

    /// Whether answers are still to be sent.
    pub fn has_outgoing(&self) -> bool {
        !self.server.outgoing.is_empty()
    }

    /// Gives the descriptors that came along.
    pub fn take_received(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.received)
    }

    /// Answers a call.
    pub fn answer(&mut self, stream: u32, result: Result<Vec<u8>, Status>) {
        self.server.answer(stream, result);
    }

    /// Sends answers, as far as the other side takes them.
    pub fn flush(&mut self, poll: &Poll) -> Side {
        let mut done = 0;
        let outgoing = &self.server.outgoing;
        let side = loop {
            if done == outgoing.len() {
                break Side::Open;
            }
            match rustix::net::send(&self.socket, &outgoing[done..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => done += count,
                Err(Errno::AGAIN) => break Side::Open,
                Err(Errno::INTR) => {}
                Err(_) => break Side::Closed,
            }
        };
        self.server.outgoing.drain(..done);
        if self.server.outgoing.is_empty() {
            self.server.outgoing = Vec::new();
        }
        self.rewatch(poll);
        side
    }

    /// Whether every descriptor that came along was taken.
    pub fn has_taken_all(&self) -> bool {
        self.received.is_empty()
    }

    /// Watches it no more, and forgets all that was said. `None` if anything is under way.
    pub fn rest(self, poll: &Poll) -> Option<Resting> {
        poll.forget(&self.socket);
        let server = self.server.rested()?;
        self.received.is_empty().then_some(Resting { socket: self.socket, server })
    }

    /// Gives the connection up: its socket, what was received beyond the last call, and what is still to be sent.
    pub fn into_parts(self, poll: &Poll) -> (OwnedFd, Vec<u8>, Vec<u8>) {
        poll.forget(&self.socket);
        let (received, outgoing) = self.server.into_parts();
        (self.socket, received, outgoing)
    }

    fn rewatch(&mut self, poll: &Poll) {
        let out = if self.server.outgoing.is_empty() { EventFlags::empty() } else { EventFlags::OUT };
        let flags = EventFlags::IN | out;
        if flags != self.watched && poll.change(&self.socket, Key::Connection(self.number), flags).is_ok() {
            self.watched = flags;
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
