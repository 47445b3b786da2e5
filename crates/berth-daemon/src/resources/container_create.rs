//! Container create.

use std::collections::BTreeSet;

use berth_api::container_config::{CreateRequest, CreateResponse};
use berth_engine::spec::{CreateContainer, MountKind};
use berth_model::ErrorKind;
use http::StatusCode;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::translate::create::{self, Named};

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("POST" "/containers/create", "ContainerCreate", create)];

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let document = call.document::<Option<CreateRequest>>()?;
    let document = document.ok_or_else(|| ApiError::invalid("invalid JSON: EOF"))?;
    let empty = || ApiError::invalid("config cannot be empty in order to create a container");
    let named = Named { name: call.query.text("name"), platform: call.query.text("platform"), version: call.version };
    let checked = create::from_wire(document.ok_or_else(empty)?, &named, &call.daemon.host)?;
    check_others(&call.daemon, &checked.request)?;
    check_sources(&checked.request).await?;
    let created = call.daemon.engine.create(checked.request).await?;
    let warnings = merged(checked.warnings, created.warnings);
    Ok(Reply::json_with(StatusCode::CREATED, &CreateResponse { id: created.id.to_string(), warnings }))
}

/// Each warning once, in order: a limit may be found wanting here and again in the engine.
fn merged(first: Vec<String>, second: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    first.into_iter().chain(second).filter(|warning| seen.insert(warning.clone())).collect()
}

/// Containers that the request refers to must exist. Their absence is a fault of the request, not of its own object.
fn check_others(daemon: &Daemon, request: &CreateContainer) -> Result<(), ApiError> {
    let invalid = |error: berth_engine::EngineError| ApiError { kind: ErrorKind::Invalid, ..ApiError::from(error) };
    for text in request.host.volumes_from.iter().flatten() {
        let name = text.split(':').next().unwrap_or_default();
        daemon.engine.container(name).map_err(invalid)?;
    }
    for text in request.host.links.iter().flatten() {
        let name = text.split(':').next().unwrap_or_default();
        let context = format!("could not get container for {name}");
        daemon.engine.container(name).map_err(|error| invalid(error).context(context))?;
    }
    Ok(())
}

/// Sources of binds in the long form must exist; a bind in the short form makes them (B147).
async fn check_sources(request: &CreateContainer) -> Result<(), ApiError> {
    for mount in &request.host.mounts {
        let MountKind::Bind { source, options } = &mount.kind else { continue };
        if !options.create_source && tokio::fs::symlink_metadata(source).await.is_err() {
            return Err(ApiError::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            )));
        }
    }
    Ok(())
}
