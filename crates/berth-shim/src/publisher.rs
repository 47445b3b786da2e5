//! Events for a foreign manager: forwarded to its ttrpc address, in order, without ever making the shim wait.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_model::Timestamp;
use berth_proto::containerd::forward::{self, ForwardRequest};
use berth_proto::containerd::types::Envelope;
use berth_proto::ttrpc::{Decoder, FLAG_REMOTE_CLOSED, Frame, Kind, Request, encode};
use prost::Message;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::poll::{EventFlags, Key, Poll};

/// How long to wait before an event is sent again.
const RETRY: Duration = Duration::from_secs(1);
/// How often an event is sent before it is given up.
const ATTEMPTS: u8 = 5;

/// Sends events to the manager.
#[derive(Debug)]
pub struct Publisher {
    address: PathBuf,
    namespace: String,
    events: VecDeque<Event>,
    link: Option<Link>,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Event {
    payload: Vec<u8>,
    /// The stream it was sent on; not yet if `None`.
    stream: Option<u32>,
    attempts: u8,
}

#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    decoder: Decoder,
    outgoing: Vec<u8>,
    next_stream: u32,
}

impl Publisher {
    /// For events of one namespace to one manager.
    pub fn new(address: &str, namespace: &str) -> Self {
        let address = PathBuf::from(address.strip_prefix("unix://").unwrap_or(address));
        Self { address, namespace: namespace.to_owned(), events: VecDeque::new(), link: None, retry_at: None }
    }

    /// The namespace of the events.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sends an event, now or as soon as somebody takes it.
    pub fn publish(&mut self, poll: &Poll, at: Timestamp, topic: &str, name: &str, event: &impl Message) {
        let envelope = Envelope {
            timestamp: Some(timestamp(at)),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(berth_proto::Any {
                type_url: format!("containerd.events.{name}"),
                value: event.encode_to_vec(),
            }),
        };
        let payload = ForwardRequest { envelope: Some(envelope) }.encode_to_vec();
        self.events.push_back(Event { payload, stream: None, attempts: 0 });
        if self.retry_at.is_none() {
            self.send(poll);
        }
    }

    /// How long until something has to be tried again.
    pub fn patience(&self) -> Option<Duration> {
        self.retry_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Tries again, when it is time.
    pub fn retry_if_due(&mut self, poll: &Poll) {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            self.send(poll);
        }
    }

    /// Takes what the connection has to say.
    pub fn handle(&mut self, poll: &Poll, flags: EventFlags) {
        let Some(link) = &mut self.link else { return };
        let answered = link.read();
        let alive = answered.is_some() && link.flush().is_ok() && !flags.contains(EventFlags::ERR);
        for stream in answered.into_iter().flatten() {
            // An event the manager refuses is refused again next time: any answer will do.
            self.events.retain(|event| event.stream != Some(stream));
        }
        if !alive {
            self.unlink();
        } else if self.events.is_empty() {
            // An idle connection would cost a descriptor for days.
            self.link = None;
        } else {
            self.rewatch(poll);
        }
    }

    fn send(&mut self, poll: &Poll) {
        if self.link.is_none() {
            match Link::new(&self.address, poll) {
                Ok(link) => self.link = Some(link),
                Err(_) => return self.unlink(),
            }
        }
        let Some(link) = &mut self.link else { return };
        for event in self.events.iter_mut().filter(|event| event.stream.is_none()) {
            event.attempts += 1;
            event.stream = Some(link.queue(&event.payload));
        }
        if link.flush().is_err() {
            return self.unlink();
        }
        self.rewatch(poll);
    }

    /// The connection is of no use: what was not answered is sent again later, some times.
    fn unlink(&mut self) {
        self.link = None;
        for event in &mut self.events {
            event.attempts += u8::from(event.stream.is_none());
            event.stream = None;
        }
        self.events.retain(|event| event.attempts < ATTEMPTS);
        self.retry_at = (!self.events.is_empty()).then(|| Instant::now() + RETRY);
    }

