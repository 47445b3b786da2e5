//! The networks of a container: modes that exclude other options, endpoints asked for, endpoints it has.

use std::collections::BTreeMap;

use berth_api::container_config::ContainerConfig;
use berth_api::endpoint::{EndpointIpamConfig, EndpointSettings};
use berth_api::host_config::HostConfig;
use berth_api::ordered::Ordered;
use berth_engine::ContainerView;
use berth_engine::network::NetworkAttachment;
use berth_engine::spec::{EndpointRequest, NetworkMode};

use crate::http::error::ApiError;
use crate::translate::address;

/// Understands a network mode and refuses what cannot go with it.
pub fn mode(config: &ContainerConfig, host: &HostConfig) -> Result<NetworkMode, ApiError> {
    let conflict = |what: &str| Err(ApiError::invalid(format!("conflicting options: {what}")));
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    let mode = NetworkMode::from_text(&host.network_mode);
    match &mode {
        NetworkMode::Container(name) if name.is_empty() => {
            return Err(ApiError::invalid("invalid network mode: invalid container format container:<name|id>"));
        }
        NetworkMode::Host if has(&host.links) => {
            return conflict("host type networking can't be used with links. This would result in undefined behavior");
        }
        NetworkMode::Container(_) => {}
        _ => return Ok(mode),
    }
    if !config.hostname.is_empty() {
        return conflict("hostname and the network mode");
    }
    if has(&host.links) {
        return conflict("container type network can't be used with links. This would result in undefined behavior");
    }
    if has(&host.dns) {
        return conflict("dns and the network mode");
    }
    if has(&host.extra_hosts) {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if !config.mac_address.is_empty() {
        return conflict("mac-address and the network mode");
    }
    if host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) || host.publish_all_ports {
        return conflict("port publishing and the container type network mode");
    }
    if config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return conflict("port exposing and the container type network mode");
    }
    Ok(mode)
}

/// Checks and understands the endpoints asked for.
pub fn from_wire(wire: &Ordered<Option<EndpointSettings>>) -> Result<Vec<(String, EndpointRequest)>, ApiError> {
    let mut endpoints = Vec::new();
    for (network, settings) in wire.iter() {
        let request = settings.as_ref().map(endpoint).transpose()?.unwrap_or_default();
        if is_predefined(network) {
            check_predefined(network, &request)?;
        }
        // What belongs to the default network is kept under the name of the one that it is.
        let name = if network == "default" { NetworkMode::Bridge.text() } else { network.clone() };
        endpoints.push((name, request));
    }
    Ok(endpoints)
}

/// Checks and understands one endpoint asked for.
pub fn endpoint(wire: &EndpointSettings) -> Result<EndpointRequest, ApiError> {
    address::mac(&wire.mac_address)?;
    let ipam = wire.ipam_config.clone().unwrap_or_default();
    Ok(EndpointRequest {
        ipv4: address::optional_ipv4(&ipam.ipv4_address)?,
        ipv6: address::optional_ipv6(&ipam.ipv6_address)?,
        link_local: ipam.link_local_ips.iter().map(|text| address::ip(text)).collect::<Result<_, _>>()?,
        has_ipam: wire.ipam_config.is_some(),
        mac_address: wire.mac_address.clone(),
        aliases: wire.aliases.clone(),
        links: wire.links.clone(),
        driver_opts: wire.driver_opts.clone(),
        gw_priority: wire.gw_priority,
    })
}

fn is_predefined(network: &str) -> bool {
    matches!(network, "default" | "bridge" | "host" | "none")
}

fn check_predefined(network: &str, request: &EndpointRequest) -> Result<(), ApiError> {
    let mut reasons = Vec::new();
    if request.ipv4.is_some() || request.ipv6.is_some() || !request.link_local.is_empty() {
        reasons.push("user-specified IP address is supported on user-defined networks only");
    }
    if request.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
        reasons.push("network-scoped aliases are only supported for user-defined networks");
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let reasons = reasons.join("\n");
    Err(ApiError::invalid(format!("invalid config for network {network}: invalid endpoint settings:\n{reasons}")))
}

/// The endpoints of a container by network name (B106).
pub fn of_container(view: &ContainerView) -> BTreeMap<String, EndpointSettings> {
    view.networks.iter().map(|attachment| (attachment.network.clone(), settings(view, attachment))).collect()
}

/// The name of the network that a mode stands for.
pub fn main_network(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Default => NetworkMode::Bridge.text(),
        other => other.text(),
    }
}

fn settings(view: &ContainerView, attachment: &NetworkAttachment) -> EndpointSettings {
    fn text<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let wanted = &attachment.wanted;
    let asked = EndpointSettings {
        ipam_config: wanted.has_ipam.then(|| EndpointIpamConfig {
            ipv4_address: text(wanted.ipv4),
            ipv6_address: text(wanted.ipv6),
            link_local_ips: wanted.link_local.iter().map(ToString::to_string).collect(),
        }),
        links: wanted.links.clone(),
        aliases: wanted.aliases.clone(),
        driver_opts: wanted.driver_opts.clone(),
        gw_priority: wanted.gw_priority,
        network_id: attachment.network_id.clone(),
        dns_names: attachment.dns_names(view),
        ..EndpointSettings::default()
    };
    let Some(endpoint) = &attachment.endpoint else { return asked };
    EndpointSettings {
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: text(endpoint.gateway_v4),
        ip_address: text(endpoint.ipv4.map(|net| net.addr())),
        ip_prefix_len: endpoint.ipv4.map_or(0, |net| net.prefix_len()),
        ipv6_gateway: text(endpoint.gateway_v6),
        global_ipv6_address: text(endpoint.ipv6.map(|net| net.addr())),
        global_ipv6_prefix_len: endpoint.ipv6.map_or(0, |net| net.prefix_len()),
        mac_address: endpoint.mac_address.clone(),
        ..asked
    }
}
