//! Classic packet filters on sockets. See socket(7), `SO_ATTACH_FILTER`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has the kernel drop every packet that arrives for a socket, before anything answers it.
///
/// # Errors
/// Those of setsockopt(2).
pub fn drop_everything(socket: BorrowedFd<'_>) -> io::Result<()> {
    attach(socket, &mut [statement(libc::BPF_RET | libc::BPF_K, DROP)])
}

/// Has the kernel drop the netlink messages that come of what the socket with this port number did. See netlink(7).
///
/// # Errors
/// Those of setsockopt(2).
pub fn drop_netlink_of(socket: BorrowedFd<'_>, port: u32) -> io::Result<()> {
    /// Where `struct nlmsghdr` has the number, in the order of this machine, while loads are in that of networks.
    const PORT: u32 = 12;
    attach(
        socket,
        &mut [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, PORT),
            libc::sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, port.to_be()) },
            statement(libc::BPF_RET | libc::BPF_K, DROP),
            statement(libc::BPF_RET | libc::BPF_K, KEEP),
        ],
    )
}

/// How many bytes of a packet are kept.
const DROP: u32 = 0;
const KEEP: u32 = u32::MAX;

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn attach(socket: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("a few bytes");
    // SAFETY: `filter` describes `len` instructions that stay borrowed for the call; the kernel copies them.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn netlink_messages_of_one_sender_are_dropped() {
        let pair = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::DGRAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        );
        let (sender, receiver) = pair.expect("two sockets");
        drop_netlink_of(receiver.as_fd(), 4711).expect("a filter");
        for port in [4711_u32, 4712] {
            let header = [[0; 12].as_slice(), &port.to_ne_bytes()].concat();
            rustix::io::write(&sender, &header).expect("sent");
        }
        let mut heard = [0; 32];
        assert_eq!(rustix::io::read(&receiver, &mut heard).expect("the other's"), 16);
        assert_eq!(heard[12..16], 4712_u32.to_ne_bytes());
        assert_eq!(rustix::io::read(&receiver, &mut heard).expect_err("no more"), rustix::io::Errno::AGAIN);
    }

    #[test]
    fn nothing_arrives_any_more() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = receiver.local_addr().expect("bound");
        receiver.set_nonblocking(true).expect("a flag");
        sender.send_to(b"1", to).expect("sent");
        assert_eq!(receiver.recv(&mut [0; 8]).expect("there"), 1);
        drop_everything(receiver.as_fd()).expect("a filter");
        sender.send_to(b"2", to).expect("sent");
        assert_eq!(receiver.recv(&mut [0; 8]).expect_err("dropped").kind(), io::ErrorKind::WouldBlock);
    }
}
