//! Binding a socket to a port so that nobody else can.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::{Place, Transport};

/// How many connections that are to be relayed wait to be accepted.
const BACKLOG: i32 = 1024;

/// A port that is held, as long as this lives.
#[derive(Debug)]
pub struct Held {
    /// The place.
    pub place: Place,
    /// The socket; `None` for a protocol that this kernel does not have, whose ports nobody could take.
    pub socket: Option<OwnedFd>,
}

/// Binds a socket to a place in the network namespace of the calling thread.
///
/// # Errors
/// Those of bind(2): `EADDRINUSE` when somebody has it, `EADDRNOTAVAIL` when the host has no such address.
pub fn hold(place: Place) -> io::Result<Held> {
    let family = if place.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match place.transport {
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
        Transport::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(family, kind, flags, Some(protocol)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT | Errno::AFNOSUPPORT) => {
            return Ok(Held { place, socket: None });
        }
        other => other?,
    };
    if place.address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if place.transport != Transport::Udp {
        // What is left of connections of an earlier program on this port must not keep it from us. A socket that listens
        // keeps others away all the same.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(place.address, place.port))?;
    if place.relay.is_none() {
        // Packets come here only while the rules are missing. Nobody would ever answer them; a client whose first packet
        // is lost asks again, and by then the rules are back.
        berth_sys::socket_filter::drop_everything(rustix::fd::AsFd::as_fd(&socket))?;
    }
    if place.transport != Transport::Udp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(Held { place, socket: Some(socket) })
}

/// Binds all of the places or none.
///
/// # Errors
/// The position of the first that cannot be had, and why.
pub fn hold_all(places: &[Place]) -> Result<Vec<Held>, (usize, io::Error)> {
    places.iter().enumerate().map(|(position, place)| hold(*place).map_err(|error| (position, error))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_nobody_else_s() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for transport in [Transport::Tcp, Transport::Udp] {
            let place = |address: &str| Place { transport, address: address.parse().unwrap(), port: free, relay: None };
            let held = hold(place("127.0.0.1")).unwrap();
            let again = hold(place("127.0.0.1")).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
            assert_eq!(hold(place("0.0.0.0")).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            match transport {
                Transport::Tcp => assert!(std::net::TcpListener::bind(("127.0.0.1", free)).is_err()),
                _ => assert!(std::net::UdpSocket::bind(("127.0.0.1", free)).is_err()),
            }
            // Another address of the same port is free.
            drop(hold(place("127.0.0.2")).unwrap());
            drop(held);
            drop(hold(place("127.0.0.1")).unwrap());
        }
    }

    #[test]
    fn all_are_held_or_none() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at =
            |address: &str| Place { transport: Transport::Tcp, address: address.parse().unwrap(), port, relay: None };
        let (position, error) = hold_all(&[at("127.0.0.1"), at("192.0.2.1")]).unwrap_err();
        assert_eq!((position, error.kind()), (1, io::ErrorKind::AddrNotAvailable));
        assert_eq!(hold_all(&[at("127.0.0.1")]).unwrap().len(), 1);
    }
}
