//! A container's network while it runs: which namespace it is in, and what it holds there.

use std::{
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use berth_model::ContainerId;
use berth_net::{Connection, Endpoint, EndpointRecord};

use super::{NetworkAttachment, attachment::endpoint_view, plan, published::Ports};
use crate::{EngineError, Inner, lending, spec::NetworkMode, view::ContainerView};

/// A container's place on its networks. Endpoints that were not [`kept`](Attachment::kept) take themselves back.
pub(crate) enum Attachment {
    /// The host's own network.
    Host,
    /// A namespace with nothing but loopback.
    Isolated(OwnedFd),
    /// The namespace of another container's process.
    Joined(PathBuf),
    /// Endpoints in a namespace of their own, not yet in the hands of a container.
    Fresh(Box<Fresh>),
    /// The endpoints that a container holds, in the order of its interfaces.
    Held(Vec<EndpointRecord>),
}

/// Endpoints in a new namespace: the first came with it.
pub(crate) struct Fresh {
    // Dropped first: nobody is led to an endpoint that goes.
    published: Ports,
    first: Endpoint,
    others: Vec<Connection>,
    records: Vec<EndpointRecord>,
}

impl Attachment {
    /// Makes what a container asks for.
    pub(crate) fn make(engine: &Arc<Inner>, view: &Arc<ContainerView>) -> Result<Self, EngineError> {
        let isolated = || Ok(Attachment::Isolated(engine.networks.isolated()?));
        if view.spec.config.network_disabled {
            return isolated();
        }
        match &view.spec.host.network {
            NetworkMode::Host => return Ok(Attachment::Host),
            NetworkMode::None => return isolated(),
            NetworkMode::Container(other) => return joined(engine, other),
            NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Named(_) => {}
        }
        let mut requests = plan::requests(engine, view).map_err(set_up)?.into_iter();
        let Some(first) = requests.next() else {
            return isolated(); // It was taken from every network that it was on.
        };
        let first = engine.networks.attach(&first).map_err(|error| set_up(error.into()))?;
        let (records, published) = (vec![first.record().clone()], Ports::default());
        let mut fresh = Fresh { records, published, first, others: Vec::new() };
        for request in requests {
            let connection = engine.networks.connect(fresh.first.netns(), &request);
            let connection = connection.map_err(|error| set_up(error.into()))?;
            fresh.records.push(connection.record().clone());
            fresh.others.push(connection);
        }
        fresh.published = Ports::begin(engine, view, &fresh.records);
        Ok(Attachment::Fresh(Box::new(fresh)))
    }

    /// Waits for what was begun and need not be there before the container starts.
    pub(crate) fn complete(&mut self) -> Result<(), EngineError> {
        match self {
            Attachment::Fresh(fresh) => fresh.published.complete().map_err(set_up),
            _ => Ok(()),
        }
    }

    /// The namespace to start the container in, where the engine made it.
    pub(crate) fn namespace(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Attachment::Isolated(namespace) => Some(namespace.as_fd()),
            Attachment::Fresh(fresh) => Some(fresh.first.netns()),
            Attachment::Host | Attachment::Joined(_) | Attachment::Held(_) => None,
        }
    }

    /// The path of a namespace that is joined.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Attachment::Joined(path) => Some(path.clone()),
            _ => None,
        }
    }

    /// The container's addresses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.records().iter().flat_map(EndpointRecord::addresses).collect()
    }

    /// The endpoints, in the order of the interfaces.
    pub(crate) fn records(&self) -> &[EndpointRecord] {
        match self {
            Attachment::Fresh(fresh) => &fresh.records,
            Attachment::Held(records) => records,
            Attachment::Host | Attachment::Isolated(_) | Attachment::Joined(_) => &[],
        }
    }

    /// The endpoints of a container that runs, to be changed; `None` where it has no network of its own.
    pub(crate) fn held(&mut self) -> Option<&mut Vec<EndpointRecord>> {
        match self {
            Attachment::Held(records) => Some(records),
            _ => None,
        }
    }

    /// Writes into the attachments what the container has now.
    pub(crate) fn fill(&self, attachments: &mut Vec<NetworkAttachment>) {
        for record in self.records() {
            let network = record.network.as_str();
            let is_on = |attachment: &&mut NetworkAttachment| {
                let NetworkAttachment { network: text, network_id, .. } = &**attachment;
                network_id == network || *text == record.network_name || network.starts_with(text.as_str())
            };
            let own = match attachments.iter_mut().find(is_on) {
                Some(own) => own,
                // It was connected just before the last engine ended.
                None => {
                    attachments.push(NetworkAttachment::default());
                    attachments.last_mut().expect("one was added")
                }
            };
            own.network.clone_from(&record.network_name);
            own.network_id = network.to_owned();
            own.endpoint = Some(endpoint_view(record));
        }
    }

    /// Leaves everything to the container that was started in it. A namespace that it cannot change is lent only: the next may have it.
    pub(crate) fn kept(self, engine: &Inner, view: &ContainerView) -> Self {
        let lent = lending::leaves_its_network_alone(view);
        match self {
            Attachment::Fresh(fresh) => {
                fresh.published.keep();
                let first = if lent && fresh.others.is_empty() { fresh.first.lend() } else { fresh.first.keep() };
                let others = fresh.others.into_iter().map(Connection::keep);
                Attachment::Held([first].into_iter().chain(others).collect())
            }
            Attachment::Isolated(namespace) => {
                if lent {
                    engine.networks.lend_isolated(view.id.clone(), namespace);
                }
                Attachment::Held(Vec::new())
            }
            other => other,
        }
    }

    /// Takes it back after the container has ended.
    pub(crate) fn release(self, engine: &Arc<Inner>, container: &ContainerId) {
        let Attachment::Held(records) = self else { return };
        if records.is_empty() {
            if let Err(error) = engine.networks.isolated_ended(container) {
                tracing::debug!(container = %container.short(), %error, "a namespace was not taken back");
            }
            return;
        }
        let engine = Arc::clone(engine);
        tokio::task::spawn_blocking(move || {
            for record in records {
                if let Err(error) = engine.networks.detach(&record) {
                    tracing::warn!(container = %record.container.short(), %error, "an address stays held until the next start");
                }
            }
        });
    }
}

/// The words that clients know for a start that fails because of the network.
fn set_up(error: EngineError) -> EngineError {
    EngineError::Refused { kind: error.kind(), message: format!("failed to set up container networking: {error}") }
}

fn joined(engine: &Inner, other: &str) -> Result<Attachment, EngineError> {
    let view = engine.registry.find(other)?.view();
    let pid = view.state.pid().ok_or_else(|| {
        EngineError::conflict(format!(
            "cannot join network namespace of a non running container: container {} is {}",
            view.name,
            view.state.word()
        ))
    })?;
    lending::end(engine, &view.id);
    Ok(Attachment::Joined(PathBuf::from(format!("/proc/{pid}/ns/net"))))
}

/// The host's address as containers on the default bridge reach it.
pub(crate) fn gateway_of_host(engine: &Inner) -> Option<IpAddr> {
    let bridge = engine.networks.network("bridge").ok()?.network;
    bridge.subnets.first().and_then(|subnet| subnet.gateway)
}
