//! Questions to others: raw bytes to the servers of the host or of a container, and back.
//!
//! Nothing of a message is changed but its id, so whatever servers and clients agree on works. Each attempt has a
//! socket of its own, connected to its server, from a port that the kernel draws, with an id that is drawn too: who wants
//! to slip in an answer has to guess both.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use berth_sys::netns::Traveller;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::cache::Key as CacheKey;
use crate::message;
use crate::poll::{EventFlags, Key, Poll};
use crate::random::Random;

/// After this long nobody is waited for: clients give up after five seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// A server that is silent for so long gets company.
const STAGGER: Duration = Duration::from_millis(400);
/// A datagram is thought lost after this.
const RESEND: Duration = Duration::from_secs(1);
/// A server that was silent is asked last for so long.
const DISTRUST: Duration = Duration::from_secs(30);
/// Sockets to servers at most; more are refused, so that one flood cannot take every descriptor.
pub(crate) const MOST_ATTEMPTS: usize = 2048;
/// Questions of one container that wait at the same time.
const MOST_OF_ONE: usize = 256;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A socket of a container.
    Datagram {
        /// The container.
        member: u32,
        /// The socket.
        peer: SocketAddr,
    },
    /// A connection.
    Connection {
        /// The container.
        member: u32,
        /// The connection.
        client: u32,
    },
}

impl Asker {
    fn member(&self) -> u32 {
        match self {
            Asker::Datagram { member, .. } | Asker::Connection { member, .. } => *member,
        }
    }
}

/// A question to others.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) asker: Asker,
    pub(crate) query: Vec<u8>,
    pub(crate) servers: Rc<[SocketAddr]>,
    /// Where the servers are reached from; the host's network if absent.
    pub(crate) namespace: Option<Rc<OwnedFd>>,
    /// What the answer is kept under; what is no plain question is not kept.
    pub(crate) key: Option<CacheKey>,
}

/// The end of a question.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) question: Question,
    /// What a server said; `None` if none said anything.
    pub(crate) answer: Option<Vec<u8>>,
}

/// All questions to others that are under way.
pub(crate) struct Forwarder {
    traveller: Traveller,
    waiting: HashMap<u32, Waiting>,
    attempts: HashMap<u32, Attempt>,
    of_one: HashMap<u32, usize>,
    silent: HashMap<SocketAddr, Instant>,
    random: Random,
    last: u32,
}

/// A question whose answer is waited for.
struct Waiting {
    question: Question,
    /// Servers in the order in which they are asked.
    order: Vec<SocketAddr>,
    asked: usize,
    open: Vec<u32>,
    next: Instant,
    until: Instant,
    /// An answer that does not settle the matter, for want of a better one.
    poor: Option<Vec<u8>>,
}

/// One server asked.
struct Attempt {
    waiting: u32,
    server: SocketAddr,
    id: u16,
    socket: OwnedFd,
    stream: Option<Stream>,
}

/// What goes over a connection to a server.
#[derive(Default)]
struct Stream {
    output: Vec<u8>,
    input: Vec<u8>,
}

/// What an event at an attempt's socket came to.
enum Progress {
    Nothing,
    Answer(Vec<u8>),
    Failed,
}

impl Forwarder {
    /// Begins in the host's network, which the calling thread is in.
    pub(crate) fn new() -> io::Result<Forwarder> {
        Ok(Forwarder {
            traveller: Traveller::at_home()?,
            waiting: HashMap::new(),
            attempts: HashMap::new(),
            of_one: HashMap::new(),
            silent: HashMap::new(),
            random: Random::default(),
            last: 0,
        })
    }

