//! Garbage collection on demand, for the owner of the directory: what `berth registry gc` asks a running server for.

use std::{sync::Arc, time::Duration};

use ::http::{Method, StatusCode};

use crate::{
    http::{connection::Peer, head::Head, response::Response},
    refusal::{Code, Refusal},
    registry::Registry,
    routes,
    storage::collect::{self, GRACE, Policy},
};

/// `POST /-/collect?grace=SECONDS&untagged=true`, on the control socket.
pub async fn post(registry: &Arc<Registry>, head: &Head, peer: &Peer) -> Result<Response, Refusal> {
    if !peer.is_owner {
        return Err(Refusal::new(Code::Denied, "only the owner of the registry's directory can ask for a collection"));
    }
    if head.method != Method::POST {
        return Err(routes::not_allowed("POST"));
    }
    let grace = match head.query.get("grace") {
        None => GRACE,
        Some(text) => Duration::from_secs(text.parse().map_err(|_| {
            Refusal::new(Code::Unsupported, "grace must be a number of seconds").status(StatusCode::BAD_REQUEST)
        })?),
    };
    let untagged = head.query.get("untagged").is_some_and(|word| word == "true");
    let collected = collect::collect(&registry.storage, Policy { grace, untagged, is_offline: false }).await?;
    Ok(Response::json(StatusCode::OK, &collected))
}
