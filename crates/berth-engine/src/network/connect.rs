//! Connecting a container to a network and taking it off again, whether it runs or not.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use berth_model::{ErrorKind, lifecycle::State};
use berth_net::{Driver, EndpointRecord, Network};
use berth_sys::fault;

use super::{NetworkAttachment, plan, published, shape_connected};
use crate::{
    EngineError, Inner, blocking, bundle,
    container::Container,
    spec::{EndpointRequest, NetworkMode},
    view::ContainerView,
};

const SHARED: &str =
    "container sharing network namespace with another container or host cannot be connected to any other network";
const PRIVATE: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";
const TO_HOST: &str = "cannot connect container to host network - container must be created in host network mode";
const FROM_HOST: &str = "cannot disconnect container from host network - container was created in host network mode";

impl Container {
    /// Connects the container to a network: now if it runs, else from its next start on.
    pub(crate) async fn connect(&mut self, network: Network, wanted: EndpointRequest) -> Result<(), EngineError> {
        let view = self.view();
        check_connect(&view, &network, &wanted)?;
        let attachment = NetworkAttachment {
            network_id: if view.state.is_running() { network.id.to_string() } else { String::new() },
            ..NetworkAttachment::to(&network.name, wanted)
        };
        if view.state.is_running() {
            if view.networks.iter().any(|own| own.is_on(&network) && own.endpoint.is_some()) {
                let (container, network) = (view.name.to_string(), network.name);
                return Err(berth_net::NetError::AlreadyConnected { container, network }.into());
            }
            self.plug_in(&view, &network, &attachment).await?;
        }
        let mut next = (*self.view()).clone();
        next.networks.retain(|own| !own.is_on(&network));
        next.networks.push(attachment);
        self.note_networks(next).await?;
        self.reserve_addresses().await;
        if view.state.is_running() {
            self.engine.publish_network(&network, "connect", Some(&view));
        }
        Ok(())
    }

    /// Takes the container off a network.
    pub(crate) async fn disconnect(&mut self, network: Network) -> Result<(), EngineError> {
        let view = self.view();
        if network.driver == Driver::Host && view.spec.host.network == NetworkMode::Host {
            return Err(EngineError::invalid(FROM_HOST));
        }
        let attached = view.networks.iter().any(|own| own.is_on(&network));
        let active = self.network_records().iter().any(|record| record.network == network.id);
        if !attached && !active {
            // The status is Docker's, odd as it is: clients tell by it.
            let message = format!("container {} is not connected to network {}", view.id, network.name);
            return Err(EngineError::Refused { kind: ErrorKind::Internal, message });
        }
        if active {
            self.unplug(&view, &network).await?;
        }
        let mut next = (*self.view()).clone();
        next.networks.retain(|own| !own.is_on(&network));
        self.note_networks(next).await?;
        self.reserve_addresses().await;
        self.engine.publish_network(&network, "disconnect", Some(&view));
        Ok(())
    }

    /// Gives the running container an interface on one more network.
    async fn plug_in(
        &mut self,
        view: &Arc<ContainerView>,
        network: &Network,
        attachment: &NetworkAttachment,
    ) -> Result<(), EngineError> {
        let (engine, view) = (Arc::clone(&self.engine), Arc::clone(view));
        let pid = pid_of(&view)?;
        let before = self.network_records().to_vec();
        let mut request = plan::request(&view, attachment, network)?;
        // Decided when it is there, with the others.
        (request.default_v4, request.default_v6) = (false, false);
        let attachments: Vec<_> = view.networks.iter().chain([attachment]).cloned().collect();
        let after = blocking(move || {
            let netns = namespace_of(pid)?;
            let connection = engine.networks.connect(netns.as_fd(), &request)?;
            let joined: Vec<_> = before.iter().chain([connection.record()]).cloned().collect();
            let after = plan::rerouted(&engine, &attachments, &joined)?;
            // The steps that may be refused come first: the connection takes itself back, but the routes would stay changed.
            shape_connected(&engine, &view, netns.as_fd(), after.last())?;
            bundle::add_hosts(&view, connection.record().addresses())?;
            let moved = engine.networks.reroute(netns.as_fd(), &joined, &after).map_err(EngineError::from);
            fault::point("connect:rerouted");
            let moved = moved.and_then(|()| {
                published::follow(&engine, &view, &before, &after)
                    .inspect_err(|_| drop(engine.networks.reroute(netns.as_fd(), &after, &joined)))
            });
            if let Err(error) = moved {
                bundle::remove_hosts(&view, connection.record().addresses())?;
                return Err(error);
            }
            connection.keep();
            Ok(after)
        });
        let after = after.await?;
        self.hold(after);
        Ok(())
    }

