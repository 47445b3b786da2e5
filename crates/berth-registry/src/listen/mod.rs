//! Where clients come in: TCP, TLS, Unix sockets, and the control socket in the registry's directory.

pub mod tls;

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    http::{
        connection::{self, Peer},
        transport::Transport,
    },
    registry::Registry,
};

/// The control socket's name in the registry's directory.
pub const CONTROL_SOCKET: &str = "registry.sock";
/// How long a client may take for its part of the handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after the system had no descriptor for a client.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Address and port.
    Tcp(SocketAddr),
    /// A socket's path.
    Unix(PathBuf),
}

/// A text that is no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("invalid address {0:?}: it must be IP:PORT, :PORT or unix:///PATH")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Address::Unix(PathBuf::from(path))) } else { Err(invalid()) };
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        let full = match text.strip_prefix(':') {
            Some(port) => format!("[::]:{port}"),
            None => text.replacen("localhost:", "127.0.0.1:", 1),
        };
        full.parse().map(Address::Tcp).map_err(|_| invalid())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error("{0} is in use: stop what listens there, or choose another address with --listen")]
    InUse(Address),
    /// The system refuses.
    #[error("listening on {0}: {1}")]
    Io(Address, io::Error),
}

/// Something that clients come in by.
pub struct Listener {
    kind: Kind,
    /// For people.
    pub address: Address,
}

enum Kind {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Unix(UnixListener, Owner),
}

/// Whether whoever comes in is the owner of the directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Yes,
    Unknown,
}

impl Listener {
    /// Listens on an address.
    pub async fn open(address: &Address, tls: Option<TlsAcceptor>) -> Result<Self, ListenError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address.clone()),
            _ => ListenError::Io(address.clone(), error),
        };
        match address {
            Address::Tcp(socket) => {
                let listener = TcpListener::bind(socket).await.map_err(failed)?;
                let address = Address::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { kind: Kind::Tcp(listener, tls), address })
            }
            Address::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(ListenError::InUse(address.clone()));
                }
                // Of a server that was killed: nobody answers on it.
                let _ = fs::remove_file(path);
                let listener = UnixListener::bind(path).map_err(failed)?;
                Ok(Self { kind: Kind::Unix(listener, Owner::Unknown), address: address.clone() })
            }
        }
    }

    /// Listens on the control socket of a directory that is locked by us.
    pub fn control(root: &Path) -> Result<Self, ListenError> {
        let path = root.join(CONTROL_SOCKET);
        let address = Address::Unix(path.clone());
        let failed = |error| ListenError::Io(address.clone(), error);
        // Of a server that was killed: we hold the lock.
        let _ = fs::remove_file(&path);
        let directory = fs::File::open(root).map_err(failed)?;
        let listener = UnixListener::bind(short_path(&directory)).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { kind: Kind::Unix(listener, Owner::Yes), address })
    }

    /// Lets clients in until the server stops; then waits for those who are served.
    pub async fn serve(self, registry: Arc<Registry>, mut stopping: watch::Receiver<bool>) {
        let mut served = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                Some(_) = served.join_next() => continue,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok(Arrival { stream, peer, tls }) => {
                    let (registry, stopping) = (Arc::clone(&registry), stopping.clone());
                    served.spawn(async move {
                        registry.metrics.connections.fetch_add(1, Ordering::Relaxed);
                        if let Some(transport) = handshake(stream, tls).await {
                            connection::serve(transport, peer, Arc::clone(&registry), stopping).await;
                        }
                        registry.metrics.connections.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "cannot let a client in");
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
        let address = self.address.clone();
        drop(self);
        if let Address::Unix(path) = address {
            let _ = fs::remove_file(path);
        }
        while served.join_next().await.is_some() {}
    }

    async fn accept(&self) -> io::Result<Arrival> {
        match &self.kind {
            Kind::Tcp(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let scheme = if tls.is_some() { "https" } else { "http" };
                let peer = Peer { address: address.to_string(), is_owner: false, scheme };
                Ok(Arrival { stream: Incoming::Tcp(stream), peer, tls: tls.clone() })
            }
            Kind::Unix(listener, owner) => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer { address: "unix".to_owned(), is_owner: *owner == Owner::Yes, scheme: "http" };
                Ok(Arrival { stream: Incoming::Unix(stream), peer, tls: None })
            }
        }
    }
}

struct Arrival {
    stream: Incoming,
    peer: Peer,
    tls: Option<TlsAcceptor>,
}

enum Incoming {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn handshake(stream: Incoming, tls: Option<TlsAcceptor>) -> Option<Transport> {
    match (stream, tls) {
        (Incoming::Unix(stream), _) => Some(Transport::Unix(stream)),
        (Incoming::Tcp(stream), None) => Some(Transport::Tcp(stream)),
        (Incoming::Tcp(stream), Some(acceptor)) => match timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(Transport::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
            Err(_) => None,
        },
    }
}

/// A path of the control socket that fits in an address, however deep the directory lies.
pub fn short_path(directory: &fs::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{CONTROL_SOCKET}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            (":5000", "[::]:5000"),
            ("tcp://[::1]:0", "[::1]:0"),
            ("localhost:5000", "127.0.0.1:5000"),
            ("unix:///run/r.sock", "unix:///run/r.sock"),
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), expected);
        }
        for bad in ["", "5000", "unix://r.sock", "example.com:80", "1.2.3.4"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
