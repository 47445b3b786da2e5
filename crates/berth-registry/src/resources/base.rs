//! Whether the API is there, whether the server is well, and what it has done.

use std::sync::Arc;

use ::http::{StatusCode, header};

use crate::{
    http::response::Response,
    metrics,
    refusal::{Code, Refusal},
    registry::{Registry, Request},
};

/// `GET /v2/`. Section "Determining Support".
pub fn get(request: Request<'_>) -> Result<Response, Refusal> {
    request.registry.gate.admit_known(request.head, request.peer, request.caller)?;
    Ok(Response::text(StatusCode::OK, "application/json", "{}"))
}

/// `GET /healthz`: whether the index can be read.
pub fn health(registry: &Arc<Registry>) -> Result<Response, Refusal> {
    let read = registry.storage.read(|view| view.repository("-"));
    read.map_err(|error| Refusal::new(Code::Unavailable, error))?;
    Ok(Response::text(StatusCode::OK, "text/plain", "ok\n"))
}

/// `GET /metrics`, as OpenMetrics, for whoever has logged in where logins are needed.
#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the method itself is not general enough for any lifetime of the view"
)]
pub fn metrics(request: Request<'_>) -> Result<Response, Refusal> {
    request.registry.gate.admit_known(request.head, request.peer, request.caller)?;
    let storage = &request.registry.storage;
    let totals = storage.read(|view| view.totals())?;
    let text = request.registry.metrics.text(&totals, storage.uploads.count(), &request.registry.notifier);
    let wants_open = request.head.header(&header::ACCEPT).is_none_or(|accept| !accept.starts_with("text/plain"));
    let media_type = if wants_open { metrics::OPEN_METRICS } else { metrics::PLAIN };
    Ok(Response::text(StatusCode::OK, media_type, text))
}