    /// Whether nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Asks. Gives the question's number and when to [`look`](Self::look) at it again, or its end if it has one already.
    pub(crate) fn ask(
        &mut self,
        poll: &Poll,
        question: Question,
        now: Instant,
    ) -> Result<(u32, Instant), Box<Settled>> {
        let member = question.asker.member();
        let of_one = self.of_one.get(&member).copied().unwrap_or_default();
        if question.servers.is_empty() || of_one >= MOST_OF_ONE || self.attempts.len() >= MOST_ATTEMPTS {
            return Err(Box::new(Settled { question, answer: None }));
        }
        self.of_one.insert(member, of_one + 1);
        let order = self.order(&question, now);
        let number = self.number();
        let waiting =
            Waiting { question, order, asked: 0, open: Vec::new(), next: now, until: now + PATIENCE, poor: None };
        self.waiting.insert(number, waiting);
        match self.go_on(poll, number, now) {
            Some(settled) => Err(Box::new(settled)),
            None => Ok((number, self.waiting[&number].next)),
        }
    }

    /// Looks at a question whose time has come. Gives its end, or when to look again; neither if it is answered.
    pub(crate) fn look(&mut self, poll: &Poll, number: u32, now: Instant) -> (Option<Settled>, Option<Instant>) {
        let Some(waiting) = self.waiting.get(&number) else { return (None, None) };
        if now >= waiting.until {
            for attempt in &waiting.open {
                self.silent.extend(self.attempts.get(attempt).map(|attempt| (attempt.server, now)));
            }
            return (self.settle(number, None), None);
        }
        if now < waiting.next {
            return (None, Some(waiting.next));
        }
        for attempt in &waiting.open {
            self.silent.extend(self.attempts.get(attempt).map(|attempt| (attempt.server, now)));
        }
        match self.go_on(poll, number, now) {
            Some(settled) => (Some(settled), None),
            None => (None, self.waiting.get(&number).map(|waiting| waiting.next)),
        }
    }

    /// Takes what came from a server.
    pub(crate) fn heard(&mut self, poll: &Poll, number: u32, now: Instant) -> Option<Settled> {
        let attempt = self.attempts.get_mut(&number)?;
        let waiting = self.waiting.get(&attempt.waiting)?;
        let (whose, server) = (attempt.waiting, attempt.server);
        match attempt.progress(poll, number, &waiting.question.query) {
            Progress::Nothing => None,
            Progress::Answer(mut answer) => {
                self.silent.remove(&server);
                answer[..2].copy_from_slice(&waiting.question.query[..2]);
                if message::settles(&answer) {
                    return self.settle(whose, Some(answer));
                }
                self.close(number);
                self.waiting.get_mut(&whose)?.poor = Some(answer);
                self.go_on(poll, whose, now)
            }
            Progress::Failed => {
                self.close(number);
                self.go_on(poll, whose, now)
            }
        }
    }

