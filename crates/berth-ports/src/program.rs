//! The process: one thread, one loop, one socket to be asked on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::holder::{Answer, Change, Holder, read};
use crate::relay::Relays;

/// The name and the words by which the program is started; its stdin is a socket that listens.
pub const START_WORDS: [&str; 2] = ["berth-ports", "--serve"];

/// How long the process stays with nothing to hold while somebody is connected. He finds it gone, and starts another.
const IDLE: Duration = Duration::from_secs(5);
/// A request of ten thousand ports is far below this.
const LONGEST_REQUEST: usize = 4 * 1024 * 1024;

/// The numbers of the listening socket and of the first connection.
const LISTENER: u64 = 0;

/// Serves on the socket that is our stdin, until there is nothing left to do.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "every program of the binary is given its arguments like this")]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if arguments.first().is_none_or(|word| word != START_WORDS[1]) {
        eprintln!("berth-ports: this program is started by the daemon");
        return ExitCode::from(2);
    }
    let served = rustix::io::dup(rustix::stdio::stdin()).map_err(io::Error::from).and_then(|listener| {
        raise_limit();
        // The file it runs from is a descriptor, which is no name to be found by.
        let _ = rustix::thread::set_name(c"berth-ports");
        serve(listener)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-ports: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As many descriptors as we may have: each port is one.
fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // With fewer, a port too many is refused: no reason not to begin.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Somebody who asks.
struct Connection {
    socket: OwnedFd,
    heard: Vec<u8>,
}

struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    connections: BTreeMap<u64, Connection>,
    holder: Holder,
    relays: Relays,
    last: u64,
    /// Whether anybody has ever been here.
    asked: bool,
}

/// Serves requests on a listening socket.
///
/// # Errors
/// The kernel refuses what the loop stands on.
pub fn serve(listener: OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&listener, true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut server = Server {
        epoll,
        listener,
        connections: BTreeMap::new(),
        holder: Holder::default(),
        relays: Relays::default(),
        last: LISTENER,
        asked: false,
    };
    server.run()
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; 32];
        loop {
            let idle = self.holder.is_empty() && self.relays.is_empty();
            if idle && self.connections.is_empty() && self.asked {
                return Ok(());
            }
            let patience = if idle { Some(IDLE) } else { self.relays.patience() };
            let patience = patience.map(|time| Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: 0 });
            let events = match epoll::wait(&self.epoll, &mut room[..], patience.as_ref()) {
                Ok((ready, _)) => ready.iter().map(|event| ({ event.data }.u64(), { event.flags })).collect::<Vec<_>>(),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if events.is_empty() && idle {
                return Ok(());
            }
            for (number, flags) in events {
                if number == LISTENER {
                    self.accept();
                } else if self.connections.contains_key(&number) {
                    self.hear(number);
                } else {
                    self.relays.handle(&self.epoll, number, flags, &mut self.last);
                }
            }
            self.relays.go_on();
            self.relays.forget_idle();
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Whoever gives up before he is accepted is not missed.
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
        let trusted = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        if !trusted {
            return;
        }
        self.last += 1;
        let data = epoll::EventData::new_u64(self.last);
        if epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_ok() {
            self.connections.insert(self.last, Connection { socket, heard: Vec::new() });
            self.asked = true;
        }
    }

    fn hear(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::io::read(&connection.socket, &mut buffer) {
                Ok(count) if count > 0 && connection.heard.len() < LONGEST_REQUEST => {
                    connection.heard.extend_from_slice(&buffer[..count]);
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                _ => return drop(self.connections.remove(&number)),
            }
        }
        while let Some(end) = self.connections.get(&number).and_then(|one| one.heard.iter().position(|b| *b == b'\n')) {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let line: Vec<u8> = connection.heard.drain(..=end).collect();
            if !self.answer(number, &line) {
                return drop(self.connections.remove(&number));
            }
        }
    }

    /// Answers one request; `false` if the connection is of no use any more.
    fn answer(&mut self, number: u64, line: &[u8]) -> bool {
        let Ok(request) = read(line) else { return false };
        let (answer, change) = self.holder.carry_out(request);
        self.apply(change);
        let Some(connection) = self.connections.get(&number) else { return false };
        write_line(connection.socket.as_fd(), &answer).is_ok()
    }

    fn apply(&mut self, change: Change) {
        for (owner, held) in change.relayed {
            self.last += 1;
            self.relays.begin(&self.epoll, self.last, owner, held);
        }
        if let Some(owner) = change.released {
            self.relays.end(&owner);
        }
    }
}

fn write_line(socket: rustix::fd::BorrowedFd<'_>, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut rest = &line[..];
    while !rest.is_empty() {
        match rustix::io::write(socket, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            // An answer fits the buffer of a socket whose other end waits for nothing else.
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
