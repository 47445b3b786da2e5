//! Ports: exposed, published, and as lists show them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use berth_api::Empty;
use berth_api::container::PortSummary;
use berth_api::host_config::{PortBinding as WireBinding, PortMap};
use berth_engine::ContainerView;
use berth_engine::spec::{InvalidPort, PortBinding, PortBindings, PortProto, PublishedRange};

use crate::http::error::ApiError;
use crate::translate::address;

fn port(text: &str) -> Result<PortProto, ApiError> {
    // Clients know this text from a decoder: the port is a key of the document.
    text.parse().map_err(|error: InvalidPort| ApiError::invalid(format!("invalid JSON: {error}")))
}

/// Checks and understands exposed ports.
pub fn exposed(wire: Option<&BTreeMap<String, Empty>>) -> Result<BTreeSet<PortProto>, ApiError> {
    wire.into_iter().flat_map(BTreeMap::keys).map(|text| port(text)).collect()
}

/// Shows exposed ports; none are left out.
pub fn exposed_to_wire(ports: &BTreeSet<PortProto>) -> Option<BTreeMap<String, Empty>> {
    (!ports.is_empty()).then(|| ports.iter().map(|port| (port.to_string(), Empty)).collect())
}

/// Checks and understands published ports.
pub fn bindings(wire: Option<&PortMap>) -> Result<PortBindings, ApiError> {
    let mut bindings = BTreeMap::new();
    for (text, places) in wire.into_iter().flatten() {
        let places = places.iter().flatten().map(binding).collect::<Result<Vec<_>, _>>()?;
        bindings.insert(port(text)?, places);
    }
    Ok(bindings.into_iter().collect())
}

fn binding(wire: &WireBinding) -> Result<PortBinding, ApiError> {
    address::optional_ip(&wire.host_ip)?;
    if wire.host_port.parse::<berth_net::HostPort>().is_err() {
        return Err(ApiError::invalid(format!("invalid port specification: {:?}", wire.host_port)));
    }
    Ok(PortBinding { host_ip: wire.host_ip.clone(), host_port: wire.host_port.clone() })
}

/// Shows published ports as they were asked for.
pub fn bindings_to_wire(bindings: &PortBindings) -> PortMap {
    let place =
        |binding: &PortBinding| WireBinding { host_ip: binding.host_ip.clone(), host_port: binding.host_port.clone() };
    bindings.iter().map(|(port, places)| (port.to_string(), Some(places.iter().map(place).collect()))).collect()
}

/// The ports of a running container: where they are published, or that they are only exposed.
fn current(view: &ContainerView) -> BTreeMap<PortProto, Vec<(IpAddr, u16)>> {
    let mut ports = BTreeMap::new();
    if !view.state.is_running() || view.networks.iter().all(|attachment| attachment.endpoint.is_none()) {
        return ports;
    }
    for port in &view.spec.config.exposed_ports {
        ports.insert(*port, Vec::new());
    }
    for (port, place) in published(view).flat_map(PublishedRange::pairs) {
        ports.entry(port).or_insert_with(Vec::new).push(place);
    }
    ports
}

/// Every range that leads to a container.
pub fn published(view: &ContainerView) -> impl Iterator<Item = PublishedRange> + '_ {
    let endpoints = view.networks.iter().filter_map(|attachment| attachment.endpoint.as_ref());
    endpoints.flat_map(|endpoint| endpoint.published.iter().copied())
}

/// The ports of a container for inspect (B106).
pub fn of_container(view: &ContainerView) -> PortMap {
    // Port 0: none of the host's is taken.
    let number = |port: u16| if port == 0 { String::new() } else { port.to_string() };
    let place = |(ip, port): &(IpAddr, u16)| WireBinding { host_ip: ip.to_string(), host_port: number(*port) };
    let shown = |places: Vec<(IpAddr, u16)>| (!places.is_empty()).then(|| places.iter().map(place).collect());
    current(view).into_iter().map(|(port, places)| (port.to_string(), shown(places))).collect()
}

/// The ports of a container for lists.
pub fn summary(view: &ContainerView) -> Vec<PortSummary> {
    let mut summary = Vec::new();
    for (port, places) in current(view) {
        let exposed = PortSummary {
            ip: String::new(),
            private_port: port.port,
            public_port: 0,
            kind: port.protocol.word().to_owned(),
        };
        if places.iter().all(|(_, public_port)| *public_port == 0) {
            summary.push(exposed);
            continue;
        }
        let published =
            |(ip, public_port): (IpAddr, u16)| PortSummary { ip: ip.to_string(), public_port, ..exposed.clone() };
        summary.extend(places.into_iter().filter(|(_, public_port)| *public_port > 0).map(published));
    }
    summary.sort_by_key(|port| (port.ip.clone(), port.private_port, port.public_port));
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(port: &str, host_ip: &str, host_port: &str) -> String {
        let place = WireBinding { host_ip: host_ip.to_owned(), host_port: host_port.to_owned() };
        let wire = PortMap::from([(port.to_owned(), Some(vec![place]))]);
        bindings(Some(&wire)).expect_err("refused").message
    }

    #[test]
    fn wrong_ports_are_named() {
        assert_eq!(refused("x/tcp", "", ""), "invalid JSON: invalid port 'x': invalid syntax");
        assert_eq!(refused("99999/tcp", "", ""), "invalid JSON: invalid port '99999': value out of range");
        assert_eq!(refused("80-82/tcp", "", "90-91"), "invalid JSON: invalid port '80-82': invalid syntax");
        assert_eq!(refused("80/tcp", "", "abc"), "invalid port specification: \"abc\"");
        for wrong in ["70000", "8010-8000", "-1", "+80"] {
            assert_eq!(refused("80/tcp", "", wrong), format!("invalid port specification: {wrong:?}"));
        }
    }
}
