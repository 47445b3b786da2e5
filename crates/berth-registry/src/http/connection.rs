//! One client's connection: heads are read, requests answered one after the other.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use ::http::{Method, StatusCode};
use bytes::{Buf as _, BytesMut};
use tokio::{io::AsyncWriteExt as _, sync::watch, time::timeout};

use crate::{
    http::{
        body::{Body, Wire},
        head::{Head, Malformed},
        response::Response,
        transport::Transport,
    },
    registry::Registry,
    routes,
};

/// How long a client may think between two requests, or take for a head.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// Bytes of an unwanted body that are read so that the connection may be used again.
const UNWANTED: usize = 8 << 20;
/// How long the rest of an unwanted body is read, so that the client can see the answer.
const LINGER: Duration = Duration::from_secs(2);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// For people: an address, or the socket.
    pub address: String,
    /// The owner of the registry's directory, on its control socket.
    pub is_owner: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// Serves a connection until the client goes, falls silent, or the server stops.
pub async fn serve(transport: Transport, peer: Peer, registry: Arc<Registry>, mut stopping: watch::Receiver<bool>) {
    let mut wire = Wire { transport, ahead: BytesMut::new() };
    loop {
        let head = tokio::select! {
            biased;
            head = next_head(&mut wire) => head,
            _ = stopping.wait_for(|stop| *stop), if wire.ahead.is_empty() => return,
        };
        let served = match head {
            Ok(Some(head)) => answer(&mut wire, &head, &peer, &registry, &stopping).await,
            Ok(None) => return,
            Err(Unreadable::Malformed(Malformed(status, reason))) => {
                let response = Response::text(status, "text/plain", format!("{reason}\n"));
                // Where the next request begins is not known.
                response.send(&mut wire.transport, false, false).await.map(|()| false)
            }
            Err(Unreadable::Io(error)) => Err(error),
        };
        match served {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::debug!(peer = peer.address, %error, "connection ended");
                return;
            }
        }
    }
    let _ = timeout(LINGER, linger(&mut wire)).await;
}

enum Unreadable {
    Malformed(Malformed),
    Io(io::Error),
}

/// The next request's head, or nothing if the client is done.
async fn next_head(wire: &mut Wire) -> Result<Option<Head>, Unreadable> {
    let read = async {
        loop {
            if !wire.ahead.is_empty()
                && let Some((head, length)) = Head::parse(&wire.ahead).map_err(Unreadable::Malformed)?
            {
                wire.ahead.advance(length);
                return Ok(Some(head));
            }
            if !wire.read_ahead().await.map_err(Unreadable::Io)? {
                return Ok(None);
            }
        }
    };
    timeout(HEAD_PATIENCE, read).await.unwrap_or(Ok(None))
}

/// Answers one request; whether the connection can serve another.
async fn answer(
    wire: &mut Wire,
    head: &Head,
    peer: &Peer,
    registry: &Arc<Registry>,
    stopping: &watch::Receiver<bool>,
) -> io::Result<bool> {
    let started = Instant::now();
    let mut body = Body::new(wire, head);
    let (route, response) = routes::answer(registry, head, &mut body, peer).await;
    // A client that waits for leave would take our answer for it, and send the body after all or not.
    let is_done = body.is_ended() || (!body.is_waiting() && body.discard(UNWANTED).await.unwrap_or(false));
    let keep_alive = head.keep_alive && is_done && !*stopping.borrow();
    let sent = response.send(&mut wire.transport, head.method == Method::HEAD, keep_alive).await;
    let bytes = if head.method == Method::HEAD { 0 } else { response.length() };
    registry.metrics.count(route, response.status, bytes, started.elapsed());
    tracing::debug!(
        peer = peer.address,
        method = %head.method,
        path = head.path,
        status = response.status.as_u16(),
        bytes,
        micros = started.elapsed().as_micros(),
        "answered"
    );
    if response.status == StatusCode::INTERNAL_SERVER_ERROR {
        return sent.map(|()| false);
    }
    sent.map(|()| keep_alive)
}

/// Lets the client read our last answer before the kernel resets a connection with unread bytes.
async fn linger(wire: &mut Wire) {
    let _ = wire.transport.shutdown().await;
    loop {
        wire.ahead.clear();
        if !matches!(wire.read_ahead().await, Ok(true)) {
            return;
        }
    }
}
