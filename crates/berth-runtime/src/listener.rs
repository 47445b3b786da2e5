//! Handing the notifications of a seccomp filter to the agent the configuration names ("Seccomp", `listenerPath`).

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::filter::SystemCallFilter;
use berth_sys::fdpass;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use std::os::fd::AsFd;

use crate::error::{RuntimeError, Step};
use crate::hooks::Subject;

/// A connection to the agent, made while its path can still be reached.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    metadata: String,
}

/// The specification's "container process state".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    metadata: &'a str,
    state: berth_oci::runtime::State,
}

impl Listener {
    /// Connects to the agent of a filter that notifies.
    pub(crate) fn connect(filter: &SystemCallFilter) -> Result<Listener, RuntimeError> {
        let path = filter.listener_path.as_str();
        let step = "connecting to the seccomp listener";
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.step(step, path)?;
        let address = SocketAddrUnix::new(path).step(step, path)?;
        rustix::net::connect(&socket, &address).step(step, path)?;
        Ok(Listener { socket, metadata: filter.listener_metadata.clone() })
    }

    /// Sends the descriptor with the container's state.
    pub(crate) fn send(&self, listener: BorrowedFd<'_>, subject: &Subject<'_>) -> Result<(), RuntimeError> {
        let state = ProcessState {
            oci_version: berth_oci::runtime::OCI_VERSION,
            fds: ["seccompFd"],
            pid: subject.pid.unwrap_or(0),
            metadata: &self.metadata,
            state: subject.state(),
        };
        let text = serde_json::to_vec(&state).unwrap_or_default();
        let sent = fdpass::send(self.socket.as_fd(), &text, &[listener]).step("sending the seccomp listener", "")?;
        if sent == text.len() {
            return Ok(());
        }
        Err(RuntimeError::step("sending the seccomp listener", "", &std::io::ErrorKind::WriteZero.into()))
    }
}
