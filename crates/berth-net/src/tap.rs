//! Packets of a container's network as a capture file: `pcap`, with the "cooked" header of Linux in its second form.
//!
//! Follows draft-ietf-opsawg-pcap and the description of `LINKTYPE_LINUX_SLL2`. Each interface of the namespace is seen;
//! its number stands with each packet. What passes the loopback device passes it twice, and is written once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use berth_sys::packet::{self, Packet};
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::error::NetError;
use crate::networks::Networks;

/// The most bytes of a packet that are kept when nobody says; as with tcpdump(8).
pub const DEFAULT_SNAPLEN: u32 = 262_144;
/// Packets that wait for a slow reader, in bytes.
const BUFFER: i32 = 4 << 20;
/// How often a reader hears that nothing came.
const SILENCE: Duration = Duration::from_millis(200);
/// `LINKTYPE_LINUX_SLL2`.
const LINUX_SLL2: u32 = 276;
/// A file with times in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Length of the header of a file, of a packet in it, and of the link's.
const FILE_HEADER: usize = 24;
const COOKED_HEADER: usize = 20;
/// `ARPHRD_LOOPBACK`, `PACKET_OUTGOING`.
const LOOPBACK: u16 = 772;
const OUTGOING: u8 = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// What is to be captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapOptions {
    /// The most bytes of a packet that are kept.
    pub snaplen: u32,
    /// Only packets from or to this port, of whatever transport.
    pub port: Option<u16>,
}

/// A running capture.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    room: Vec<u8>,
    options: TapOptions,
}

impl Networks {
    /// Begins to capture the packets of a network namespace.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn tap(&self, netns: OwnedFd, options: TapOptions) -> Result<Tap, NetError> {
        let failed = |source| NetError::Namespace { step: "opening a packet socket", source };
        let socket = self.inside(netns, || packet::open(BUFFER))?.map_err(failed)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(SILENCE)).map_err(|errno| failed(errno.into()))?;
        // The ports of a packet are looked for in what was kept.
        let kept = usize::try_from(options.snaplen).unwrap_or(usize::MAX).clamp(128, DEFAULT_SNAPLEN as usize);
        Ok(Tap { socket, room: vec![0; kept], options })
    }
}

impl Tap {
    /// What stands at the beginning of the file.
    #[must_use]
    pub fn header(&self) -> [u8; FILE_HEADER] {
        let mut header = [0; FILE_HEADER];
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes());
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&(self.snaplen() + COOKED_HEADER as u32).to_le_bytes());
        header[20..].copy_from_slice(&LINUX_SLL2.to_le_bytes());
        header
    }

    /// Appends the next packet that is wanted to `file`. `false` when none came for a while. Blocks until then.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn next(&mut self, file: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let packet = match packet::receive(self.socket.as_fd(), &mut self.room) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Ok(false);
                }
                packet => packet?,
            };
            let bytes = &self.room[..packet.kept];
            let again = packet.hardware == LOOPBACK && packet.direction == OUTGOING;
            if !again && self.options.port.is_none_or(|port| concerns(packet.protocol, bytes, port)) {
                let kept = packet.kept.min(self.snaplen() as usize);
                write(file, &packet, &bytes[..kept]);
                return Ok(true);
            }
        }
    }

    /// Whether a packet waits, wanted or not.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let mut look = [PollFd::new(&self.socket, PollFlags::IN)];
        rustix::event::poll(&mut look, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0)
    }

    fn snaplen(&self) -> u32 {
        self.options.snaplen.clamp(1, DEFAULT_SNAPLEN)
    }
}

fn write(file: &mut Vec<u8>, packet: &Packet, bytes: &[u8]) {
    let number = |length: usize| u32::try_from(length + COOKED_HEADER).unwrap_or(u32::MAX);
    let (seconds, nanoseconds) = (packet.at / 1_000_000_000, packet.at % 1_000_000_000);
    for field in [seconds as u32, nanoseconds as u32, number(bytes.len()), number(packet.length)] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(&packet.protocol.to_be_bytes());
    file.extend_from_slice(&[0, 0]);
    file.extend_from_slice(&packet.interface.to_be_bytes());
    file.extend_from_slice(&packet.hardware.to_be_bytes());
    file.extend_from_slice(&[packet.direction, packet.address.1]);
    file.extend_from_slice(&packet.address.0);
    file.extend_from_slice(bytes);
}

/// Whether a packet is from or to a port.
fn concerns(protocol: u16, bytes: &[u8], port: u16) -> bool {
    ports(protocol, bytes).is_some_and(|ports| ports.contains(&port))
}

/// The ports of a packet; only the first of its fragments has them.
fn ports(protocol: u16, bytes: &[u8]) -> Option<[u16; 2]> {
    let (transport, place) = match protocol {
        ETHERTYPE_IPV4 => {
            let first = bytes.get(6..8)?[0] & 0x1f == 0 && bytes[7] == 0;
            first.then_some((*bytes.get(9)?, usize::from(bytes[0] & 15) * 4))?
        }
        ETHERTYPE_IPV6 => (*bytes.get(6)?, 40),
        _ => return None,
    };
    let ports = matches!(transport, 6 | 17 | 132).then(|| bytes.get(place..place + 4))??;
    Some([u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_are_found_where_there_are_any() {
        let mut v4 = vec![0x46, 0, 0, 0, 0, 0, 0x40, 0, 64, 6];
        v4.resize(24, 0);
        v4.extend([0x1f, 0x90, 0, 80, 0, 0]);
        assert_eq!(ports(ETHERTYPE_IPV4, &v4), Some([8080, 80]));
        assert!(concerns(ETHERTYPE_IPV4, &v4, 80) && !concerns(ETHERTYPE_IPV4, &v4, 81));
        v4[7] = 1;
        assert_eq!(ports(ETHERTYPE_IPV4, &v4), None, "a later fragment");
        let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 17];
        v6.resize(40, 0);
        v6.extend([0, 53, 0xff, 0xff]);
        assert_eq!(ports(ETHERTYPE_IPV6, &v6), Some([53, 65535]));
        v6[6] = 58;
        assert_eq!(ports(ETHERTYPE_IPV6, &v6), None, "ICMP");
        assert_eq!(ports(0x0806, &v6), None, "ARP");
    }

    #[test]
    fn a_packet_is_written_as_the_format_says() {
        let packet = Packet {
            at: 1_700_000_000_000_000_007,
            kept: 3,
            length: 9,
            protocol: ETHERTYPE_IPV4,
            interface: 2,
            hardware: 1,
            direction: OUTGOING,
            address: ([1, 2, 3, 4, 5, 6, 0, 0], 6),
        };
        let mut file = Vec::new();
        write(&mut file, &packet, b"abc");
        let expected = [
            &1_700_000_000u32.to_le_bytes()[..],
            &[7, 0, 0, 0, 23, 0, 0, 0, 29, 0, 0, 0],
            &[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0],
            b"abc",
        ];
        assert_eq!(file, expected.concat());
    }

    proptest! {
        #[test]
        fn any_packet_is_looked_at_without_harm(v6: bool, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = ports(if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }, &bytes);
        }
    }
}
