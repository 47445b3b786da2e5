//! Networks, as far as they are there: the predefined ones.

use std::sync::Arc;

use berth_engine::ContainerView;
use berth_model::ErrorKind;
use berth_net::NetworkInfo;

use crate::gates;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::translate::network;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/networks", "NetworkList", list),
    endpoint!("GET" "/networks/", "NetworkListSlash", list),
    endpoint!("GET" "/networks/{id}", "NetworkInspect", inspect),
    endpoint!("DELETE" "/networks/{id}", "NetworkDelete", remove),
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
    containers.iter().any(|view| view.networks.iter().any(|endpoint| endpoint.network_id == id))
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
    let info = found(&call)?;
    let name = &info.network.name;
    if info.network.is_predefined() {
        let message = format!("{name} is a pre-defined network and cannot be removed");
        return Err(ApiError::new(ErrorKind::Forbidden, message));
    }
    Err(ApiError::not_implemented("removing networks is not there yet"))
}