    /// Takes an interface from the running container.
    async fn unplug(&mut self, view: &Arc<ContainerView>, network: &Network) -> Result<(), EngineError> {
        let (engine, view) = (Arc::clone(&self.engine), Arc::clone(view));
        let pid = pid_of(&view)?;
        let before = self.network_records().to_vec();
        let id = network.id.clone();
        let after = blocking(move || {
            let netns = namespace_of(pid)?;
            let (gone, left): (Vec<_>, Vec<_>) = before.iter().cloned().partition(|record| record.network == id);
            let ports = published::of(&engine, &gone);
            for record in &gone {
                engine.networks.disconnect(record, netns.as_fd())?;
            }
            let after = plan::rerouted(&engine, &view.networks, &left)?;
            // The routes of the interface went with it.
            engine.networks.reroute(netns.as_fd(), &left, &after)?;
            bundle::remove_hosts(&view, gone.iter().flat_map(EndpointRecord::addresses))?;
            // It is off the network in any case.
            let followed = if ports.is_empty() {
                published::follow(&engine, &view, &left, &after)
            } else {
                published::follow_from(&engine, &view, &ports, &after)
            };
            if let Err(error) = followed {
                tracing::warn!(container = %view.id.short(), %error, "its ports are not published");
            }
            Ok(after)
        });
        let after = after.await?;
        self.hold(after);
        Ok(())
    }

    fn network_records(&self) -> &[EndpointRecord] {
        self.network.as_ref().map(super::Attachment::records).unwrap_or_default()
    }

    fn hold(&mut self, records: Vec<EndpointRecord>) {
        if let Some(held) = self.network.as_mut().and_then(super::Attachment::held) {
            *held = records;
        }
    }

    /// Writes down changed attachments, with what the container has on them.
    async fn note_networks(&mut self, mut next: ContainerView) -> Result<(), EngineError> {
        if let Some(network) = &self.network {
            network.fill(&mut next.networks);
            super::show_ports(&self.engine, &mut next.networks);
        }
        self.commit_state_of(&next).await?;
        self.install(next);
        crate::name_service::refresh_or_warn(&self.engine, &self.view()).await;
        Ok(())
    }

    /// Has the addresses that the container asked for by number wait for it.
    async fn reserve_addresses(&self) {
        let (engine, view) = (Arc::clone(&self.engine), self.view());
        let done = blocking(move || {
            engine.networks.release(&view.id)?;
            reserve(&engine, &view);
            Ok(())
        });
        if let Err(error) = done.await {
            tracing::warn!(container = %self.id().short(), %error, "its addresses may be given to others while it does not run");
        }
    }
}

/// Has the addresses that a container asks for by number wait for it.
pub(crate) fn reserve(engine: &Inner, view: &ContainerView) {
    for attachment in &view.networks {
        let wanted = &attachment.wanted;
        let addresses = wanted.ipv4.map(std::net::IpAddr::V4).into_iter().chain(wanted.ipv6.map(std::net::IpAddr::V6));
        for address in addresses {
            // A network that is not there yet keeps nothing; the start will tell.
            if let Err(error) = engine.networks.reserve(&attachment.network, address, &view.id) {
                tracing::debug!(container = %view.id.short(), %address, %error, "an address is not kept");
            }
        }
    }
}

/// What does not go together.
fn check_connect(view: &ContainerView, network: &Network, wanted: &EndpointRequest) -> Result<(), EngineError> {
    if matches!(view.state, State::Removing) {
        let reason = format!(
            "Container {} is marked for removal and cannot be connected or disconnected to the network",
            view.id
        );
        return Err(EngineError::conflict(reason));
    }
    match (&view.spec.host.network, network.driver) {
        (NetworkMode::Host | NetworkMode::Container(_), _) => return Err(EngineError::invalid(SHARED)),
        (_, Driver::Host) => return Err(EngineError::invalid(TO_HOST)),
        (NetworkMode::None, _) => return Err(EngineError::invalid(PRIVATE)),
        (_, Driver::Null) if !network.config_only => return Err(EngineError::invalid(PRIVATE)),
        _ => {}
    }
    if network.config_only {
        return Err(berth_net::NetError::ConfigOnly.into());
    }
    let mut reasons = Vec::new();
    let addresses = wanted.ipv4.map(std::net::IpAddr::V4).into_iter().chain(wanted.ipv6.map(std::net::IpAddr::V6));
    if network.is_predefined() {
        if addresses.count() > 0 || !wanted.link_local.is_empty() {
            reasons.push("user-specified IP address is supported on user-defined networks only".to_owned());
        }
        if wanted.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            reasons.push("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
    } else {
        let outside = addresses.filter(|ip| !network.subnet_of(*ip).is_some_and(|subnet| subnet.chosen));
        reasons.extend(outside.map(|address| format!("no configured subnet contains IP address {address}")));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(EngineError::invalid(format!("invalid endpoint settings:\n{}", reasons.join("\n"))))
}

fn pid_of(view: &ContainerView) -> Result<u32, EngineError> {
    view.state.pid().ok_or_else(|| EngineError::NotRunning(view.id.to_string()))
}

/// The network namespace of a container whose main process this is.
pub(super) fn namespace_of(pid: u32) -> Result<OwnedFd, EngineError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    berth_sys::netns::open(&path).map_err(EngineError::io("opening", path))
}
