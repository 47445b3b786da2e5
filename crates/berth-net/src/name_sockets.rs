//! The sockets by which the name service hears a container: 127.0.0.11, ports of the kernel's choice, and the rules that
//! let clients see them at port 53.
//!
//! Nothing is bound to port 53 itself, so a server of the container's own may have it, on every address. The rules change
//! a port number in each packet and remember nothing: connection tracking stays off in the namespace, and whoever
//! turns it on sees an ordinary conversation with port 53, because questions are changed after it has looked and answers
//! before.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use crate::error::NetError;
use crate::netlink::nf_tables::{BaseChain, Expression, Family, Hook, Meta, Payload, Register, Transaction};
use crate::netlink::{NetlinkError, Socket};
use crate::networks::Networks;

/// Where every container of a named network finds the name service.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port clients use.
const PORT: u16 = 53;
/// The name of the table in the container's namespace.
const TABLE: &str = "berth-names";
/// After connection tracking, which is at -200, and before address translation, at -100.
const AFTER_TRACKING: i32 = -150;
/// Before connection tracking.
const BEFORE_TRACKING: i32 = -350;
const UDP: u8 = 17;
const TCP: u8 = 6;
const FIRST: Register = Register::new(0);

/// The name service's sockets in a namespace. They do not block.
#[derive(Debug)]
pub struct NameSockets {
    /// For questions by UDP.
    pub udp: OwnedFd,
    /// For questions by TCP; it listens.
    pub tcp: OwnedFd,
}

impl Networks {
    /// Makes the name service's sockets in a namespace and leads port 53 of [`NAME_SERVER`] to them. Those that were
    /// made before lose their way.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn name_sockets(&self, netns: OwnedFd) -> Result<NameSockets, NetError> {
        self.inside(netns, open)?
    }
}

fn open() -> Result<NameSockets, NetError> {
    let made = || -> io::Result<_> {
        let (udp, tcp) = (UdpSocket::bind((NAME_SERVER, 0))?, TcpListener::bind((NAME_SERVER, 0))?);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((udp.local_addr()?, tcp.local_addr()?, NameSockets { udp: udp.into(), tcp: tcp.into() }))
    };
    let (udp, tcp, sockets) =
        made().map_err(|source| NetError::Namespace { step: "making the name service's sockets", source })?;
    lead(udp, tcp)?;
    Ok(sockets)
}

/// Has packets to port 53 reach the sockets, and their answers come from there.
fn lead(udp: SocketAddr, tcp: SocketAddr) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    // Made first, so that there is something to delete; all of it is one transaction.
    transaction.add_table(Family::Ip, TABLE);
    transaction.delete_table(Family::Ip, TABLE);
    transaction.add_table(Family::Ip, TABLE);
    for (chain, priority) in [("questions", AFTER_TRACKING), ("answers", BEFORE_TRACKING)] {
        let base = BaseChain { kind: "filter", hook: Hook::Output, priority };
        transaction.add_chain(Family::Ip, TABLE, chain, Some(base));
    }
    for (transport, port) in [(UDP, udp.port()), (TCP, tcp.port())] {
        let question = rewrite(transport, Payload::Ipv4Destination, Payload::DestinationPort, PORT, port);
        transaction.add_rule(Family::Ip, TABLE, "questions", "to the name service", &question);
        let answer = rewrite(transport, Payload::Ipv4Source, Payload::SourcePort, port, PORT);
        transaction.add_rule(Family::Ip, TABLE, "answers", "from the name service", &answer);
    }
    transaction.commit(&mut Socket::netfilter()?)
}

/// Gives packets of the name server's address that have one port another.
fn rewrite(transport: u8, address: Payload, field: Payload, from: u16, to: u16) -> [Expression; 8] {
    [
        Expression::Payload(address, FIRST),
        Expression::Equal(FIRST, NAME_SERVER.octets().to_vec()),
        Expression::Meta(Meta::Transport, FIRST),
        Expression::Equal(FIRST, vec![transport]),
        Expression::Payload(field, FIRST),
        Expression::Equal(FIRST, from.to_be_bytes().to_vec()),
        Expression::Load(FIRST, to.to_be_bytes().to_vec()),
        Expression::WritePort(field, FIRST, if transport == TCP { 16 } else { 6 }),
    ]
}
