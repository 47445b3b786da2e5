//! Attach: a client's share of a container's streams, on the raw connection or a websocket.

use std::sync::Arc;

use berth_engine::ContainerView;
use berth_engine::attach::{AttachRequest, Attached, DetachKeys, DetachScanner, StreamEnd};
use berth_engine::logs::LogReader;
use tokio::io::AsyncWriteExt;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::hijack::{self, Framing, Hijack, Prefixed, RawStream};
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::http::websocket;
use crate::resources::container_logs::{self, Decoration};
use crate::resources::containers;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("POST" "/containers/{name}/attach", "ContainerAttach", attach, Hijack),
    endpoint!("GET" "/containers/{name}/attach/ws", "ContainerAttachWebsocket", attach_websocket, Hijack),
];

/// What a client asks for. Keys that detach work on a terminal only: a pipe may carry any bytes.
struct Wanted {
    streams: AttachRequest,
    keys: DetachKeys,
}

fn wanted(call: &Call) -> Result<Wanted, ApiError> {
    let keys = match call.query.text("detachKeys") {
        "" => DetachKeys::default(),
        text => text.parse().map_err(|_| ApiError::invalid(format!("Invalid detach keys ({text}) provided")))?,
    };
    let streams = AttachRequest {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
    };
    Ok(Wanted { streams, keys })
}

async fn attach(call: Call) -> Result<Reply, ApiError> {
    // Clients read a raw stream from here on, refusals included (B038).
    match open(&call).await {
        Ok(hijack) => Ok(Reply::Hijack(hijack)),
        Err(error) => {
            tracing::debug!(%error, "refused");
            Ok(Reply::Hijack(Hijack::refusal(&error)))
        }
    }
}

async fn open(call: &Call) -> Result<Hijack, ApiError> {
    let wanted = wanted(call)?;
    let view = containers::named(&call.daemon, &call.object)?;
    check_paused(&view, &call.object)?;
    let attached = call.daemon.engine.attach(&view.id, wanted.streams).await?;
    let framing = if attached.terminal { Framing::Raw } else { Framing::Multiplexed };
    let head = hijack::open_head(call, framing, "");
    let daemon = Arc::clone(&call.daemon);
    let attachment = Attachment { daemon, view, attached, keys: wanted.keys };
    Ok(Hijack::new(head, move |client| attachment.run(client)))
}

fn check_paused(view: &ContainerView, name: &str) -> Result<(), ApiError> {
    match view.state.word() {
        "paused" => Err(ApiError::conflict(format!("container {name} is paused, unpause the container before attach"))),
        "restarting" => {
            Err(ApiError::conflict(format!("container {name} is restarting, wait until the container is running")))
        }
        _ => Ok(()),
    }
}

/// An attached client whose connection is to be taken over.
struct Attachment {
    daemon: Arc<Daemon>,
    view: Arc<ContainerView>,
    attached: Attached,
    keys: DetachKeys,
}

impl Attachment {
    async fn run(self, mut client: RawStream) {
        if let Some(replay) = self.attached.replay
            && send_replay(replay, &mut client).await.is_err()
        {
            return;
        }
        let Some(stream) = self.attached.stream else {
            // The client may be gone already.
            drop(client.shutdown().await);
            return;
        };
        let scanner = self.attached.terminal.then(|| DetachScanner::new(self.keys));
        if hijack::relay(client, joined(stream), scanner, std::future::ready(())).await == hijack::Ended::Detached {
            self.daemon.engine.detached(&self.view.id);
        }
    }
}

/// A container's stream with the bytes that were read ahead.
pub fn joined(stream: StreamEnd) -> Prefixed<tokio::net::UnixStream> {
    Prefixed::new(stream.read_ahead.into(), stream.socket)
}

/// Sends what was written before.
async fn send_replay(mut replay: LogReader, client: &mut RawStream) -> std::io::Result<()> {
    let framing = if replay.terminal { Framing::Raw } else { Framing::Multiplexed };
    while let Some(Ok(line)) = replay.next().await {
        client.write_all(&container_logs::encode(&line, framing, &Decoration::default())).await?;
    }
    client.flush().await
}

/// The same on a websocket: frames carry the output of both streams, unmarked.
async fn attach_websocket(call: Call) -> Result<Reply, ApiError> {
    let wanted = wanted(&call)?;
    let view = containers::named(&call.daemon, &call.object)?;
    let Some(head) = websocket::accept_head(&call) else {
        return Ok(Reply::Hijack(Hijack::new(websocket::NO_HANDSHAKE, |mut client| async move {
            drop(client.shutdown().await);
        })));
    };
    check_paused(&view, &call.object)?;
    let attached = call.daemon.engine.attach(&view.id, wanted.streams).await?;
    Ok(Reply::Hijack(Hijack::new(head, move |client| async move {
        let framing = if attached.terminal { Framing::Raw } else { Framing::Multiplexed };
        websocket::relay(client, attached.replay, attached.stream.map(joined), framing).await;
    })))
}
