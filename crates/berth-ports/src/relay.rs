//! Carrying by hand what rules cannot: from a socket of one family to an address of another.
//!
//! One accepted connection is a pair of sockets with at most one buffer's worth under way in each direction; datagrams go by
//! one connected socket per client, forgotten after a time without any.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};

use crate::Transport;
use crate::bind::Held;

/// How much is read at once, and at most waits in one direction, in bytes.
const BUFFER: usize = 64 * 1024;
/// How long a client of UDP is remembered.
const UDP_IDLE: Duration = Duration::from_secs(90);
/// So many clients of UDP are remembered for one port; the oldest goes first.
const UDP_CLIENTS: usize = 256;
/// So many buffers are moved in one direction before others have their turn.
const TURN: usize = 16;

/// Everything that is relayed.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    sources: BTreeMap<u64, Source>,
    connections: BTreeMap<u64, Connection>,
    /// The second socket of a connection has a number of its own.
    second: BTreeMap<u64, u64>,
    flows: BTreeMap<u64, Flow>,
    /// Connections that had more to carry when their turn was over.
    busy: Vec<u64>,
}

/// A socket that clients come to.
#[derive(Debug)]
struct Source {
    owner: String,
    socket: OwnedFd,
    transport: Transport,
    target: SocketAddr,
}

/// A connection that is carried.
#[derive(Debug)]
struct Connection {
    source: u64,
    client: OwnedFd,
    server: OwnedFd,
    /// From the client to the server, and back.
    ways: [Way; 2],
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    pending: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// And the other side was told.
    told: bool,
}

/// A client of UDP.
#[derive(Debug)]
struct Flow {
    source: u64,
    client: SocketAddr,
    server: OwnedFd,
    used: Instant,
}

