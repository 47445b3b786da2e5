//! Statistics: a container's use of resources, once or every second.

use std::sync::Arc;
use std::time::Duration;

use berth_api::stats::Stats;
use berth_engine::ContainerView;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{Payload, Reply, line};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers;
use crate::translate::stats;

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/containers/{name}/stats", "ContainerStats", container_stats)];

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

async fn container_stats(call: Call) -> Result<Reply, ApiError> {
    let view = containers::named(&call.daemon, &call.object)?;
    let daemon = Arc::clone(&call.daemon);
    if !call.query.flag_or("stream", true) {
        let first = sample(&daemon, &view, None).await?;
        if call.query.flag("one-shot") || !view.state.is_running() {
            return Ok(Reply::json(&first));
        }
        // One sample says nothing about use over time: the answer carries two.
        tokio::time::sleep(PERIOD).await;
        return Ok(Reply::json(&sample(&daemon, &view, Some(&first)).await?));
    }
    let (chunks, payload) = Payload::stream();
    tokio::spawn(async move {
        let mut before: Option<Stats> = None;
        let mut ticks = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = chunks.closed() => return,
            }
            // A container that is gone ends the stream; one that stopped goes on with zeros.
            let Ok(view) = containers::named(&daemon, view.id.as_str()) else { return };
            let Ok(current) = sample(&daemon, &view, before.as_ref()).await else { return };
            if chunks.send(Ok(line(&current).into())).await.is_err() {
                return;
            }
            before = Some(current);
        }
    });
    Ok(Reply::stream("application/json", payload))
}

async fn sample(daemon: &Daemon, view: &ContainerView, before: Option<&Stats>) -> Result<Stats, ApiError> {
    let sample = daemon.engine.stats(&view.id).await?;
    Ok(stats::to_wire(view, sample.as_ref(), daemon.host.memory, before))
}