    /// Forgets the questions of a container that is gone.
    pub(crate) fn forget(&mut self, member: u32) {
        let gone: Vec<u32> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.question.asker.member() == member)
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            self.settle(number, None);
        }
    }

    /// Asks the next server that can be asked; gives the end if there is none and none is still waited for.
    fn go_on(&mut self, poll: &Poll, number: u32, now: Instant) -> Option<Settled> {
        loop {
            let waiting = self.waiting.get_mut(&number)?;
            let Some(server) = waiting.order.get(waiting.asked).copied() else {
                waiting.next = waiting.until;
                return if waiting.open.is_empty() { self.settle(number, None) } else { None };
            };
            waiting.asked += 1;
            let gap = STAGGER.max(RESEND / u32::try_from(waiting.question.servers.len()).unwrap_or(1));
            waiting.next = (now + gap).min(waiting.until);
            if self.attempts.len() < MOST_ATTEMPTS && self.attempt(poll, number, server).is_ok() {
                return None;
            }
        }
    }

    fn attempt(&mut self, poll: &Poll, waiting: u32, server: SocketAddr) -> io::Result<()> {
        let number = self.number();
        let id = self.random.id();
        let asked = self.waiting.get_mut(&waiting).ok_or(io::ErrorKind::NotFound)?;
        let over_tcp = matches!(asked.question.asker, Asker::Connection { .. });
        let open = || socket(server, over_tcp);
        let socket = match &asked.question.namespace {
            Some(namespace) => self.traveller.visit(namespace.as_fd(), open)??,
            None => open()?,
        };
        let mut query = asked.question.query.clone();
        query[..2].copy_from_slice(&id.to_be_bytes());
        let stream = if over_tcp {
            let length = u16::try_from(query.len()).map_err(io::Error::other)?;
            query.splice(..0, length.to_be_bytes());
            poll.watch(&socket, Key::Server(number), EventFlags::OUT)?;
            Some(Stream { output: query, input: Vec::new() })
        } else {
            rustix::net::send(&socket, &query, SendFlags::NOSIGNAL)?;
            poll.watch(&socket, Key::Server(number), EventFlags::IN)?;
            None
        };
        asked.open.push(number);
        self.attempts.insert(number, Attempt { waiting, server, id, socket, stream });
        Ok(())
    }

    fn close(&mut self, number: u32) {
        if let Some(attempt) = self.attempts.remove(&number)
            && let Some(waiting) = self.waiting.get_mut(&attempt.waiting)
        {
            waiting.open.retain(|open| *open != number);
        }
    }

    fn settle(&mut self, number: u32, answer: Option<Vec<u8>>) -> Option<Settled> {
        let waiting = self.waiting.remove(&number)?;
        for attempt in &waiting.open {
            self.attempts.remove(attempt);
        }
        let member = waiting.question.asker.member();
        if let Some(count) = self.of_one.get_mut(&member) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(&member);
            }
        }
        Some(Settled { question: waiting.question, answer: answer.or(waiting.poor) })
    }

    /// Servers that were silent of late come last. Datagrams are sent twice to each, as they can be lost.
    fn order(&mut self, question: &Question, now: Instant) -> Vec<SocketAddr> {
        self.silent.retain(|_, since| now - *since < DISTRUST);
        let mut order = question.servers.to_vec();
        order.sort_by_key(|server| self.silent.contains_key(server));
        if matches!(question.asker, Asker::Datagram { .. }) {
            order.extend_from_within(..);
        }
        order
    }

    fn number(&mut self) -> u32 {
        // After four thousand million questions the first are long answered.
        self.last = self.last.wrapping_add(1);
        self.last
    }
}

impl Attempt {
    fn progress(&mut self, poll: &Poll, number: u32, query: &[u8]) -> Progress {
        let outcome = match &mut self.stream {
            None => receive(self.socket.as_fd()),
            Some(stream) => stream.go_on(poll, number, self.socket.as_fd()),
        };
        match outcome {
            Ok(Some(answer)) if message::answers(&answer, query, self.id) => Progress::Answer(answer),
            // What does not belong to the question is somebody's attempt to slip in an answer, or a late one.
            Ok(Some(_)) if self.stream.is_none() => Progress::Nothing,
            Ok(None) => Progress::Nothing,
            Ok(Some(_)) | Err(_) => Progress::Failed,
        }
    }
}

impl Stream {
    fn go_on(&mut self, poll: &Poll, number: u32, socket: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
        if !self.output.is_empty() {
            let sent = match rustix::net::send(socket, &self.output, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
                sent => sent?,
            };
            self.output.drain(..sent);
            if self.output.is_empty() {
                poll.change(socket, Key::Server(number), EventFlags::IN)?;
            }
            return Ok(None);
        }
        let mut room = [0; 4096];
        match rustix::net::recv(socket, &mut room, RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((count, _)) => self.input.extend_from_slice(&room[..count]),
            Err(errno) => return Err(errno.into()),
        }
        let Some(head) = self.input.first_chunk::<2>() else { return Ok(None) };
        Ok(self.input.get(2..2 + usize::from(u16::from_be_bytes(*head))).map(<[u8]>::to_vec))
    }
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut room = [0; 65_535];
    match rustix::net::recv(socket, &mut room, RecvFlags::DONTWAIT) {
        Ok((count, _)) => Ok(Some(room[..count].to_vec())),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A socket that speaks with one server only.
fn socket(server: SocketAddr, over_tcp: bool) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if over_tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}
