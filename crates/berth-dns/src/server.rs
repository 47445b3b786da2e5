//! The resolver's one loop: queries of containers in, answers out.
//!
//! Everything is in the hands of one thread: what it knows of containers ([`Directory`]), what it has asked of others
//! ([`Forwarder`]), what they said ([`Cache`]). `control` adds what the daemon says, `clients` those that ask by TCP.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags};

use crate::cache::{Cache, Key as CacheKey};
use crate::clients::Client;
use crate::control::Control;
use crate::directory::Directory;
use crate::forward::{Asker, Forwarder, Question, Settled};
use crate::host::{self, HostServers};
use crate::message::{self, Kind, Query};
use crate::poll::{EventFlags, Key, Poll};
use crate::protocol::{Member, Upstream};

/// Where we are ourselves in every container: a server of that address would be asked in a circle.
const OURSELVES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Queries taken from one container before others have their turn.
const TURN: usize = 32;
/// Without a daemon and without a container there is nothing to stay for.
const IDLE: Duration = Duration::from_secs(2);

/// The resolver.
pub(crate) struct Server {
    pub(crate) poll: Poll,
    pub(crate) listener: Option<OwnedFd>,
    pub(crate) controls: HashMap<u32, Control>,
    pub(crate) members: HashMap<u32, Served>,
    pub(crate) numbers: HashMap<String, u32>,
    pub(crate) clients: HashMap<u32, Client>,
    pub(crate) directory: Directory,
    pub(crate) forwarder: Forwarder,
    /// A newer one has taken over: what was begun is brought to its end, and nothing new is taken.
    pub(crate) retired: bool,
    cache: Cache,
    host: HostServers,
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    last: u32,
    idle_since: Option<Instant>,
}

/// A container and its sockets.
pub(crate) struct Served {
    pub(crate) member: Rc<Member>,
    pub(crate) udp: Rc<OwnedFd>,
    pub(crate) tcp: OwnedFd,
    pub(crate) namespace: Option<Rc<OwnedFd>>,
    /// Clients by TCP.
    pub(crate) clients: usize,
}

/// What is to be looked at when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Question(u32),
    Client(u32),
}

impl Server {
    pub(crate) fn new(resolv_conf: PathBuf) -> io::Result<Server> {
        Ok(Server {
            poll: Poll::new()?,
            listener: None,
            controls: HashMap::new(),
            members: HashMap::new(),
            numbers: HashMap::new(),
            clients: HashMap::new(),
            directory: Directory::default(),
            forwarder: Forwarder::new()?,
            retired: false,
            cache: Cache::default(),
            host: HostServers::new(resolv_conf),
            due: BinaryHeap::new(),
            last: 0,
            idle_since: None,
        })
    }

