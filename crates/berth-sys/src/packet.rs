//! Packets as they pass an interface. See packet(7).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A packet and what the kernel says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Nanoseconds since 1970 when it passed.
    pub at: u64,
    /// How many bytes of it were kept.
    pub kept: usize,
    /// How many it had, without the header of the link.
    pub length: usize,
    /// What is in it: an `ETH_P_` number.
    pub protocol: u16,
    /// The number of the interface.
    pub interface: u32,
    /// What kind of device that is: an `ARPHRD_` number.
    pub hardware: u16,
    /// Where it went: 0 to us, 1 to all, 2 to many, 3 to somebody else, 4 out.
    pub direction: u8,
    /// The address of its sender on the link, and how many bytes of it count.
    pub address: ([u8; 8], u8),
}

/// Opens a socket for every packet of every interface in the network namespace of the calling thread, without the headers
/// of the links. It holds back `buffer` bytes for a slow reader; what is more is lost.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`; `EAFNOSUPPORT` in a kernel without packet sockets.
pub fn open(buffer: i32) -> io::Result<OwnedFd> {
    let every = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: makes a new descriptor.
    let number = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, every) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    // Without the privilege the usual size has to do.
    let _ = set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer);
    Ok(socket)
}

fn set(socket: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).expect("a few bytes");
    // SAFETY: the kernel reads one number.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for the next packet. What does not fit into `room` is cut off.
///
/// # Errors
/// `EAGAIN` after the socket's timeout; else those of recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<Packet> {
    let mut link = MaybeUninit::<libc::sockaddr_ll>::zeroed();
    let mut data = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // Aligned as control messages have to be.
    let mut control = [0u64; 8];
    // SAFETY: plain memory whose fields are set below; zero is a value for each.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = link.as_mut_ptr().cast();
    message.msg_namelen = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("a few bytes");
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: every pointer of `message` is to memory of the length that stands beside it, alive during the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: it was zeroed, and the kernel has filled it in; every bit pattern is a value.
    let link = unsafe { link.assume_init() };
    Ok(Packet {
        at: timestamp(&message),
        kept: length.min(room.len()),
        length,
        protocol: u16::from_be(link.sll_protocol),
        interface: link.sll_ifindex.cast_unsigned(),
        hardware: link.sll_hatype,
        direction: link.sll_pkttype,
        address: (link.sll_addr, link.sll_halen),
    })
}

fn timestamp(message: &libc::msghdr) -> u64 {
    // SAFETY: the header's control buffer is alive and was filled in by the kernel, which these walk.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: not null, so within the control buffer and aligned.
        let header = unsafe { *next };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: the data of a control message of this type is a timespec; it is copied from wherever it lies.
            let time = unsafe { libc::CMSG_DATA(next).cast::<libc::timespec>().read_unaligned() };
            return time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics says where")]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_datagram_on_loopback_is_seen() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let socket = open(1 << 20).unwrap();
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        receiver.send_to(b"seen by others", ("127.0.0.1", port)).unwrap();
        let mut room = [0; 40];
        loop {
            let packet = receive(socket.as_fd(), &mut room).unwrap();
            // Others use this machine's loopback too.
            if packet.protocol == 0x0800 && packet.kept == 40 && room[22..24] == port.to_be_bytes() {
                assert_eq!((packet.length, packet.hardware), (42, 772));
                assert!(packet.at > 1_700_000_000_000_000_000 && &room[28..40] == b"seen by othe");
                return;
            }
        }
    }
}
