//! How a container's traffic is shaped: when it starts, when it is connected, and when its limits change.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use berth_net::{EndpointRecord, Shape};

use super::Attachment;
use crate::{
    EngineError, Inner, blocking,
    spec::{HostSettings, NetworkMode},
    view::ContainerView,
};

/// Whether there is a network to shape that is the container's own.
pub(crate) fn check_shape(host: &HostSettings) -> Result<(), EngineError> {
    let own = matches!(host.network, NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Named(_));
    let shape = &host.resources.network_shape;
    if shape.loss.is_some_and(|loss| loss > 1_000_000) {
        return Err(EngineError::invalid("invalid loss: more than all packets cannot be lost"));
    }
    if own || shape_of(host).is_none() {
        return Ok(());
    }
    Err(EngineError::invalid(format!(
        "conflicting options: rate, delay and loss of traffic need a network of the container's own, and it has network mode {}",
        host.network.text()
    )))
}

/// Shapes the traffic of a container that is about to start. Blocks.
pub(crate) fn shape_fresh(engine: &Inner, view: &ContainerView, network: &Attachment) -> Result<(), EngineError> {
    match network.namespace() {
        Some(namespace) if !shape_of(&view.spec.host).is_none() => shape(engine, view, namespace, network.records()),
        _ => Ok(()),
    }
}

/// Shapes the traffic of a running container on one more network, if it is shaped at all. Blocks.
pub(crate) fn shape_connected(
    engine: &Inner,
    view: &ContainerView,
    namespace: BorrowedFd<'_>,
    record: Option<&EndpointRecord>,
) -> Result<(), EngineError> {
    match record {
        Some(record) if !shape_of(&view.spec.host).is_none() => {
            shape(engine, view, namespace, std::slice::from_ref(record))
        }
        _ => Ok(()),
    }
}

/// Shapes the traffic of a running container anew.
pub(crate) async fn shape_running(
    engine: &Arc<Inner>,
    view: &ContainerView,
    records: Vec<EndpointRecord>,
) -> Result<(), EngineError> {
    let Some(pid) = view.state.pid() else { return Ok(()) };
    let (engine, view) = (Arc::clone(engine), view.clone());
    blocking(move || {
        let path = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
        let namespace = berth_sys::netns::open(&path).map_err(EngineError::io("opening", path))?;
        shape(&engine, &view, namespace.as_fd(), &records)
    })
    .await
}

fn shape(
    engine: &Inner,
    view: &ContainerView,
    namespace: BorrowedFd<'_>,
    records: &[EndpointRecord],
) -> Result<(), EngineError> {
    for record in records {
        let namespace =
            namespace.try_clone_to_owned().map_err(EngineError::io("copying the network of", view.id.short()))?;
        engine.networks.shape(namespace, record, shape_of(&view.spec.host))?;
    }
    Ok(())
}

fn shape_of(host: &HostSettings) -> Shape {
    let wanted = host.resources.network_shape;
    Shape {
        rate: wanted.rate.filter(|rate| *rate > 0),
        delay: wanted.delay.filter(|delay| *delay > 0).map(Duration::from_nanos),
        loss: wanted.loss.filter(|loss| *loss > 0),
    }
}
