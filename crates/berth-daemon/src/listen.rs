//! Where clients come from: unix sockets, tcp with and without TLS, sockets of the service manager.

mod activation;
mod group;
mod tls;
mod unix;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::daemon::Daemon;
use crate::http::call::Peer;
use crate::http::connection;
use crate::settings::{Address, Settings};

/// How long to wait after the process ran out of descriptors or memory before it accepts again.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// What a unix socket may hold of an answer that its client has not read yet, in bytes: a list of a thousand containers. With the usual 200 kB a
/// client and the daemon wait for each other several times over, each time for their turn on a busy machine.
const SEND_BUFFER: usize = 2 << 20;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A unix socket.
    #[error("listening on unix://{}: {source}", .path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// An address and port.
    #[error("listening on tcp://{address}: {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The group of unix sockets.
    #[error("there is no group {0:?} in /etc/group")]
    NoSuchGroup(String),
    /// Sockets of the service manager.
    #[error("fd://: {0}")]
    ServiceManager(String),
    /// Certificates and keys.
    #[error("TLS: {0}")]
    Tls(String),
}

/// One place where clients come from.
pub enum Listener {
    /// A unix socket, and its path if we made it.
    Unix(UnixListener, Option<PathBuf>),
    /// An address and port.
    Tcp(TcpListener, Option<TlsAcceptor>),
}

/// Opens every address of the settings.
pub fn open(settings: &Settings) -> Result<Vec<Listener>, ListenError> {
    let tls = settings.tls.as_ref().map(tls::acceptor).transpose()?;
    let gid = group::find(&settings.group)?;
    let mut listeners = Vec::new();
    for address in &settings.addresses {
        match address {
            Address::Unix(path) => {
                let listener = unix::bind(path, gid);
                let listener = listener.map_err(|source| ListenError::Unix { path: path.clone(), source })?;
                listeners.push(Listener::Unix(listener, Some(path.clone())));
            }
            Address::Tcp(address) => listeners.push(Listener::Tcp(tcp(*address)?, tls.clone())),
            Address::ServiceManager => listeners.extend(activation::listeners(tls.as_ref())?),
        }
    }
    Ok(listeners)
}

fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Tcp { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

impl Listener {
    /// What the log calls it.
    pub fn describe(&self) -> String {
        match self {
            Listener::Unix(_, Some(path)) => format!("unix://{}", path.display()),
            Listener::Unix(_, None) => "fd:// (unix)".to_owned(),
            Listener::Tcp(listener, tls) => {
                let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
                let tls = if tls.is_some() { " with TLS" } else { " without TLS: whoever reaches it is root here" };
                format!("tcp://{address}{tls}")
            }
        }
    }

    /// Serves clients until the daemon stops; the socket's file goes with it.
    pub async fn serve(self, daemon: Arc<Daemon>, stopping: watch::Receiver<bool>) {
        let mut stopped = stopping.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&daemon, &stopping) => accepted,
                _ = stopped.changed() => break,
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
        if let Listener::Unix(_, Some(path)) = &self {
            // A later daemon takes a stale file away too.
            drop(std::fs::remove_file(path));
        }
    }

    async fn accept(&self, daemon: &Arc<Daemon>, stopping: &watch::Receiver<bool>) -> io::Result<()> {
        let (daemon, stopping) = (Arc::clone(daemon), stopping.clone());
        match self {
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = local_peer(&stream)?;
                // Beyond the usual limit only with the right to administer networks; without it, it is only slower.
                let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&stream, SEND_BUFFER);
                tokio::spawn(connection::serve(stream, peer, daemon, stopping));
            }
            Listener::Tcp(listener, None) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(connection::serve(stream, Peer::Remote { address }, daemon, stopping));
            }
            Listener::Tcp(listener, Some(acceptor)) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let acceptor = acceptor.clone();
                // The handshake must not hold up the next client.
                tokio::spawn(serve_tls(acceptor, stream, address, daemon, stopping));
            }
        }
        Ok(())
    }
}

fn local_peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    Ok(Peer::Local { uid: credentials.uid(), pid: credentials.pid().unwrap_or_default() })
}

async fn serve_tls(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    daemon: Arc<Daemon>,
    stopping: watch::Receiver<bool>,
) {
    match tokio::time::timeout(tls::HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let peer = tls::peer(&stream, address);
            connection::serve(stream, peer, daemon, stopping).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
    }
}
