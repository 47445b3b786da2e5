//! Published ports of a container: what its settings ask of `berth-net`, and the process that holds the host's ports.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
};

use berth_cgroup::{Layout, Version};
use berth_net::{
    Driver, EndpointRecord, HostPort, NetError, Networks, PortRequest, Publication, PublishedPort, Transport, Way,
};
use berth_sys::fault;

use super::NetworkAttachment;
use crate::{
    EngineError, Inner,
    shim::Launcher,
    spec::{PortBinding, PortProto, Protocol, PublishedRange},
    view::ContainerView,
};

/// The socket on which the process that holds ports is asked.
const SOCKET: &str = "ports.sock";
/// The hierarchies of version 1 in which a process is placed that only waits, as shims are.
const HIERARCHIES: [&str; 3] = ["memory", "pids", "name=systemd"];

type Begun = Result<Option<Publication>, EngineError>;

/// The ports of a container that is about to start. Dropped, they take themselves back.
#[derive(Default)]
pub(super) struct Ports {
    /// They are being published, while other things are made ready.
    begun: Option<Mutex<Receiver<Begun>>>,
    published: Option<Publication>,
}

impl Ports {
    /// Begins to publish what the container asks for.
    pub fn begin(engine: &Arc<Inner>, view: &Arc<ContainerView>, records: &[EndpointRecord]) -> Self {
        if view.spec.host.port_bindings.is_empty() && !view.spec.host.publish_all_ports {
            return Ports::default();
        }
        let (engine, view, records) = (Arc::clone(engine), Arc::clone(view), records.to_vec());
        let (tell, told) = sync_channel(1);
        tokio::task::spawn_blocking(move || {
            // It is always heard: whoever does not need it any more waits for it while dropping.
            let _ = tell.send(publish(&engine, &view, &records));
        });
        Ports { begun: Some(Mutex::new(told)), published: None }
    }

    /// Waits until they are published.
    pub fn complete(&mut self) -> Result<(), EngineError> {
        if let Some(told) = self.begun.take() {
            let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
            let published = told.recv().map_err(|_| EngineError::internal("the publishing of ports broke off"))?;
            self.published = published?;
        }
        Ok(())
    }

    /// Leaves them to the container.
    pub fn keep(mut self) {
        self.published.take().map(Publication::keep);
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        // What is published after its endpoint has gone would lead to nobody.
        let _ = self.complete();
    }
}

/// Publishes the ports of a container that is about to start, on the network by whose gateway it reaches the world.
fn publish(
    engine: &Inner,
    view: &ContainerView,
    records: &[EndpointRecord],
) -> Result<Option<Publication>, EngineError> {
    let requests = requests(view)?;
    let Some(record) = records.iter().find(|record| takes_ports(engine, record)).filter(|_| !requests.is_empty())
    else {
        return Ok(None);
    };
    let published = engine.networks.publish(record, &requests);
    Ok(Some(published.map_err(|error| refused(view, record, &error))?))
}

/// The ports that lead to these endpoints.
pub(super) fn of(engine: &Inner, records: &[EndpointRecord]) -> Vec<PublishedPort> {
    records.iter().flat_map(|record| engine.networks.published(&record.id)).collect()
}

/// Has the ports of a running container follow its way out, from the endpoint they lead to now to the one that takes ports.
pub(super) fn follow(
    engine: &Inner,
    view: &ContainerView,
    before: &[EndpointRecord],
    after: &[EndpointRecord],
) -> Result<(), EngineError> {
    let requests = requests(view)?;
    let ports = of(engine, before);
    let target = after.iter().find(|record| takes_ports(engine, record));
    let source = ports.first().and_then(|port| before.iter().find(|record| record.id == port.endpoint));
    if requests.is_empty() || source.map(|record| &record.id) == target.map(|record| &record.id) {
        return Ok(());
    }
    if let Some(source) = source {
        engine.networks.unpublish(&source.id)?;
    }
    fault::point("ports:withdrawn");
    follow_from(engine, view, &ports, after).inspect_err(|_| {
        // As it was: the ports were free a moment ago.
        if let Some(source) = source {
            let again = engine.networks.publish(source, &as_before(&requests, &ports));
            drop(again.map(Publication::keep));
        }
    })
}

/// Publishes the ports of a running container where they belong now. The host's ports stay what they were, those too that were given by
/// chance.
pub(super) fn follow_from(
    engine: &Inner,
    view: &ContainerView,
    ports: &[PublishedPort],
    after: &[EndpointRecord],
) -> Result<(), EngineError> {
    let requests = requests(view)?;
    let Some(record) = after.iter().find(|record| takes_ports(engine, record)).filter(|_| !requests.is_empty()) else {
        return Ok(());
    };
    if !engine.networks.published(&record.id).is_empty() {
        return Ok(());
    }
    let published = engine.networks.publish(record, &as_before(&requests, ports));
    // Somebody else was given a port meanwhile that nobody had asked for by number: another one does.
    let published = published.or_else(|_| engine.networks.publish(record, &requests));
    published.map_err(|error| refused(view, record, &error))?.keep();
    Ok(())
}

/// The requests with the ports that they had come to.
fn as_before(requests: &[PortRequest], ports: &[PublishedPort]) -> Vec<PortRequest> {
    let mut had: Vec<(&PublishedPort, u16, u16)> = Vec::new();
    for port in ports.iter().filter(|port| port.way != Way::Routed) {
        had.extend(port.pairs().map(|(inside, outside)| (port, inside, outside)));
    }
    let settle = |request: &PortRequest| {
        if let HostPort::One(_) = request.host {
            return *request;
        }
        let own = |(port, inside, _): &(&PublishedPort, u16, u16)| {
            let address = request.address.is_none_or(|address| address == port.address);
            port.transport == request.transport && *inside == request.port && address
        };
        let Some((_, _, outside)) = had.iter().find(|one| own(one)).copied() else { return *request };
        // The other family's is the same; another request for the same port of the container has another.
        had.retain(|(port, inside, number)| {
            port.transport != request.transport || *inside != request.port || *number != outside
        });
        PortRequest { host: HostPort::One(outside), ..*request }
    };
    requests.iter().map(settle).collect()
}