    fn rewatch(&mut self, poll: &Poll) {
        let Some(link) = &self.link else { return };
        let out = if link.outgoing.is_empty() { EventFlags::empty() } else { EventFlags::OUT };
        if poll.change(&link.socket, Key::Publisher, EventFlags::IN | out).is_err() {
            self.unlink();
        }
    }
}

impl Link {
    fn new(address: &std::path::Path, poll: &Poll) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(address)?)?;
        poll.watch(&socket, Key::Publisher, EventFlags::IN)?;
        Ok(Self { socket, decoder: Decoder::default(), outgoing: Vec::new(), next_stream: 1 })
    }

    fn queue(&mut self, payload: &[u8]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let request = Request {
            service: forward::SERVICE.to_owned(),
            method: "Forward".to_owned(),
            payload: payload.to_vec(),
            ..Request::default()
        };
        encode(stream, Kind::Request, FLAG_REMOTE_CLOSED, &request, &mut self.outgoing).expect("events are short");
        stream
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match rustix::net::send(&self.socket, &self.outgoing, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// The streams that were answered; `None` when the connection has ended.
    fn read(&mut self) -> Option<Vec<u32>> {
        let mut bytes = [0; 1024];
        let mut answered = Vec::new();
        loop {
            match rustix::io::read(&self.socket, &mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.feed(&bytes[..count]),
                Err(Errno::AGAIN) => return Some(answered),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
            while let Some(Frame::Whole(header, _) | Frame::TooLong(header)) = self.decoder.next() {
                answered.push(header.stream);
            }
        }
    }
}

/// A time as messages carry it.
pub fn timestamp(at: Timestamp) -> berth_proto::Timestamp {
    let nanos = at.nanos();
    let fraction = i32::try_from(nanos.rem_euclid(1_000_000_000)).expect("below a thousand million");
    berth_proto::Timestamp { seconds: nanos.div_euclid(1_000_000_000), nanos: fraction }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::containerd::events::TaskStart;
    use berth_proto::ttrpc::Server;
    use std::io::{Read, Write};

    #[test]
    fn events_are_sent_until_somebody_takes_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ttrpc");
        let poll = Poll::new().unwrap();
        let mut publisher = Publisher::new(&format!("unix://{}", path.display()), "moby");
        let event = TaskStart { container_id: "abc".to_owned(), pid: 7 };
        publisher.publish(&poll, Timestamp::from_nanos(1), "/tasks/start", "TaskStart", &event);
        assert!(publisher.patience().is_some());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        publisher.retry_at = Some(Instant::now());
        publisher.retry_if_due(&poll);
        let (mut manager, _) = listener.accept().unwrap();
        let (mut server, mut bytes) = (Server::default(), [0; 4096]);
        let count = manager.read(&mut bytes).unwrap();
        server.feed(&bytes[..count]);
        let call = server.next_call().unwrap();
        let envelope = ForwardRequest::decode(call.request.payload.as_slice()).unwrap().envelope.unwrap();
        assert_eq!((envelope.namespace.as_str(), envelope.topic.as_str()), ("moby", "/tasks/start"));
        assert_eq!(TaskStart::decode(envelope.event.unwrap().value.as_slice()).unwrap(), event);
        server.answer(call.stream, Ok(Vec::new()));
        manager.write_all(&server.outgoing).unwrap();
        publisher.handle(&poll, EventFlags::IN);
        assert!(publisher.events.is_empty() && publisher.link.is_none() && publisher.patience().is_none());
    }

    #[test]
    fn an_event_that_nobody_takes_is_given_up() {
        let poll = Poll::new().unwrap();
        let mut publisher = Publisher::new("/nobody/listens", "moby");
        publisher.publish(&poll, Timestamp::from_nanos(1), "/t", "TaskStart", &TaskStart::default());
        for _ in 0..ATTEMPTS {
            publisher.send(&poll);
        }
        assert!(publisher.events.is_empty() && publisher.patience().is_none());
    }
}
