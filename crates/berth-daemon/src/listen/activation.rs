//! `fd://`: sockets that the service manager opened before it started us (sd_listen_fds(3)).

use std::os::fd::OwnedFd;

use rustix::net::AddressFamily;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::listen::{ListenError, Listener};

/// Takes every socket that was passed.
pub fn listeners(tls: Option<&TlsAcceptor>) -> Result<Vec<Listener>, ListenError> {
    let failed = |error: std::io::Error| ListenError::ServiceManager(error.to_string());
    let numbers: Vec<i32> = sd_notify::listen_fds().map_err(failed)?.collect();
    if numbers.is_empty() {
        return Err(ListenError::ServiceManager("the service manager passed no sockets".to_owned()));
    }
    numbers.into_iter().map(|number| listener(own(number).map_err(failed)?, tls).map_err(failed)).collect()
}

/// A descriptor of our own for an inherited number. Asked of the kernel, which knows whether the number is in use, where a
/// conversion could only assume it.
fn own(number: i32) -> std::io::Result<OwnedFd> {
    let ourselves = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    Ok(rustix::process::pidfd_getfd(&ourselves, number, PidfdGetfdFlags::empty())?)
}

fn listener(socket: OwnedFd, tls: Option<&TlsAcceptor>) -> std::io::Result<Listener> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    let family = rustix::net::getsockname(&socket)?.address_family();
    if family == AddressFamily::UNIX {
        return Ok(Listener::Unix(UnixListener::from_std(socket.into())?, None));
    }
    Ok(Listener::Tcp(TcpListener::from_std(socket.into())?, tls.cloned()))
}
