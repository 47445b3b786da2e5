//! What the resolver waits for: one epoll instance, level-triggered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

pub(crate) use rustix::event::epoll::EventFlags;

/// How many events one look gives at most.
const BATCH: usize = 64;

/// Who an event is for. Numbers are never used again, so a late event finds nobody instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The socket that daemons connect to.
    Listener,
    /// A daemon.
    Control(u32),
    /// Queries by UDP of a container.
    Datagrams(u32),
    /// A container's client that wants to ask by TCP.
    Connects(u32),
    /// A client that asks by TCP.
    Client(u32),
    /// A server that we have asked.
    Server(u32),
}

impl Key {
    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Key::Listener => (0, 0),
            Key::Control(number) => (1, number),
            Key::Datagrams(number) => (2, number),
            Key::Connects(number) => (3, number),
            Key::Client(number) => (4, number),
            Key::Server(number) => (5, number),
        };
        kind << 32 | u64::from(number)
    }

    fn unpack(data: u64) -> Option<Key> {
        let number = data as u32;
        Some(match data >> 32 {
            0 => Key::Listener,
            1 => Key::Control(number),
            2 => Key::Datagrams(number),
            3 => Key::Connects(number),
            4 => Key::Client(number),
            5 => Key::Server(number),
            _ => return None,
        })
    }
}

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poll(OwnedFd);

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Begins to watch. A hang-up is told whether asked for or not.
    pub(crate) fn watch(&self, fd: impl AsFd, key: Key, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(key.pack()), flags)?)
    }

    /// Changes what is watched for.
    pub(crate) fn change(&self, fd: impl AsFd, key: Key, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, epoll::EventData::new_u64(key.pack()), flags)?)
    }

    /// Watches no more. Needed where the descriptor has copies elsewhere.
    pub(crate) fn forget(&self, fd: impl AsFd) {
        // It was watched, or there is nothing to do.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits for events, at most so long.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Key, EventFlags)>> {
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        match epoll::wait(&self.0, &mut room[..], timeout.as_ref()) {
            Ok((ready, _)) => {
                Ok(ready.iter().filter_map(|event| Some((Key::unpack(event.data.u64())?, event.flags))).collect())
            }
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_kernel() {
        for key in
            [Key::Listener, Key::Control(1), Key::Datagrams(u32::MAX), Key::Connects(7), Key::Client(3), Key::Server(9)]
        {
            assert_eq!(Key::unpack(key.pack()), Some(key));
        }
    }
}
