//! Published ports of a container: what its settings ask of `berth-net`, and the process that holds the host's ports.

use std::{
    collections::BTreeMap,
    io::Write,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use berth_cgroup::{Layout, Version};
use berth_net::{Driver, EndpointRecord, HostPort, Networks, PortRequest, Publication, Transport};

use super::NetworkAttachment;
use crate::{
    EngineError, Inner,
    shim::Launcher,
    spec::{PortBinding, PortProto, Protocol},
    view::ContainerView,
};

/// The socket on which the process that holds ports is asked.
const SOCKET: &str = "ports.sock";
/// The hierarchies of version 1 in which a process is placed that only waits, as shims are.
const HIERARCHIES: [&str; 3] = ["memory", "pids", "name=systemd"];

/// Publishes the ports of a container that is about to start, on the network by whose gateway it reaches the world.
pub(super) fn publish(
    engine: &Inner,
    view: &ContainerView,
    records: &[EndpointRecord],
) -> Result<Option<Publication>, EngineError> {
    let requests = requests(view)?;
    let Some(record) = records.iter().find(|record| takes_ports(engine, record)).filter(|_| !requests.is_empty())
    else {
        return Ok(None);
    };
    let published = engine.networks.publish(record, &requests).map_err(|error| {
        let message = format!(
            "driver failed programming external connectivity on endpoint {} ({}): {error}",
            view.name, record.id
        );
        EngineError::Refused { kind: error.kind(), message }
    })?;
    Ok(Some(published))
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
    for (port, bindings) in &host.port_bindings {
        for binding in bindings {
            requests.push(request(*port, binding)?);
        }
    }
    let named = |port: &&PortProto| host.port_bindings.get(port).is_some_and(|bindings| !bindings.is_empty());
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
        let mut ports: BTreeMap<PortProto, Vec<(IpAddr, u16)>> = BTreeMap::new();
        let Ok(id) = endpoint.endpoint_id.parse() else { continue };
        for range in engine.networks.published(&id) {
            for (inside, outside) in range.pairs() {
                let port = PortProto { port: inside, protocol: protocol(range.transport) };
                ports.entry(port).or_default().push((range.address, outside));
            }
        }
        endpoint.ports = ports;
    }
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
