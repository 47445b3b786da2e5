//! A byte stream to the daemon: unix, tcp or TLS, with one face.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::{resolve, tls};

/// How long a TCP connection may take to be made. A unix socket answers at once or never.
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A byte stream to the daemon.
#[derive(Debug)]
pub enum Stream {
    /// A unix socket.
    Unix(UnixStream),
    /// A plain TCP connection.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects to `endpoint`; for TLS the handshake is done too, so that its errors are told apart.
    pub(crate) fn connect(endpoint: &Endpoint) -> Result<Stream, ClientError> {
        match endpoint {
            Endpoint::Unix(path) => {
                UnixStream::connect(path).map(Stream::Unix).map_err(|source| refused(endpoint, source))
            }
            Endpoint::Tcp { host, port, tls } => {
                let socket = connect_tcp(endpoint, host, *port)?;
                match tls {
                    None => Ok(Stream::Tcp(socket)),
                    Some(files) => tls::handshake(socket, endpoint, host, files).map(|tls| Stream::Tls(Box::new(tls))),
                }
            }
        }
    }

    /// Whether reads and writes return `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Stream::Unix(socket) => socket.set_nonblocking(nonblocking),
            Stream::Tcp(socket) => socket.set_nonblocking(nonblocking),
            Stream::Tls(tls) => tls.sock.set_nonblocking(nonblocking),
        }
    }

    /// Ends our direction; the other one stays open.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(socket) => socket.shutdown(Shutdown::Write),
            Stream::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Stream::Tls(tls) => {
                // TLS 1.3 can end one direction by itself; closing the socket's half too would cut alerts off.
                tls.conn.send_close_notify();
                tls.flush()
            }
        }
    }

    /// Whether bytes wait in the TLS layer for the socket to take them.
    pub fn has_unsent(&self) -> bool {
        matches!(self, Stream::Tls(tls) if tls.conn.wants_write())
    }
}

/// Tries every address of `host` in turn.
fn connect_tcp(endpoint: &Endpoint, host: &str, port: u16) -> Result<TcpStream, ClientError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in resolve::addresses(host)? {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), TCP_CONNECT_TIMEOUT) {
            Ok(socket) => {
                // Requests are small and answered one by one: waiting to fill a segment only costs time.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(refused(endpoint, last))
}

fn refused(endpoint: &Endpoint, source: io::Error) -> ClientError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Permission { endpoint: endpoint.to_string() },
        _ => ClientError::Connect { endpoint: endpoint.to_string(), source },
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(socket) => socket.read(buffer),
            Stream::Tcp(socket) => socket.read(buffer),
            Stream::Tls(tls) => match tls.read(buffer) {
                // A peer that closes the socket without the TLS farewell ends a stream; lengths and chunks tell a cut body apart.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(socket) => socket.write(bytes),
            Stream::Tcp(socket) => socket.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(_) | Stream::Tcp(_) => Ok(()),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(socket) => socket.as_fd(),
            Stream::Tcp(socket) => socket.as_fd(),
            Stream::Tls(tls) => tls.sock.as_fd(),
        }
    }
}
