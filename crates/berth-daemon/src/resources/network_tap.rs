//! Packets of a container as they pass, which Docker has not: an extension of ours.

use berth_engine::network::Tap;
use berth_net::{DEFAULT_SNAPLEN, TapOptions};

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{Chunks, Payload, Reply};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers;

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/berth/containers/{name}/tap", "ContainerTap", tap)];

/// The media type of capture files.
const PCAP: &str = "application/vnd.tcpdump.pcap";
/// Packets are sent together while there are more at hand, up to about this much.
const CHUNK: usize = 64 << 10;

async fn tap(call: Call) -> Result<Reply, ApiError> {
    let options = TapOptions {
        snaplen: number(&call, "snaplen", 1..=u64::from(DEFAULT_SNAPLEN))?
            .map_or(DEFAULT_SNAPLEN, |length| u32::try_from(length).unwrap_or(DEFAULT_SNAPLEN)),
        port: number(&call, "port", 1..=u64::from(u16::MAX))?.and_then(|port| u16::try_from(port).ok()),
    };
    let count = number(&call, "count", 1..=u64::MAX)?.unwrap_or(u64::MAX);
    let view = containers::named(&call.daemon, &call.object)?;
    let engine = call.daemon.engine.clone();
    let opened = tokio::task::spawn_blocking(move || engine.tap(&view.id, options)).await;
    let tap = opened.map_err(|_| ApiError::internal("the capture could not be started"))??;
    let (chunks, payload) = Payload::stream();
    tokio::task::spawn_blocking(move || pump(tap, count, &chunks));
    Ok(Reply::stream(PCAP, payload))
}

/// A number of the query within its bounds.
fn number(call: &Call, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
    match call.query.text(name) {
        "" => Ok(None),
        text => match text.parse() {
            Ok(number) if bounds.contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::invalid(format!("invalid {name}: {text}: not a number from {bounds:?}"))),
        },
    }
}

/// Sends packets until there were enough, the container ends, or nobody reads any more.
fn pump(mut tap: Tap, mut left: u64, chunks: &Chunks) {
    let mut file = tap.header();
    loop {
        match tap.next(&mut file) {
            Ok(Some(true)) => left -= 1,
            Ok(Some(false)) if chunks.is_closed() => return,
            Ok(Some(false)) => {}
            Ok(None) => left = 0,
            Err(error) => return drop(chunks.blocking_send(Err(error))),
        }
        let is_due = left == 0 || file.len() >= CHUNK || !tap.has_more();
        if is_due && !file.is_empty() && chunks.blocking_send(Ok(std::mem::take(&mut file).into())).is_err() {
            return;
        }
        if left == 0 {
            return;
        }
    }
}
