//! One connection to a server: dialled directly or through a proxy, encrypted or not, given up when nobody wants it or nothing comes.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_model::{Cancel, plain_reasons};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::{names, proxy::Proxy, url::Origin};

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a TLS handshake may take; a server that speaks something else may never say so.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long nothing may come before a connection counts as dead.
const STALL: Duration = Duration::from_secs(45);
/// How often a waiting thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// A connection.
pub(crate) enum Stream {
    Plain(Socket),
    Encrypted(Box<StreamOwned<ClientConnection, Socket>>),
}

/// A TCP connection whose reads and writes end when they are not wanted any more.
pub(crate) struct Socket {
    stream: TcpStream,
    cancel: Cancel,
    patience: Duration,
}

/// Why there is no connection.
pub(crate) enum DialError {
    /// The other side does not speak TLS.
    NotTls(io::Error),
    /// Any other reason, in words that users of Docker know.
    Failed(io::Error),
}

impl Stream {
    /// Connects to a server.
    pub fn dial(
        origin: &Origin,
        tls: &Arc<ClientConfig>,
        proxy: Option<&Proxy>,
        cancel: &Cancel,
    ) -> Result<Self, DialError> {
        let mut socket = match proxy {
            Some(proxy) => proxy_socket(proxy, origin, cancel),
            None => dial(origin, cancel),
        }
        .map_err(DialError::Failed)?;
        if !origin.secure {
            return Ok(Self::Plain(socket));
        }
        let name = ServerName::try_from(origin.host.clone());
        let name = name.map_err(|error| DialError::Failed(io::Error::other(format!("tls: {error}"))))?;
        let connection = ClientConnection::new(Arc::clone(tls), name);
        let mut connection =
            connection.map_err(|error| DialError::Failed(io::Error::other(format!("tls: {error}"))))?;
        socket.patience = HANDSHAKE;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|error| handshake_error(&connection, &error))?;
        }
        socket.patience = STALL;
        Ok(Self::Encrypted(Box::new(StreamOwned::new(connection, socket))))
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Encrypted(stream) => &mut stream.sock,
        }
    }

    /// Whoever uses the connection from now on may be told by another flag.
    pub fn serve(&mut self, cancel: &Cancel) {
        self.socket().cancel = cancel.clone();
    }

    /// Whether the other side has neither closed nor said anything.
    pub fn is_quiet(&mut self) -> bool {
        let stream = &self.socket().stream;
        let mut byte = [0];
        let quiet = stream.set_nonblocking(true).is_ok()
            && matches!(stream.peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).is_ok() && quiet
    }
}

/// A server that does not speak TLS at all answers with something that is no record, or hangs up.
fn handshake_error(connection: &ClientConnection, error: &io::Error) -> DialError {
    let invalid = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let not_tls = match invalid {
        Some(rustls::Error::InvalidMessage(_)) => true,
        Some(_) => false,
        None => {
            connection.protocol_version().is_none()
                && matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut
                )
        }
    };
    let told = io::Error::new(error.kind(), format!("tls: {error}"));
    if not_tls { DialError::NotTls(told) } else { DialError::Failed(told) }
}

/// Connects to the first address of the server that answers.
fn dial(server: &Origin, cancel: &Cancel) -> io::Result<Socket> {
    let addresses =
        names::look_up(&server.host).map_err(|error| io::Error::new(error.kind(), format!("dial tcp: {error}")))?;
    let mut failed = io::Error::other(format!("dial tcp: lookup {}: no such host", server.host));
    for address in addresses {
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        let address = SocketAddr::new(address, server.port);
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Socket::new(stream, cancel),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
                    _ => plain_reasons(&error.to_string()).into_owned(),
                };
                failed = io::Error::new(error.kind(), format!("dial tcp {address}: connect: {reason}"));
            }
        }
    }
    Err(failed)
}

/// Connects to the proxy, and for an encrypted connection through it.
fn proxy_socket(proxy: &Proxy, origin: &Origin, cancel: &Cancel) -> io::Result<Socket> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("proxyconnect tcp: {error}"));
    let mut socket = dial(&proxy.origin, cancel).map_err(named)?;
    if !origin.secure {
        return Ok(socket);
    }
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let authority = format!("{host}:{}", origin.port);
    let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(user) = &proxy.credentials {
        head.push_str(&format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(user)));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).map_err(named)?;
    // Byte by byte: what follows the head belongs to the server behind the proxy.
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 16 * 1024 || socket.read(&mut byte).map_err(named)? == 0 {
            return Err(named(io::ErrorKind::UnexpectedEof.into()));
        }
        answer.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    if line.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
        return Ok(socket);
    }
    Err(named(io::Error::other(line.split_once(' ').map_or(line, |(_, reason)| reason).to_owned())))
}

fn cancelled() -> io::Error {
    io::Error::other("context canceled")
}

impl Socket {
    fn new(stream: TcpStream, cancel: &Cancel) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(LOOK))?;
        Ok(Self { stream, cancel: cancel.clone(), patience: STALL })
    }

    /// Tries until it works, fails, takes too long, or is not wanted any more.
    fn persist(&mut self, mut attempt: impl FnMut(&mut TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            match attempt(&mut self.stream) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.cancel.is_cancelled() {
                        return Err(cancelled());
                    }
                    if begun.elapsed() >= self.patience {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.persist(|stream| stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.persist(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}
