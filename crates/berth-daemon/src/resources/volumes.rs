//! Volumes.

use std::sync::Arc;

use berth_api::volume::{CreateRequest, ListResponse, PruneResponse};
use berth_engine::Engine;
use berth_engine::events::EventKind;
use berth_engine::volume::{NewVolume, Volume};
use berth_model::{ErrorKind, VolumeName};
use http::StatusCode;
use regex::Regex;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers::prune_moment;
use crate::translate::volume;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/volumes", "VolumeList", list),
    endpoint!("POST" "/volumes/create", "VolumeCreate", create),
    endpoint!("POST" "/volumes/prune", "VolumePrune", prune),
    endpoint!("GET" "/volumes/{name}", "VolumeInspect", inspect),
    endpoint!("DELETE" "/volumes/{name}", "VolumeDelete", remove),
];

/// Ids of the containers that have a volume.
pub fn users(engine: &Engine, name: &str) -> Vec<String> {
    let uses =
        |view: &Arc<berth_engine::ContainerView>| view.mounts.iter().any(|mount| mount.name.as_deref() == Some(name));
    engine.containers().iter().filter(|view| uses(view)).map(|view| view.id.to_string()).collect()
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::of(&call.query, &["dangling", "driver", "label", "name"])?;
    let dangling = filters.boolean("dangling")?;
    let names: Vec<Regex> = filters.values("name").iter().filter_map(|text| Regex::new(text).ok()).collect();
    let engine = call.daemon.engine.clone();
    let volumes = Daemon::blocking(move || {
        let wanted = |found: &Volume| {
            (!filters.has("name") || names.iter().any(|expression| expression.is_match(found.name.as_str())))
                && filters.any("driver", |driver| driver == found.driver)
                && filters.labels(|label| found.labels.get(label).map(String::as_str))
                && dangling.is_none_or(|dangling| dangling == users(&engine, found.name.as_str()).is_empty())
        };
        Ok(engine.volumes().list()?.iter().filter(|found| wanted(found)).map(volume::to_wire).collect())
    });
    Ok(Reply::json(&ListResponse { volumes: volumes.await?, warnings: None }))
}

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let wire = call.document::<CreateRequest>()?.unwrap_or_default();
    if wire.cluster_volume_spec.is_some() {
        let message = "This node is not a swarm manager, and this engine has no cluster mode";
        return Err(ApiError::new(ErrorKind::Unavailable, message));
    }
    let name = match wire.name.as_str() {
        "" => None,
        text => {
            let invalid = |error: berth_model::InvalidName| ApiError::invalid(format!("create {text}: {error}"));
            Some(text.parse::<VolumeName>().map_err(invalid)?)
        }
    };
    let wanted =
        NewVolume { name, driver: wire.driver, labels: wire.labels, options: wire.driver_opts, made_for: None };
    let engine = call.daemon.engine.clone();
    let made = Daemon::blocking(move || Ok(engine.volumes().create(wanted)?)).await?;
    Ok(Reply::json_with(StatusCode::CREATED, &volume::to_wire(&made)))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let (engine, name) = (call.daemon.engine.clone(), call.object);
    let found = Daemon::blocking(move || Ok(engine.volumes().get(&name)?)).await?;
    Ok(Reply::json(&volume::to_wire(&found)))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    let force = call.query.flag("force");
    let (engine, name) = (call.daemon.engine.clone(), call.object);
    let removed = Daemon::blocking(move || Ok(engine.volumes().remove(&name, &users(&engine, &name))?)).await;
    match removed {
        Err(error) if error.kind == ErrorKind::NotFound && force => Ok(Reply::done()),
        Err(error) => Err(error),
        Ok(()) => Ok(Reply::done()),
    }
}

/// Removes volumes that nobody uses: only anonymous ones since 1.42, unless all are asked for.
async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::of(&call.query, &["label", "label!", "all", "until"])?;
    if filters.has("until") {
        prune_moment(&filters)?;
        return Err(ApiError::invalid("The \"until\" filter is not supported for volumes"));
    }
    let all = call.version.before(42) || wants_all(&filters)?;
    let daemon = Arc::clone(&call.daemon);
    // Not of the reference API: tells what would go.
    let gone: Vec<String> = call.query.all("without").map(str::to_owned).collect();
    let mode = if call.query.flag("dry-run") { Prune::Tell { without: gone } } else { Prune::Remove };
    let (deleted, reclaimed) = Daemon::blocking(move || {
        let _one_at_a_time = daemon.begin_prune()?;
        prune_volumes(&daemon.engine, &filters, all, &mode)
    })
    .await?;
    Ok(Reply::json(&PruneResponse { volumes_deleted: Some(deleted), space_reclaimed: reclaimed }))
}

fn wants_all(filters: &Filters) -> Result<bool, ApiError> {
    match filters.values("all") {
        [] => Ok(false),
        [text] => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(ApiError::invalid(format!(
                "invalid filter 'all': strconv.ParseBool: parsing {text:?}: invalid syntax"
            ))),
        },
        _ => Err(ApiError::invalid("invalid filter 'all': it has more than one value")),
    }
}

/// Whether a prune removes, or only tells what it would.
enum Prune {
    Remove,
    /// If these containers were gone.
    Tell {
        without: Vec<String>,
    },
}

fn prune_volumes(engine: &Engine, filters: &Filters, all: bool, mode: &Prune) -> Result<(Vec<String>, u64), ApiError> {
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for found in engine.volumes().list()? {
        let name = found.name.as_str();
        let chosen = (all || found.anonymous) && filters.labels(|label| found.labels.get(label).map(String::as_str));
        let mut used_by = users(engine, name);
        if let Prune::Tell { without } = mode {
            used_by.retain(|container| !without.contains(container));
        }
        if !chosen || !used_by.is_empty() {
            continue;
        }
        let size = engine.volumes().size(&found).unwrap_or(0);
        // A container that came for it in between keeps it.
        let tells = matches!(mode, Prune::Tell { .. });
        if tells || engine.volumes().remove(name, &users(engine, name)).is_ok() {
            deleted.push(name.to_owned());
            reclaimed += size;
        }
    }
    if matches!(mode, Prune::Remove) {
        let attributes = [("reclaimed".to_owned(), reclaimed.to_string())].into();
        engine.events().publish(EventKind::Volume, "prune", "", attributes);
    }
    Ok((deleted, reclaimed))
}
