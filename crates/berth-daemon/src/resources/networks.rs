//! Networks: list, inspect, create, connect, disconnect, remove, prune.

use std::sync::Arc;

use berth_api::network::{ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, PruneResponse};
use berth_engine::ContainerView;
use berth_net::NetworkInfo;
use http::StatusCode;

use crate::gates;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers::prune_moment;
use crate::translate::{endpoints, network};

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/networks", "NetworkList", list),
    endpoint!("GET" "/networks/", "NetworkListSlash", list),
    endpoint!("GET" "/networks/{id}", "NetworkInspect", inspect),
    endpoint!("DELETE" "/networks/{id}", "NetworkDelete", remove),
    endpoint!("POST" "/networks/create", "NetworkCreate", create),
    endpoint!("POST" "/networks/prune", "NetworkPrune", prune),
    endpoint!("POST" "/networks/{id}/connect", "NetworkConnect", connect),
    endpoint!("POST" "/networks/{id}/disconnect", "NetworkDisconnect", disconnect),
];

async fn list(call: Call) -> Result<Reply, ApiError> {
    let known = ["dangling", "driver", "id", "label", "name", "scope", "type"];
    let filters = Filters::of(&call.query, &known)?;
    let dangling = filters.boolean("dangling")?;
    for kind in filters.values("type") {
        if !matches!(kind.as_str(), "builtin" | "custom") {
            return Err(ApiError::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    let containers = call.daemon.engine.containers();
    let wanted = |info: &NetworkInfo| {
        let net = &info.network;
        filters.any("name", |name| net.name.contains(name))
            && filters.any("id", |id| net.id.as_str().starts_with(id))
            && filters.any("driver", |driver| driver == net.driver.word())
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |kind| (kind == "builtin") == info.network.is_predefined())
            && filters.labels(|label| net.labels.get(label).map(String::as_str))
            // A predefined network is never dangling: nobody could remove it.
            && dangling.is_none_or(|wanted| wanted == (!net.is_predefined() && !is_used(info, &containers)))
    };
    let networks = call.daemon.engine.networks().list();
    let shown: Vec<_> = networks.iter().filter(|info| wanted(info)).map(network::summary).collect();
    Ok(Reply::json(&shown))
}

fn is_used(info: &NetworkInfo, containers: &[Arc<ContainerView>]) -> bool {
    let id = info.network.id.as_str();
    containers
        .iter()
        .any(|view| view.networks.iter().any(|attachment| attachment.network_id == id && attachment.endpoint.is_some()))
}

/// A boolean in the strict form that only this resource demands.
fn strict_boolean(call: &Call, name: &str) -> Result<bool, ApiError> {
    match call.query.text(name) {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        text => Err(ApiError::invalid(format!(
            "invalid value for {name}: {text}: strconv.ParseBool: parsing {text:?}: invalid syntax"
        ))),
    }
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    strict_boolean(&call, "verbose")?;
    let info = found(&call)?;
    if !matches!(call.query.text("scope"), "" | "local") {
        return Err(ApiError::not_found(format!("network {} not found", call.object)));
    }
    let containers = call.daemon.engine.containers();
    let shown = network::inspect(&info, containers.iter().map(Arc::as_ref));
    Ok(gates::reply(&shown, call.version, 52, gates::network))
}

fn found(call: &Call) -> Result<NetworkInfo, ApiError> {
    let missing = |error: berth_net::NetError| ApiError::new(error.kind(), error.to_string());
    call.daemon.engine.networks().network(&call.object).map_err(missing)
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    call.daemon.engine.remove_network(&call.object).await?;
    Ok(Reply::done())
}

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let wire = call.document::<CreateRequest>()?.ok_or_else(|| ApiError::invalid("invalid JSON: EOF"))?;
    let driver = if wire.driver.is_empty() { "bridge".to_owned() } else { wire.driver.clone() };
    let created = call.daemon.engine.create_network(network::from_wire(wire)?).await?;
    let unknown = created.unknown_options.join(", ");
    let warning = match unknown.as_str() {
        "" => String::new(),
        _ => format!("the driver {driver} does not know the options {unknown}: they have no effect"),
    };
    let id = created.info.network.id.to_string();
    Ok(Reply::json_with(StatusCode::CREATED, &CreateResponse { id, warning }))
}

async fn connect(mut call: Call) -> Result<Reply, ApiError> {
    let wire = call.document::<ConnectRequest>()?.unwrap_or_default();
    let wanted = wire.endpoint_config.as_ref().map(endpoints::endpoint).transpose()?.unwrap_or_default();
    let container = named(&wire.container)?;
    found(&call)?;
    call.daemon.engine.connect_network(&call.object, container, wanted).await?;
    Ok(Reply::empty(StatusCode::OK))
}

async fn disconnect(mut call: Call) -> Result<Reply, ApiError> {
    let wire = call.document::<DisconnectRequest>()?.unwrap_or_default();
    let container = named(&wire.container)?;
    found(&call)?;
    call.daemon.engine.disconnect_network(&call.object, container, wire.force).await?;
    Ok(Reply::empty(StatusCode::OK))
}

fn named(container: &str) -> Result<&str, ApiError> {
    if container.is_empty() { Err(ApiError::invalid("invalid name or ID supplied: \"\"")) } else { Ok(container) }
}

/// Removes networks that no running container is on.
async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::of(&call.query, &["label", "label!", "until"])?;
    let before = prune_moment(&filters)?;
    let select = move |network: &berth_net::Network| {
        filters.labels(|label| network.labels.get(label).map(String::as_str))
            && before.is_none_or(|moment| network.created <= moment)
    };
    let engine = &call.daemon.engine;
    // Not of the reference API: tells what would go.
    let deleted = match call.query.flag("dry-run") {
        true => engine.would_prune_networks(select).await?,
        false => engine.prune_networks(select).await?,
    };
    Ok(Reply::json(&PruneResponse { networks_deleted: (!deleted.is_empty()).then_some(deleted) }))
}
