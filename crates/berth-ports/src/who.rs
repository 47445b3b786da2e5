//! Who has a port: from the kernel's list of sockets to the process that has the socket open.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::{Place, Transport};

/// The state of a TCP socket that listens.
const LISTEN: &str = "0A";

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name, as the kernel knows it.
    pub name: String,
    /// Its id.
    pub pid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, pid {}", self.name, self.pid)
    }
}

/// The process that keeps us from a place, in the network namespace of the calling thread. `None` when there is none, or
/// when it cannot be seen from here.
#[must_use]
pub fn owner_of(place: &Place) -> Option<Owner> {
    let mut inodes = Vec::new();
    for (file, listening) in lists(place.transport) {
        let text = std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| in_the_way(line, place, *listening)));
    }
    process_with(&inodes)
}

/// The first port of a range that somebody has, by the kernel's list of sockets: one look for any number of ports, where binding
/// to each would take several calls. Somebody who binds at the same moment is not seen.
#[must_use]
pub fn first_taken(first: &Place, last: u16) -> Option<u16> {
    let taken = |line: &str, listening: bool| {
        let port = u16::from_str_radix(line.split_whitespace().nth(1)?.split_once(':')?.1, 16).ok()?;
        let place = Place { port, ..*first };
        ((first.port..=last).contains(&port) && in_the_way(line, &place, listening).is_some()).then_some(port)
    };
    let lists = lists(first.transport).iter().filter_map(|(file, listening)| {
        let text = std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default();
        text.lines().skip(1).filter_map(|line| taken(line, *listening)).min()
    });
    lists.min()
}

/// The kernel's lists of sockets of a protocol, and whether only those that listen matter.
fn lists(transport: Transport) -> &'static [(&'static str, bool)] {
    match transport {
        Transport::Tcp => &[("tcp", true), ("tcp6", true)],
        Transport::Udp => &[("udp", false), ("udp6", false)],
        Transport::Sctp => &[],
    }
}

/// The inode of a line's socket, if that keeps us from the place.
fn in_the_way(line: &str, place: &Place, listening: bool) -> Option<u64> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let state = words.nth(1)?;
    let address = address_of(address)?;
    if u16::from_str_radix(port, 16).ok()? != place.port || (listening && state != LISTEN) {
        return None;
    }
    let same = address == place.address || address.is_unspecified() || place.address.is_unspecified();
    // A socket of IPv6 may take IPv4 packets too, if it is bound to every address.
    let family = address.is_ipv4() == place.address.is_ipv4() || (address.is_unspecified() && address.is_ipv6());
    // After the state come the queues, the timer, retransmissions, the user and a timeout.
    (same && family).then(|| words.nth(5))?.and_then(|text| text.parse().ok())
}

/// Reads an address as the kernel prints it: words of 4 bytes, in the host's byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let mut bytes = [0; 16];
    for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(at)?);
    }
    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
}

fn process_with(inodes: &[u64]) -> Option<Owner> {
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if wanted.is_empty() {
        return None;
    }
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let descriptors = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if targets.any(|target| wanted.iter().any(|name| target.as_os_str() == name.as_str())) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(Owner { name: name.trim().to_owned(), pid });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let place =
            |address: &str| Place { transport: Transport::Tcp, address: address.parse().unwrap(), port, relay: None };
        assert_eq!(owner_of(&place("127.0.0.1")).map(|owner| owner.pid), Some(std::process::id()));
        assert_eq!(owner_of(&place("0.0.0.0")).map(|owner| owner.pid), Some(std::process::id()));
        assert_eq!(owner_of(&place("127.0.0.9")), None);
        assert_eq!(first_taken(&Place { port: port - 5, ..place("0.0.0.0") }, port), Some(port));
        assert_eq!(first_taken(&Place { port: port - 5, ..place("127.0.0.9") }, port - 1), None);
        assert_eq!(owner_of(&Place { transport: Transport::Udp, ..place("127.0.0.1") }), None);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        let loopback = if cfg!(target_endian = "little") { "0100007F" } else { "7F000001" };
        assert_eq!(address_of(loopback), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(address_of(&"0".repeat(32)), Some("::".parse().unwrap()));
        for broken in ["", "xyz", "0100007", "ä0000000"] {
            assert_eq!(address_of(broken), None, "{broken}");
        }
    }
}
