//! What the shim waits for: one epoll instance, level-triggered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

pub use rustix::event::epoll::EventFlags;

use crate::stdio::Stream;

/// Who an event is for. Numbers are never used again, so a late event finds nobody instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Signals.
    Signals,
    /// The listening socket.
    Listener,
    /// A connection that carries calls.
    Connection(u32),
    /// An attached client.
    Client(u32),
    /// Output of a process.
    Output(u32, Stream),
    /// Input of a process can be written.
    Stdin(u32),
    /// The container may have run out of memory.
    Oom,
    /// The connection to whoever takes events.
    Publisher,
}

impl Key {
    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Key::Signals => (0, 0),
            Key::Listener => (1, 0),
            Key::Connection(number) => (2, number),
            Key::Client(number) => (3, number),
            Key::Output(number, Stream::Stdout) => (4, number),
            Key::Output(number, Stream::Stderr) => (5, number),
            Key::Stdin(number) => (6, number),
            Key::Oom => (7, 0),
            Key::Publisher => (8, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn unpack(data: u64) -> Option<Self> {
        let number = data as u32;
        Some(match data >> 32 {
            0 => Key::Signals,
            1 => Key::Listener,
            2 => Key::Connection(number),
            3 => Key::Client(number),
            4 => Key::Output(number, Stream::Stdout),
            5 => Key::Output(number, Stream::Stderr),
            6 => Key::Stdin(number),
            7 => Key::Oom,
            8 => Key::Publisher,
            _ => return None,
        })
    }
}

/// How many events one look gives at most.
const BATCH: usize = 16;

/// The epoll instance.
#[derive(Debug)]
pub struct Poll(Place);

/// Where its descriptor is.
#[derive(Debug)]
enum Place {
    Own(OwnedFd),
    Stdin,
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Place::Own(descriptor) => descriptor.as_fd(),
            Place::Stdin => rustix::stdio::stdin(),
        }
    }
}

impl Poll {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Place::Own(epoll::create(epoll::CreateFlags::CLOEXEC)?)))
    }

    /// Moves it to the place of stdin, which a shim has no use for: a descriptor is spared. Children get a stdin of their own.
    pub fn onto_stdin(self) -> io::Result<Self> {
        rustix::stdio::dup2_stdin(&self.0)?;
        Ok(Self(Place::Stdin))
    }

    /// Begins to watch. A hang-up is told whether asked for or not.
    ///
    /// # Errors
    /// `EPERM` for a plain file, which is always ready.
    pub fn watch(&self, fd: impl AsFd, key: Key, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(key.pack()), flags)?)
    }

    /// Changes what is watched for.
    pub fn change(&self, fd: impl AsFd, key: Key, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, epoll::EventData::new_u64(key.pack()), flags)?)
    }

    /// Watches no more. Needed only where the descriptor has copies elsewhere.
    pub fn forget(&self, fd: impl AsFd) {
        // It was watched, or there is nothing to do.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits for events, at most so long.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Events> {
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        let mut events = Events { list: [None; BATCH] };
        match epoll::wait(&self.0, &mut room[..], timeout.as_ref()) {
            Ok((ready, _)) => {
                for (slot, event) in events.list.iter_mut().zip(ready) {
                    let (data, flags) = (event.data, event.flags);
                    *slot = Key::unpack(data.u64()).map(|key| (key, flags));
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(events)
    }
}

/// What one look gave.
#[derive(Debug)]
pub struct Events {
    list: [Option<(Key, EventFlags)>; BATCH],
}

impl Events {
    /// The events.
    pub fn iter(&self) -> impl Iterator<Item = (Key, EventFlags)> + '_ {
        self.list.iter().filter_map(|event| *event)
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.list[0].is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_kernel() {
        for key in [
            Key::Signals,
            Key::Listener,
            Key::Connection(u32::MAX),
            Key::Client(7),
            Key::Output(3, Stream::Stdout),
            Key::Output(3, Stream::Stderr),
            Key::Stdin(9),
            Key::Oom,
            Key::Publisher,
        ] {
            assert_eq!(Key::unpack(key.pack()), Some(key));
        }
    }

    #[test]
    fn events_name_their_key() {
        let poll = Poll::new().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        poll.watch(&reader, Key::Client(1), EventFlags::IN).unwrap();
        assert!(poll.wait(Some(Duration::ZERO)).unwrap().is_empty());
        rustix::io::write(&writer, b"x").unwrap();
        let events = poll.wait(None).unwrap();
        assert_eq!(events.iter().next(), Some((Key::Client(1), EventFlags::IN)));
    }
}
