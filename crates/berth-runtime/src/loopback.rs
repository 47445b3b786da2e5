//! The loopback device of a new network namespace, which nobody else would bring up.

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::error::{RuntimeError, Step};

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const IFF_UP: u32 = 1;
/// The loopback device is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Brings it up. See rtnetlink(7).
pub(crate) fn bring_up() -> Result<(), RuntimeError> {
    let step = "bringing up the loopback device";
    let flags = SocketFlags::CLOEXEC; // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
    let socket = socket.step(step, "")?;
    rustix::net::send(&socket, &request(), SendFlags::empty()).step(step, "")?;
    let mut answer = [0_u8; 256];
    let (count, _) = rustix::net::recv(&socket, &mut answer, rustix::net::RecvFlags::empty()).step(step, "")?;
    match error_of(&answer[..count]) {
        0 => Ok(()),
        errno => Err(RuntimeError::step(step, "", &std::io::Error::from_raw_os_error(-errno))),
    }
}

/// An nlmsghdr and an ifinfomsg.
fn request() -> [u8; 32] {
    let mut message = [0_u8; 32];
    message[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message[20..24].copy_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message[24..28].copy_from_slice(&IFF_UP.to_ne_bytes());
    message[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
    message
}

/// The error number of an nlmsgerr, negative; 0 is the acknowledgement.
fn error_of(answer: &[u8]) -> i32 {
    const BAD_MESSAGE: i32 = -74;
    answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(BAD_MESSAGE, i32::from_ne_bytes)
}
