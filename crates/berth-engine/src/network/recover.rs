//! After a kill: the networks of a container that runs on are made to agree with their records, and its ports with its way out.

use std::os::fd::AsFd;
use std::sync::Arc;

use berth_net::EndpointRecord;

use super::{NetworkAttachment, connect::namespace_of, plan, published};
use crate::{EngineError, Inner, blocking, container::Container, view::ContainerView};

/// The endpoints that a running container really has: an interface of which there is no record goes, and so does a record without an
/// interface. Its default routes lead where they should.
pub(crate) fn recover(
    engine: &Inner,
    view: &ContainerView,
    pid: u32,
    records: Vec<EndpointRecord>,
) -> Result<Vec<EndpointRecord>, EngineError> {
    let netns = namespace_of(pid)?;
    let records = engine.networks.compare(netns.as_fd(), records)?;
    let wanted = plan::rerouted(engine, &view.networks, &records)?;
    if wanted != records {
        engine.networks.reroute(netns.as_fd(), &records, &wanted)?;
    }
    Ok(wanted)
}

/// Takes networks out of a running container's list on which it has no endpoint: it was being taken off them.
pub(crate) fn forget_left(engine: &Inner, view: &mut ContainerView) {
    if view.spec.config.network_disabled {
        return; // It never had any.
    }
    let has_endpoints = |attachment: &NetworkAttachment| {
        engine.networks.network(&attachment.network).is_ok_and(|info| info.network.driver.has_endpoints())
    };
    view.networks.retain(|attachment| attachment.endpoint.is_some() || !has_endpoints(attachment));
}

impl Container {
    /// Publishes ports that an engine was about to move when it was killed.
    pub(crate) async fn recover_ports(&mut self) -> Result<(), EngineError> {
        let (engine, view) = (Arc::clone(&self.engine), self.view());
        let Some(records) = self.network.as_ref().map(|network| network.records().to_vec()) else { return Ok(()) };
        if !view.state.is_running() || records.is_empty() {
            return Ok(());
        }
        blocking(move || published::follow(&engine, &view, &records, &records)).await?;
        self.publish_view(|view| super::show_ports(&self.engine, &mut view.networks));
        Ok(())
    }
}