impl Relays {
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.connections.is_empty()
    }

    /// How long nothing need be looked at.
    pub fn patience(&self) -> Option<Duration> {
        match self.busy.is_empty() {
            false => Some(Duration::ZERO),
            true => (!self.flows.is_empty()).then_some(UDP_IDLE / 3),
        }
    }

    /// Relays from a held socket.
    pub fn begin(&mut self, epoll: &OwnedFd, number: u64, owner: String, held: Held) {
        let (Some(socket), Some(target)) = (held.socket, held.place.relay) else { return };
        if epoll::add(epoll, &socket, EventData::new_u64(number), EventFlags::IN).is_ok() {
            self.sources.insert(number, Source { owner, socket, transport: held.place.transport, target });
        }
    }

    /// Ends everything of an owner, connections under way too: their server is gone.
    pub fn end(&mut self, owner: &str) {
        let gone: Vec<u64> =
            self.sources.iter().filter(|(_, source)| source.owner == owner).map(|(number, _)| *number).collect();
        self.sources.retain(|number, _| !gone.contains(number));
        self.flows.retain(|_, flow| !gone.contains(&flow.source));
        self.connections.retain(|_, connection| !gone.contains(&connection.source));
        let connections = &self.connections;
        self.second.retain(|_, first| connections.contains_key(first));
    }

    /// Gives connections that were interrupted their next turn.
    pub fn go_on(&mut self) {
        for number in std::mem::take(&mut self.busy) {
            self.carry(number, EventFlags::empty());
        }
    }

    /// Forgets clients of UDP that have been silent.
    pub fn forget_idle(&mut self) {
        self.flows.retain(|_, flow| flow.used.elapsed() < UDP_IDLE);
    }

    /// Something happened on a socket of ours.
    pub fn handle(&mut self, epoll: &OwnedFd, number: u64, flags: EventFlags, last: &mut u64) {
        if let Some(source) = self.sources.get(&number) {
            match source.transport {
                Transport::Udp => self.datagrams(epoll, number, last),
                Transport::Tcp | Transport::Sctp => self.accept(epoll, number, last),
            }
        } else if self.flows.contains_key(&number) {
            self.answers(number);
        } else {
            let first = self.second.get(&number).copied().unwrap_or(number);
            self.carry(first, flags);
        }
    }

    fn accept(&mut self, epoll: &OwnedFd, number: u64, last: &mut u64) {
        let Some(source) = self.sources.get(&number) else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(client) = rustix::net::accept_with(&source.socket, flags) else { return };
        // A server that cannot be reached is told to the client by the end of the connection.
        let Ok(server) = connect(source.target, SocketType::STREAM) else { return };
        *last += 2;
        let (first, second) = (*last - 1, *last);
        let watch = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        let watched = epoll::add(epoll, &client, EventData::new_u64(first), watch)
            .and_then(|()| epoll::add(epoll, &server, EventData::new_u64(second), watch));
        if watched.is_ok() {
            let connection = Connection { source: number, client, server, ways: Default::default() };
            self.connections.insert(first, connection);
            self.second.insert(second, first);
        }
    }

    fn carry(&mut self, number: u64, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let carried = if flags.contains(EventFlags::ERR) { Err(Errno::PIPE) } else { connection.carry() };
        if carried == Ok(true) {
            self.busy.push(number);
        }
        if carried.is_err() || connection.ways.iter().all(|way| way.told) {
            self.connections.remove(&number);
            self.second.retain(|_, first| *first != number);
        }
    }

    fn datagrams(&mut self, epoll: &OwnedFd, number: u64, last: &mut u64) {
        let mut buffer = vec![0; BUFFER];
        while let Some(source) = self.sources.get(&number) {
            let Ok((count, _, Some(client))) =
                rustix::net::recvfrom(&source.socket, &mut buffer[..], RecvFlags::DONTWAIT)
            else {
                return;
            };
            let Ok(client) = SocketAddr::try_from(client) else { continue };
            let target = source.target;
            if let Some(server) = self.flow(epoll, number, client, target, last) {
                // A datagram may be lost; that is in the nature of it.
                let _ = rustix::net::send(server, &buffer[..count], SendFlags::DONTWAIT);
            }
        }
    }

    /// The socket of a client of UDP, new or not.
    fn flow(
        &mut self,
        epoll: &OwnedFd,
        source: u64,
        client: SocketAddr,
        target: SocketAddr,
        last: &mut u64,
    ) -> Option<&OwnedFd> {
        let known = self.flows.iter().find(|(_, flow)| flow.source == source && flow.client == client);
        let number = match known.map(|(number, _)| *number) {
            Some(number) => number,
            None => {
                let mut mine: Vec<_> = self.flows.iter().filter(|(_, flow)| flow.source == source).collect();
                if mine.len() >= UDP_CLIENTS {
                    mine.sort_by_key(|(_, flow)| flow.used);
                    let oldest = *mine[0].0;
                    self.flows.remove(&oldest);
                }
                let server = connect(target, SocketType::DGRAM).ok()?;
                *last += 1;
                epoll::add(epoll, &server, EventData::new_u64(*last), EventFlags::IN).ok()?;
                self.flows.insert(*last, Flow { source, client, server, used: Instant::now() });
                *last
            }
        };
        let flow = self.flows.get_mut(&number)?;
        flow.used = Instant::now();
        Some(&flow.server)
    }

    fn answers(&mut self, number: u64) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let Some(source) = self.sources.get(&flow.source) else { return };
        flow.used = Instant::now();
        let mut buffer = vec![0; BUFFER];
        loop {
            match rustix::net::recv(&flow.server, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((count, _)) => {
                    let _ = rustix::net::sendto(&source.socket, &buffer[..count], SendFlags::DONTWAIT, &flow.client);
                }
                Err(Errno::INTR) => {}
                // Nothing more, or the server refused: the client's next datagram tries again.
                Err(_) => return,
            }
        }
    }
}

impl Connection {
    /// Moves what can be moved in one turn. `true` if there is more.
    fn carry(&mut self) -> Result<bool, Errno> {
        let [there, back] = &mut self.ways;
        let more = there.carry(&self.client, &self.server)?;
        Ok(back.carry(&self.server, &self.client)? || more)
    }
}

impl Way {
    fn carry(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<bool, Errno> {
        let mut buffer = [0; BUFFER];
        for _ in 0..TURN {
            while !self.pending.is_empty() {
                match rustix::net::send(to, &self.pending, SendFlags::NOSIGNAL) {
                    Ok(count) => drop(self.pending.drain(..count)),
                    Err(Errno::INTR) => {}
                    // Not yet connected, or full.
                    Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                    Err(errno) => return Err(errno),
                }
            }
            self.pending = Vec::new();
            if self.ended {
                if !self.told {
                    self.told = true;
                    // Whoever is gone already needs no telling.
                    let _ = rustix::net::shutdown(to, Shutdown::Write);
                }
                return Ok(false);
            }
            match rustix::io::read(from, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }
}

fn connect(target: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}
