//! Classic packet filters on sockets. See socket(7), `SO_ATTACH_FILTER`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has the kernel drop every packet that arrives for a socket, before anything answers it.
///
/// # Errors
/// Those of setsockopt(2).
pub fn drop_everything(socket: BorrowedFd<'_>) -> io::Result<()> {
    // `ret #0`: no byte of the packet is kept.
    let mut program = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("a few bytes");
    // SAFETY: `filter` describes one instruction that lives to the end of the call; the kernel copies it.
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
