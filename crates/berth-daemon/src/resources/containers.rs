//! What is done to one container, and what is asked of it.

use std::sync::Arc;

use berth_api::container::{PruneResponse, Top, UpdateRequest, UpdateResponse, WaitResponse};
use berth_engine::{ContainerView, RemoveOptions, WaitCondition};
use berth_model::{ContainerId, ContainerName, InvalidName, Signal, Timestamp};
use http::StatusCode;

use crate::daemon::Daemon;
use crate::gates;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::{Payload, Reply, line};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::container_list;
use crate::translate::{inspect, time, update};

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/containers/{name}/json", "ContainerInspect", inspect),
    endpoint!("POST" "/containers/{name}/start", "ContainerStart", start),
    endpoint!("POST" "/containers/{name}/stop", "ContainerStop", stop),
    endpoint!("POST" "/containers/{name}/restart", "ContainerRestart", restart),
    endpoint!("POST" "/containers/{name}/kill", "ContainerKill", kill),
    endpoint!("POST" "/containers/{name}/pause", "ContainerPause", pause),
    endpoint!("POST" "/containers/{name}/unpause", "ContainerUnpause", unpause),
    endpoint!("POST" "/containers/{name}/wait", "ContainerWait", wait),
    endpoint!("POST" "/containers/{name}/resize", "ContainerResize", resize),
    endpoint!("POST" "/containers/{name}/rename", "ContainerRename", rename),
    endpoint!("POST" "/containers/{name}/update", "ContainerUpdate", update),
    endpoint!("GET" "/containers/{name}/top", "ContainerTop", top),
    endpoint!("DELETE" "/containers/{name}", "ContainerDelete", remove),
    endpoint!("POST" "/containers/prune", "ContainerPrune", prune),
];

/// The container that a request names, as it is at this moment.
pub fn named(daemon: &Daemon, name: &str) -> Result<Arc<ContainerView>, ApiError> {
    if name.is_empty() {
        return Err(ApiError::invalid("invalid name or ID supplied: \"\""));
    }
    Ok(daemon.engine.container(name)?)
}

fn id_of(call: &Call) -> Result<ContainerId, ApiError> {
    Ok(named(&call.daemon, &call.object)?.id.clone())
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let view = named(&call.daemon, &call.object)?;
    let sizes = match call.query.flag("size") {
        true => Some(container_list::sizes(&call.daemon, &view).await?),
        false => None,
    };
    let manifest = call.daemon.manifests.of(&call.daemon.engine, std::slice::from_ref(&view)).await.pop().flatten();
    let document = inspect::container(&view, &call.daemon.defaults(), manifest, sizes);
    Ok(gates::reply(&document, call.version, 52, gates::container_inspect))
}

async fn start(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    if call.query.get("checkpoint").is_some_and(|checkpoint| !checkpoint.is_empty()) {
        return Err(ApiError::not_implemented("starting from a checkpoint is not there yet"));
    }
    if call.has_body() {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    call.daemon.engine.start(&id).await?;
    Ok(Reply::done())
}

/// Signal and seconds of stop and restart.
fn stop_options(call: &Call) -> Result<(Option<Signal>, Option<i64>), ApiError> {
    let seconds = call.query.integer("t")?;
    let signal = call.query.get("signal").filter(|text| !text.is_empty());
    let signal = signal.map(|text| text.parse().map_err(|error: berth_model::InvalidSignal| error.to_string()));
    Ok((signal.transpose().map_err(ApiError::invalid)?, seconds))
}

async fn stop(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    let prefix = format!("cannot stop container: {}", call.object);
    let (signal, seconds) = stop_options(&call).map_err(|error| signal_context(error, &prefix))?;
    call.daemon.engine.stop(&id, signal, seconds).await?;
    Ok(Reply::done())
}

async fn restart(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    let prefix = format!("Cannot restart container {}", call.object);
    let (signal, seconds) = stop_options(&call).map_err(|error| signal_context(error, &prefix))?;
    call.daemon.engine.restart(&id, signal, seconds).await?;
    Ok(Reply::done())
}

/// A wrong signal is reported with the command; a wrong number speaks for itself.
fn signal_context(error: ApiError, prefix: &str) -> ApiError {
    if error.message.starts_with("invalid signal") { error.context(prefix) } else { error }
}

async fn kill(call: Call) -> Result<Reply, ApiError> {
    let prefix = format!("cannot kill container: {}", call.object);
    let id = id_of(&call).map_err(|error| error.context(&prefix))?;
    let signal = match call.query.text("signal") {
        "" => Signal::KILL,
        text => kill_signal(text).map_err(|error| error.context(&prefix))?,
    };
    call.daemon.engine.kill(&id, signal).await.map_err(|error| ApiError::from(error).context(&prefix))?;
    Ok(Reply::done())
}

fn kill_signal(text: &str) -> Result<Signal, ApiError> {
    text.parse().map_err(|error: berth_model::InvalidSignal| match text.parse::<u32>() {
        Ok(number) if number > 0 => ApiError::invalid(format!("the linux daemon does not support signal {number}")),
        _ => ApiError::invalid(error.to_string()),
    })
}

async fn pause(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    call.daemon.engine.pause(&id).await?;
    Ok(Reply::done())
}

async fn unpause(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    call.daemon.engine.unpause(&id).await?;
    Ok(Reply::done())
}

/// The head goes out at once: clients start the container when they have seen it (B060).
async fn wait(call: Call) -> Result<Reply, ApiError> {
    let condition = match call.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    };
    let id = id_of(&call)?;
    let waiting = call.daemon.engine.wait(&id, condition)?;
    let (chunks, payload) = Payload::stream();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = waiting.outcome() => outcome,
            () = chunks.closed() => return,
        };
        // Why a start failed is told to who asked for the start; here clients would take it for a failure of the wait.
        let response = WaitResponse { status_code: i64::from(outcome.code), error: None };
        // The client may have gone in this very moment.
        drop(chunks.send(Ok(line(&response).into())).await);
    });
    Ok(Reply::stream("application/json", payload))
}

