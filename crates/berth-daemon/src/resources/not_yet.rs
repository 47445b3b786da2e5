//! Endpoints that this engine does not answer yet: each says so, instead of pretending that the path is unknown.

use berth_model::ErrorKind;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("POST" "/build", "ImageBuild", build),
    endpoint!("POST" "/build/prune", "BuildPrune", build),
    endpoint!("POST" "/build/cancel", "BuildCancel", build),
    endpoint!("POST" "/session", "Session", build),
    endpoint!("POST" "/grpc", "Grpc", build),
    endpoint!("GET" "/containers/{name}/checkpoints", "CheckpointList", checkpoints),
    endpoint!("POST" "/containers/{name}/checkpoints", "CheckpointCreate", checkpoints),
    endpoint!("PUT" "/volumes/{name}", "VolumeUpdate", cluster_volume),
    endpoint!("GET" "/plugins", "PluginList", plugins),
    endpoint!("GET" "/plugins/{name}", "PluginInspect", plugin),
    endpoint!("POST" "/plugins/{name}", "PluginCommand", plugins),
    endpoint!("DELETE" "/plugins/{name}", "PluginDelete", plugins),
    endpoint!("GET" "/swarm", "SwarmInspect", swarm),
    endpoint!("GET" "/swarm/unlockkey", "SwarmUnlockkey", swarm),
    endpoint!("POST" "/swarm/{command}", "SwarmCommand", swarm),
    endpoint!("GET" "/nodes", "NodeList", swarm),
    endpoint!("GET" "/nodes/{id}", "NodeInspect", swarm),
    endpoint!("POST" "/nodes/{id}", "NodeUpdate", swarm),
    endpoint!("DELETE" "/nodes/{id}", "NodeDelete", swarm),
    endpoint!("GET" "/services", "ServiceList", swarm),
    endpoint!("GET" "/services/{id}", "ServiceInspect", swarm),
    endpoint!("POST" "/services/{id}", "ServiceCommand", swarm),
    endpoint!("DELETE" "/services/{id}", "ServiceDelete", swarm),
    endpoint!("GET" "/tasks", "TaskList", swarm),
    endpoint!("GET" "/tasks/{id}", "TaskInspect", swarm),
    endpoint!("GET" "/secrets", "SecretList", swarm),
    endpoint!("GET" "/secrets/{id}", "SecretInspect", swarm),
    endpoint!("POST" "/secrets/{id}", "SecretCommand", swarm),
    endpoint!("DELETE" "/secrets/{id}", "SecretDelete", swarm),
    endpoint!("GET" "/configs", "ConfigList", swarm),
    endpoint!("GET" "/configs/{id}", "ConfigInspect", swarm),
    endpoint!("POST" "/configs/{id}", "ConfigCommand", swarm),
    endpoint!("DELETE" "/configs/{id}", "ConfigDelete", swarm),
];

fn not_yet(what: &str) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented(format!("{what} is not there yet")))
}

async fn build(_: Call) -> Result<Reply, ApiError> {
    not_yet("building images")
}

async fn plugins(_: Call) -> Result<Reply, ApiError> {
    not_yet("managing plugins")
}

/// There are none, and whoever looks for an object of any kind by its name expects to hear just that.
async fn plugin(call: Call) -> Result<Reply, ApiError> {
    let name = call.object.trim_end_matches("/json");
    Err(ApiError::not_found(format!("plugin {name:?} not found")))
}

/// Clients know this refusal from engines outside a cluster; it is not a promise.
async fn checkpoints(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::not_implemented("checkpoints are experimental, and this engine does not make them"))
}

async fn cluster_volume(_: Call) -> Result<Reply, ApiError> {
    let message = "volume update only valid for cluster volumes, but swarm is unavailable";
    Err(ApiError::new(ErrorKind::Unavailable, message))
}

async fn swarm(_: Call) -> Result<Reply, ApiError> {
    Err(ApiError::new(ErrorKind::Unavailable, "This node is not a swarm manager, and this engine has no cluster mode"))
}
