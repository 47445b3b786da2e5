//! Descriptors passed over Unix sockets (`SCM_RIGHTS`). See unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Most descriptors that go with one message.
pub const MAX_FDS: usize = 16;

/// Sends bytes with descriptors; gives the number of bytes sent. The descriptors go with the first of them.
///
/// # Errors
/// `InvalidInput` for no bytes or more than [`MAX_FDS`] descriptors; else those of sendmsg(2), `EPIPE` without a signal.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fits = fds.is_empty() || (fds.len() <= MAX_FDS && ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    // Without a byte a stream socket would drop the descriptors in silence.
    if bytes.is_empty() || !fits {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Receives bytes, and appends the descriptors that came with them to `fds`, close-on-exec. 0 bytes mean the end.
///
/// # Errors
/// `InvalidData` when more than [`MAX_FDS`] descriptors came (all are closed then); else those of recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors in one message"));
    }
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_the_bytes() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        assert_eq!(send(left.as_fd(), b"hello", &[writer.as_fd()]).unwrap(), 5);
        drop(writer);
        let (mut bytes, mut fds) = ([0; 16], Vec::new());
        assert_eq!(receive(right.as_fd(), &mut bytes, &mut fds).unwrap(), 5);
        assert_eq!(&bytes[..5], b"hello");
        std::fs::File::from(fds.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(left);
        assert_eq!(receive(right.as_fd(), &mut bytes, &mut fds).unwrap(), 0);
        assert!(fds.is_empty());
    }

    #[test]
    fn nothing_to_send_is_refused() {
        let (left, right) = UnixStream::pair().unwrap();
        assert!(send(left.as_fd(), b"", &[right.as_fd()]).is_err());
        let many = vec![right.as_fd(); MAX_FDS + 1];
        assert!(send(left.as_fd(), b"x", &many).is_err());
    }
}