/// Height and width of a terminal, from the query.
pub fn terminal_size(call: &Call) -> Result<(u32, u32), ApiError> {
    let number = |name: &str, word: &str| {
        let text = call.query.text(name);
        text.parse::<u32>().map_err(|_| ApiError::invalid(format!("invalid resize {word} {text:?}: invalid syntax")))
    };
    Ok((number("h", "height")?, number("w", "width")?))
}

async fn resize(call: Call) -> Result<Reply, ApiError> {
    let (height, width) = terminal_size(&call)?;
    let id = id_of(&call)?;
    call.daemon.engine.resize(&id, width, height).await?;
    Ok(Reply::empty(StatusCode::OK))
}

async fn rename(call: Call) -> Result<Reply, ApiError> {
    const PREFIX: &str = "Error when allocating new name";
    let name = call.query.text("name");
    if name.is_empty() || call.object.is_empty() {
        return Err(ApiError::invalid("Neither old nor new names may be empty"));
    }
    let view = named(&call.daemon, &call.object)?;
    let slashed = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
    let invalid = |error: InvalidName| ApiError::invalid(error.to_string()).context(PREFIX);
    let name: ContainerName = slashed.parse().map_err(invalid)?;
    if name == view.name {
        return Err(ApiError::invalid("Renaming a container with the same name as its current name"));
    }
    call.daemon.engine.rename(&view.id, name).await.map_err(|error| match error {
        error @ berth_engine::EngineError::NameInUse { .. } => ApiError::from(error).context(PREFIX),
        other => ApiError::from(other),
    })?;
    Ok(Reply::done())
}

async fn update(mut call: Call) -> Result<Reply, ApiError> {
    let document = call.document::<UpdateRequest>()?.unwrap_or_default();
    let id = id_of(&call)?;
    let mut warnings = Vec::new();
    let update = update::from_wire(&document, &call.daemon.host, &mut warnings)?;
    warnings.extend(call.daemon.engine.update(&id, update).await?);
    Ok(Reply::json(&UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) }))
}

async fn top(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    let options = match call.query.text("ps_args") {
        "" => "-ef",
        options => options,
    };
    let table = call.daemon.engine.top(&id, options).await?;
    Ok(Reply::json(&Top { processes: table.rows, titles: table.titles }))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    let view = named(&call.daemon, &call.object)?;
    if call.query.flag("link") {
        return Err(ApiError::conflict("Conflict, cannot remove the default link name of the container"));
    }
    let options = RemoveOptions { volumes: call.query.flag("v"), force: call.query.flag("force") };
    if !options.force {
        check_removable(&view, &call.object)?;
    }
    call.daemon.engine.remove(&view.id, options).await?;
    Ok(Reply::done())
}

/// Says what has to happen first, in known words; the engine decides again when its turn comes.
fn check_removable(view: &ContainerView, name: &str) -> Result<(), ApiError> {
    let state = view.state.word();
    let remedy = match state {
        "running" | "restarting" => {
            format!("container is {state}: stop the container before removing or force remove")
        }
        "paused" => "container is paused and must be unpaused first".to_owned(),
        _ => return Ok(()),
    };
    Err(ApiError::conflict(format!("cannot remove container {name:?}: {remedy}")))
}

async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::of(&call.query, &["label", "label!", "until"])?;
    let until = prune_moment(&filters)?;
    let select = move |view: &ContainerView| {
        until.is_none_or(|until| view.created <= until)
            && filters.labels(|name| view.spec.config.labels.get(name).map(String::as_str))
    };
    let engine = &call.daemon.engine;
    // Not of the reference API: tells what would go.
    let pruned =
        if call.query.flag("dry-run") { engine.would_prune(select).await? } else { engine.prune(select).await? };
    Ok(Reply::json(&PruneResponse {
        containers_deleted: (!pruned.removed.is_empty()).then_some(pruned.removed),
        space_reclaimed: pruned.reclaimed,
    }))
}

/// The moment that `until` names: only what was made before it goes.
pub fn prune_moment(filters: &Filters) -> Result<Option<Timestamp>, ApiError> {
    match filters.values("until") {
        [] => Ok(None),
        [one] => time::moment(one, time::now()).map(Some),
        _ => Err(ApiError::invalid("more than one until filter specified")),
    }
}
