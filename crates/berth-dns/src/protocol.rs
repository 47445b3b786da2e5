//! What daemon and resolver say to each other: requests with their descriptors, and answers.
//!
//! Each message is the length of its document in four bytes, little-endian, the number of its descriptors in one, and
//! the document in JSON. Descriptors come no later than the last byte of their message, but maybe sooner.
//! The daemon asks, the resolver answers in order. Both only ever add fields, and ignore those they do not know: a daemon
//! speaks with every older resolver of the same [`PROTOCOL`], and replaces one of another.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

/// The number of the protocol; another one is not understood.
pub const PROTOCOL: u32 = 1;
/// The largest document; one container with some hundred networks and aliases needs a tenth.
const LARGEST: usize = 1 << 20;
/// What stands before a document.
const HEAD: usize = 5;

/// A container, as far as names are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// The networks it is on, in the order in which they are searched.
    pub networks: Vec<Membership>,
    /// Who is asked what we do not know.
    pub upstream: Upstream,
    /// Names without a dot are never asked of others: somebody gave `ndots`, and the client will try its domains.
    #[serde(default)]
    pub keeps_single_labels: bool,
}

/// A container's place on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The network's id.
    pub network: String,
    /// The network's name: the last part of `NAME.NETWORK`.
    pub network_name: String,
    /// What others on the network call it, its own name first.
    pub names: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// The host's addresses there, by which it is reached as `host.docker.internal`.
    #[serde(default)]
    pub host: Vec<IpAddr>,
    /// What this container alone calls others.
    #[serde(default)]
    pub links: Vec<Link>,
}

/// A name that one container has for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The name.
    pub alias: String,
    /// One of the other's names on the network.
    pub target: String,
}

/// Who is asked what we do not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upstream {
    /// The host's resolvers, from the host's network.
    Host,
    /// Servers that somebody named for the container, from the container's own network.
    Named(Vec<IpAddr>),
    /// Nobody: the container has no way out.
    Nobody,
}

/// What the daemon asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Who are you?
    Hello,
    /// Serve this container; its sockets come along. One of the same id is replaced.
    Join(Member),
    /// Its names, addresses or servers are these now.
    Update(Member),
    /// It is gone.
    Leave(String),
    /// Whom do you serve?
    List,
    /// Daemons to come will connect to the socket that comes along.
    Listen,
    /// Give me copies of everything: a newer one is about to take your place.
    HandOver,
    /// It has: finish what you have begun, and end.
    Retire,
}

/// What the resolver answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// To `Hello`.
    Hello {
        /// The number of its protocol.
        protocol: u32,
        /// The version of its program.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// It is done.
    Done,
    /// It cannot be done.
    Refused(String),
    /// To `List`: their ids.
    Members(Vec<String>),
    /// To `HandOver`, once for the listening socket, which comes along.
    Listener,
    /// To `HandOver`, once for each container; its sockets come along. `Done` follows the last.
    Member(Member),
}

/// The sockets of a container, in its network namespace.
#[derive(Debug)]
pub struct Sockets {
    /// Bound, for queries by UDP.
    pub udp: OwnedFd,
    /// Listening, for queries by TCP.
    pub tcp: OwnedFd,
    /// The namespace itself; needed to ask servers from there.
    pub namespace: Option<OwnedFd>,
}

impl Sockets {
    pub(crate) fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        let namespace = self.namespace.as_ref().map(AsFd::as_fd);
        [self.udp.as_fd(), self.tcp.as_fd()].into_iter().chain(namespace).collect()
    }

    pub(crate) fn from_received(descriptors: Vec<OwnedFd>) -> Option<Sockets> {
        let mut descriptors = descriptors.into_iter();
        Some(Sockets { udp: descriptors.next()?, tcp: descriptors.next()?, namespace: descriptors.next() })
    }
}

/// The bytes of a message.
pub(crate) fn encode(message: &impl Serialize, descriptors: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - HEAD).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = u8::try_from(descriptors).map_err(io::Error::other)?;
    Ok(bytes)
}

/// What was received and not yet understood.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Received {
    /// Waits for more, without caring for how much. 0 bytes mean the end.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut room = [0; 16 * 1024];
        let count = berth_sys::fdpass::receive(socket, &mut room, &mut self.descriptors)?;
        self.bytes.extend_from_slice(&room[..count]);
        Ok(count)
    }

    /// Takes the first whole message, with its descriptors.
    ///
    /// # Errors
    /// `InvalidData` for what is no message; nothing that follows can be understood then.
    pub(crate) fn next<T: for<'de> Deserialize<'de>>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        let Some([a, b, c, d, count]) = self.bytes.first_chunk::<HEAD>().copied() else { return Ok(None) };
        let (length, count) = (u32::from_le_bytes([a, b, c, d]) as usize, usize::from(count));
        if length > LARGEST {
            return Err(invalid("a message is too large"));
        }
        let Some(document) = self.bytes.get(HEAD..HEAD + length) else { return Ok(None) };
        let message = serde_json::from_slice(document)?;
        if count > self.descriptors.len() {
            return Err(invalid("descriptors of a message are missing"));
        }
        self.bytes.drain(..HEAD + length);
        Ok(Some((message, self.descriptors.drain(..count).collect())))
    }
}

/// Sends a message whole, with its descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = encode(message, descriptors.len())?;
    let mut sent = berth_sys::fdpass::send(socket, &bytes, descriptors)?;
    while sent < bytes.len() {
        sent += berth_sys::fdpass::send(socket, &bytes[sent..], &[])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_apart_again() {
        let member = Member {
            id: "0123".into(),
            networks: vec![Membership {
                network: "n".into(),
                network_name: "front".into(),
                names: vec!["web".into()],
                addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                host: Vec::new(),
                links: vec![Link { alias: "db".into(), target: "postgres".into() }],
            }],
            upstream: Upstream::Named(vec!["9.9.9.9".parse().unwrap()]),
            keeps_single_labels: true,
        };
        let mut bytes = encode(&Request::Join(member.clone()), 1).unwrap();
        bytes.extend(encode(&Request::List, 0).unwrap());
        bytes.extend([9, 0]);
        let null = std::fs::File::open("/dev/null").unwrap().into();
        let mut received = Received { bytes, descriptors: vec![null] };
        let (message, descriptors) = received.next().unwrap().unwrap();
        assert_eq!((message, descriptors.len()), (Request::Join(member), 1));
        assert_eq!(received.next::<Request>().unwrap().unwrap().0, Request::List);
        assert!(received.next::<Request>().unwrap().is_none());
        assert_eq!(received.bytes, [9, 0]);
    }

    #[test]
    fn what_an_older_one_did_not_say_has_its_meaning() {
        let text = r#"{"join":{"id":"a","networks":[],"upstream":"host","news":1}}"#;
        let Request::Join(member) = serde_json::from_str(text).unwrap() else { panic!() };
        assert!(!member.keeps_single_labels);
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in
            [vec![255, 255, 255, 255, 0, 1], vec![2, 0, 0, 0, 0, b'x', b'y'], encode(&Request::List, 1).unwrap()]
        {
            let mut received = Received { bytes, descriptors: Vec::new() };
            assert!(received.next::<Request>().is_err());
        }
    }
}
