//! A container's network while it runs: which namespace it is in, and what it holds there.

use std::{
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use berth_net::{Endpoint, EndpointRecord, EndpointRequest};

use crate::{
    EngineError, Inner,
    spec::NetworkMode,
    view::{ContainerView, EndpointView},
};

/// A container's place on the network. An endpoint that was not [`kept`](Attachment::kept) takes itself back.
pub(crate) enum Attachment {
    /// The host's own network.
    Host,
    /// A namespace with nothing but loopback.
    Isolated(OwnedFd),
    /// The namespace of another container's process.
    Joined(PathBuf),
    /// An endpoint in a namespace of its own, not yet in the hands of a container.
    Fresh(Box<Endpoint>),
    /// An endpoint that a container holds.
    Held(Box<EndpointRecord>),
}

impl Attachment {
    /// Makes what a container asks for.
    pub(crate) fn make(engine: &Inner, view: &ContainerView) -> Result<Self, EngineError> {
        if view.spec.config.network_disabled {
            return Ok(Attachment::Isolated(engine.networks.isolated()?));
        }
        let name = match &view.spec.host.network {
            NetworkMode::Host => return Ok(Attachment::Host),
            NetworkMode::None => return Ok(Attachment::Isolated(engine.networks.isolated()?)),
            NetworkMode::Container(other) => return joined(engine, other),
            NetworkMode::Default | NetworkMode::Bridge => "bridge",
            NetworkMode::Named(name) => name,
        };
        let wanted = view.spec.endpoints.get(name).cloned().unwrap_or_default();
        let mac = [&wanted.mac_address, &view.spec.config.mac_address].into_iter().find(|text| !text.is_empty());
        let mac = mac.map(|text| text.parse()).transpose();
        let request = EndpointRequest {
            container: view.id.clone(),
            network: name.to_owned(),
            address: match wanted.ipv4 {
                Some(IpAddr::V4(address)) => Some(address),
                _ => None,
            },
            mac: mac.map_err(|error: berth_net::InvalidMacAddress| EngineError::invalid(error.to_string()))?,
            container_name: view.name.to_string(),
            default_route: true,
            interface: None,
            aliases: wanted.aliases.into_iter().flatten().collect(),
        };
        let endpoint = engine.networks.attach(&request).map_err(|error| EngineError::Refused {
            kind: error.kind(),
            message: format!("failed to set up container networking: {error}"),
        })?;
        Ok(Attachment::Fresh(Box::new(endpoint)))
    }

    /// The namespace to start the container in, where the engine made it.
    pub(crate) fn namespace(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Attachment::Isolated(namespace) => Some(namespace.as_fd()),
            Attachment::Fresh(endpoint) => Some(endpoint.netns()),
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
        self.record().map(EndpointRecord::ip).into_iter().collect()
    }

    /// What readers see of it; `None` leaves what they see as it is.
    pub(crate) fn views(&self) -> Option<Vec<EndpointView>> {
        self.record().map(|record| vec![endpoint_view(record)])
    }

    /// Leaves everything to the container that was started in it; our descriptors are closed.
    pub(crate) fn kept(self) -> Self {
        match self {
            Attachment::Fresh(endpoint) => Attachment::Held(Box::new(endpoint.keep())),
            // The container's processes hold the namespace now.
            Attachment::Isolated(_) | Attachment::Host => Attachment::Host,
            other => other,
        }
    }

    /// Takes it back after the container has ended.
    pub(crate) fn release(self, engine: &Arc<Inner>) {
        if let Attachment::Held(record) = self {
            let engine = Arc::clone(engine);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = engine.networks.detach(&record) {
                    tracing::warn!(container = %record.container.short(), %error, "an address stays held until the next start");
                }
            });
        }
    }

    fn record(&self) -> Option<&EndpointRecord> {
        match self {
            Attachment::Fresh(endpoint) => Some(endpoint.record()),
            Attachment::Held(record) => Some(record),
            _ => None,
        }
    }
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
    Ok(Attachment::Joined(PathBuf::from(format!("/proc/{pid}/ns/net"))))
}

/// What readers see of an endpoint.
pub(crate) fn endpoint_view(record: &EndpointRecord) -> EndpointView {
    EndpointView {
        network: record.network_name.clone(),
        network_id: record.network.to_string(),
        endpoint_id: record.id.to_string(),
        address: Some(record.ip()),
        prefix_len: record.address.prefix_len(),
        gateway: record.gateway.map(IpAddr::V4),
        mac_address: record.mac.to_string(),
        ports: std::collections::BTreeMap::new(),
    }
}

/// Leaves of an endpoint's view what is true while the container does not run.
pub(crate) fn forget_endpoint(view: &mut EndpointView) {
    *view = EndpointView {
        network: std::mem::take(&mut view.network),
        network_id: std::mem::take(&mut view.network_id),
        ..EndpointView::default()
    };
}

/// The host's address as containers on the default bridge reach it.
pub(crate) fn gateway_of_host(engine: &Inner) -> Option<IpAddr> {
    let bridge = engine.networks.network("bridge").ok()?.network;
    bridge.subnets.first().map(|subnet| IpAddr::V4(subnet.gateway))
}
