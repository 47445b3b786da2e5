//! What the firewall does with published ports, told in words. Not a part of Docker's API.

use std::net::IpAddr;
use std::sync::Arc;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers;

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/berth/firewall", "BerthFirewall", firewall)];

/// Every rule in force; or with `container` why its ports are reached or not, by `from` if it is given.
async fn firewall(call: Call) -> Result<Reply, ApiError> {
    let from: Option<IpAddr> = match call.query.text("from") {
        "" => None,
        text => Some(text.parse().map_err(|_| ApiError::invalid(format!("invalid IP address: {text}")))?),
    };
    let endpoints = match call.query.text("container") {
        "" => None,
        name => {
            let view = containers::named(&call.daemon, name)?;
            let attached = view.networks.iter().filter_map(|attachment| attachment.endpoint.as_ref());
            Some(attached.filter_map(|endpoint| endpoint.endpoint_id.parse().ok()).collect::<Vec<_>>())
        }
    };
    let daemon = Arc::clone(&call.daemon);
    let report = Daemon::blocking(move || {
        let read = daemon.engine.networks().firewall();
        read.map_err(|error: berth_net::NetError| ApiError::new(error.kind(), error.to_string()))
    });
    let report = report.await?;
    Ok(Reply::json(&match endpoints {
        Some(endpoints) => report.explain(&endpoints, from),
        None => report.lines(),
    }))
}