fn refused(view: &ContainerView, record: &EndpointRecord, error: &NetError) -> EngineError {
    let message =
        format!("driver failed programming external connectivity on endpoint {} ({}): {error}", view.name, record.id);
    EngineError::Refused { kind: error.kind(), message }
}

/// Whether ports lead to an endpoint: only to that on a bridge which is the way to everywhere.
fn takes_ports(engine: &Inner, record: &EndpointRecord) -> bool {
    let Ok(info) = engine.networks.network(record.network.as_str()) else { return false };
    let network = info.network;
    network.driver == Driver::Bridge && !network.internal && (record.default_v4 || record.default_v6)
}

/// Every port that is to be published: those that were named, and with `-P` those that are exposed.
fn requests(view: &ContainerView) -> Result<Vec<PortRequest>, EngineError> {
    let host = &view.spec.host;
    let mut requests = Vec::new();
    for (port, bindings) in host.port_bindings.iter() {
        for binding in bindings {
            requests.push(request(port, &binding)?);
        }
    }
    let named = |port: &&PortProto| host.port_bindings.publishes(**port);
    if host.publish_all_ports {
        for port in view.spec.config.exposed_ports.iter().filter(|port| !named(port)) {
            requests.push(request(*port, &PortBinding::default())?);
        }
    }
    Ok(requests)
}

fn request(port: PortProto, binding: &PortBinding) -> Result<PortRequest, EngineError> {
    let address: Option<IpAddr> = match binding.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| EngineError::invalid(format!("invalid IP address: {text}")))?),
    };
    let host: HostPort = binding
        .host_port
        .parse()
        .map_err(|error: berth_net::InvalidHostPort| EngineError::invalid(error.to_string()))?;
    Ok(PortRequest { transport: transport(port.protocol), port: port.port, address, host })
}

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
    }
}

fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
        Transport::Sctp => Protocol::Sctp,
    }
}

/// Writes into the attachments which ports lead to them.
pub(crate) fn show_ports(engine: &Inner, attachments: &mut [NetworkAttachment]) {
    for endpoint in attachments.iter_mut().filter_map(|attachment| attachment.endpoint.as_mut()) {
        let Ok(id) = endpoint.endpoint_id.parse() else { continue };
        endpoint.published = engine.networks.published(&id).iter().map(shown).collect();
    }
}

fn shown(range: &PublishedPort) -> PublishedRange {
    // A port that is open at the container's own address takes none of the host's: shown as no port of any address.
    let (address, host) = match (range.way, range.address) {
        (Way::Routed, IpAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED.into(), 0),
        (Way::Routed, IpAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED.into(), 0),
        (_, address) => (address, range.first),
    };
    let first = PortProto { port: range.target_first, protocol: protocol(range.transport) };
    PublishedRange { first, count: (range.last - range.first).saturating_add(1), address, host }
}

/// Gives the ports of a container back that has ended. Whoever hears of the end can have them.
pub(crate) async fn give_back(engine: &Arc<Inner>, records: &[EndpointRecord]) {
    let published: Vec<_> = records.iter().filter(|record| !engine.networks.published(&record.id).is_empty()).collect();
    if published.is_empty() {
        return;
    }
    let ids: Vec<_> = published.iter().map(|record| record.id.clone()).collect();
    let inner = Arc::clone(engine);
    let given = crate::blocking(move || Ok(ids.iter().try_for_each(|id| inner.networks.unpublish(id))?));
    if let Err(error) = given.await {
        tracing::warn!(%error, "published ports stay held until the next start");
    }
}

/// Has a process of its own hold the ports, which outlives this one.
pub(crate) fn hold_by_process(
    networks: &Networks,
    run: &Path,
    cgroup: &str,
    layout: &Layout,
    launcher: &Arc<Launcher>,
) {
    let directories = places(cgroup, layout);
    let launcher = Arc::clone(launcher);
    let start = move |listener: OwnedFd| {
        let spawned = launcher.start(&berth_ports::START_WORDS, listener.as_fd())?;
        place(&directories, spawned.pid.as_raw_nonzero().get());
        tokio::runtime::Handle::current().spawn(crate::shim::reap(spawned.pidfd));
        Ok(())
    };
    networks.hold_ports_by(berth_ports::Client::new(run.join(SOCKET), start));
}

/// Out of the daemon's cgroup, so that what ends the daemon spares the process.
fn places(cgroup: &str, layout: &Layout) -> Vec<PathBuf> {
    let below = format!("{}/ports", cgroup.trim_start_matches('/'));
    let v1 = layout.version() == Version::V1;
    let matters = |hierarchy: &&berth_cgroup::Hierarchy| {
        !v1 || hierarchy.controllers().iter().any(|name| HIERARCHIES.contains(&name.as_str()))
    };
    layout.hierarchies().iter().filter(matters).map(|hierarchy| hierarchy.mount_point().join(&below)).collect()
}

fn place(directories: &[PathBuf], pid: i32) {
    for directory in directories {
        let placed = std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::File::options().write(true).open(directory.join("cgroup.procs")))
            .and_then(|mut file| file.write_all(pid.to_string().as_bytes()));
        if let Err(error) = placed {
            tracing::warn!(directory = %directory.display(), %error, "the process that holds ports stays in the daemon's cgroup");
        }
    }
}