    /// Serves until there is nobody left to serve.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.is_done() {
            for (key, flags) in self.poll.wait(self.patience())? {
                self.on_event(key, flags);
            }
            self.on_time();
        }
        Ok(())
    }

    fn on_event(&mut self, key: Key, flags: EventFlags) {
        match key {
            Key::Listener => self.accept_control(),
            Key::Control(number) => self.hear_control(number),
            Key::Datagrams(number) => self.read_datagrams(number),
            Key::Connects(number) => self.accept_client(number),
            Key::Client(number) => self.serve_client(number, flags),
            Key::Server(number) => {
                let settled = self.forwarder.heard(&self.poll, number, Instant::now());
                settled.into_iter().for_each(|settled| self.deliver(settled));
            }
        }
    }

    /// A number for something that events are for.
    pub(crate) fn number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    pub(crate) fn remind(&mut self, at: Instant, what: Due) {
        self.due.push(Reverse((at, what)));
    }

    fn read_datagrams(&mut self, number: u32) {
        let Some(served) = self.members.get(&number) else { return };
        let (udp, member) = (Rc::clone(&served.udp), Rc::clone(&served.member));
        let mut room = [0; 4096];
        for _ in 0..TURN {
            let Ok((count, _, Some(peer))) = rustix::net::recvfrom(&*udp, &mut room, RecvFlags::DONTWAIT) else {
                return; // Nothing is left, or a client of the past is gone: that is told here, too.
            };
            let Ok(peer) = SocketAddr::try_from(peer) else { continue };
            let asker = Asker::Datagram { member: number, peer };
            if let Some(answer) = self.consider(asker, &member, &room[..count]) {
                // A client that does not read loses its answer, as on any network.
                let _ = rustix::net::sendto(&*udp, &answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT, &peer);
            }
        }
    }

    /// Answers a query at once, if that can be done; else the answer comes later.
    pub(crate) fn consider(&mut self, asker: Asker, member: &Rc<Member>, bytes: &[u8]) -> Option<Vec<u8>> {
        if !message::may_be_query(bytes) {
            return None; // Nobody answers an answer.
        }
        let Some(query) = Query::parse(bytes) else {
            // Whatever it is, somebody else may understand it.
            return self.forward(asker, member, bytes, None);
        };
        let limit = match asker {
            Asker::Datagram { .. } => query.udp_limit(),
            Asker::Connection { .. } => usize::from(u16::MAX),
        };
        if let Some(answer) = self.own_answer(member, &query) {
            return Some(answer.finish(limit));
        }
        let single = !query.name.as_bytes().contains(&b'.');
        if member.keeps_single_labels && single && matches!(query.kind, Kind::A | Kind::Aaaa) {
            return Some(query.answer().finish(limit));
        }
        self.forward(asker, member, bytes, Some(limit))
    }

    /// What we know ourselves. A name of ours never goes to others, whatever is asked of it.
    fn own_answer(&mut self, member: &Member, query: &Query<'_>) -> Option<message::Answer> {
        let name = query.name.as_bytes();
        if let Some(address) = message::reverse_address(name) {
            let names = self.directory.names(member, address)?;
            let mut answer = query.answer();
            if matches!(query.kind, Kind::Ptr | Kind::Any) {
                names.iter().for_each(|name| answer.pointer(name));
            }
            return Some(answer);
        }
        let addresses = self.directory.addresses(member, name, query.kind)?;
        let mut answer = query.answer();
        addresses.into_iter().for_each(|address| answer.address(address));
        Some(answer)
    }

    /// Asks others. `limit` is how large an answer may be; what is no plain question has none, and is not kept.
    fn forward(&mut self, asker: Asker, member: &Rc<Member>, bytes: &[u8], limit: Option<usize>) -> Option<Vec<u8>> {
        let now = Instant::now();
        let whose = match asker {
            Asker::Datagram { member, .. } | Asker::Connection { member, .. } => member,
        };
        let (servers, namespace, whose) = match &member.upstream {
            Upstream::Host => (self.host_servers(now), None, 0),
            Upstream::Named(servers) => {
                let namespace = self.members.get(&whose).and_then(|served| served.namespace.clone());
                // Without its namespace they would be asked from the host's: another network, other servers.
                let servers = namespace.iter().flat_map(|_| servers).filter(|server| **server != OURSELVES);
                (servers.copied().map(host::at_port).collect(), namespace, whose)
            }
            Upstream::Nobody => (Rc::from([]), None, whose),
        };
        let key = limit.map(|_| CacheKey::of(bytes, whose));
        if let (Some(key), Some(limit)) = (&key, limit)
            && let Some(answer) = self.cache.get(key, bytes, now).filter(|answer| answer.len() <= limit)
        {
            return Some(answer);
        }
        let question = Question { asker, query: bytes.to_vec(), servers, namespace, key };
        match self.forwarder.ask(&self.poll, question, now) {
            Ok((number, at)) => {
                self.remind(at, Due::Question(number));
                None
            }
            Err(settled) => settled.answer.or_else(|| message::failure(bytes)),
        }
    }

    fn host_servers(&mut self, now: Instant) -> Rc<[SocketAddr]> {
        let (servers, changed) = self.host.servers(now);
        if changed {
            self.cache.clear();
        }
        servers
    }

    /// Takes an answer of others to whoever asked.
    fn deliver(&mut self, settled: Settled) {
        let Settled { question, answer } = settled;
        if let (Some(key), Some(answer)) = (&question.key, &answer) {
            self.cache.put(key, answer, Instant::now());
        }
        let Some(answer) = answer.or_else(|| message::failure(&question.query)) else { return };
        match question.asker {
            Asker::Datagram { member, peer } => {
                if let Some(served) = self.members.get(&member) {
                    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                    // As above: a client that does not read loses its answer.
                    let _ = rustix::net::sendto(&*served.udp, &answer, flags, &peer);
                }
            }
            Asker::Connection { client, .. } => self.answer_client(client, &answer),
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, what))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            match what {
                Due::Question(number) => {
                    let (settled, again) = self.forwarder.look(&self.poll, number, now);
                    again.into_iter().for_each(|at| self.remind(at, what));
                    settled.into_iter().for_each(|settled| self.deliver(settled));
                }
                Due::Client(number) => self.look_at_client(number, now),
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        let idle = self.idle_since.map(|since| since + IDLE);
        let next = due.into_iter().chain(idle).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn is_done(&mut self) -> bool {
        if self.retired {
            return self.forwarder.is_idle() && self.clients.is_empty();
        }
        if !self.controls.is_empty() || !self.members.is_empty() {
            self.idle_since = None;
            return false;
        }
        self.idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE
    }
}
