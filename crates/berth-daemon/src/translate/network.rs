//! Networks.

use std::collections::BTreeMap;

use berth_api::network::{
    ConfigReference, CreateRequest, EndpointResource, Ipam, IpamConfig, IpamStatus, Network as Wire, NetworkStatus,
    SubnetStatus,
};
use berth_engine::ContainerView;
use berth_model::ErrorKind;
use berth_net::{NetworkInfo, NetworkRequest, Subnet, SubnetRequest};

use crate::http::error::ApiError;
use crate::translate::address;

/// Options that say the same as a field of the request.
const OPTION_IPV4: &str = "com.docker.network.enable_ipv4";
const OPTION_IPV6: &str = "com.docker.network.enable_ipv6";

/// Checks and understands a request for a new network.
pub fn from_wire(wire: CreateRequest) -> Result<NetworkRequest, ApiError> {
    let forbidden = |message: &str| Err(ApiError::new(ErrorKind::Forbidden, message));
    if wire.driver == "overlay" {
        return forbidden(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        );
    }
    match wire.scope.as_str() {
        "" | "local" => {}
        "swarm" => return forbidden("cannot create a swarm scoped network when swarm is not active"),
        other => return Err(ApiError::invalid(format!("invalid scope: {other}: it is local"))),
    }
    if wire.ingress {
        return forbidden("Ingress network can only be global scope network");
    }
    let ipam = wire.ipam.unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(ApiError::not_found(format!("plugin {:?} not found", ipam.driver)));
    }
    let mut options = wire.options.unwrap_or_default();
    let switch =
        |options: &mut BTreeMap<String, String>, key| options.remove(key).map(|text| text == "true" || text == "1");
    let (ipv4, ipv6) = (switch(&mut options, OPTION_IPV4), switch(&mut options, OPTION_IPV6));
    Ok(NetworkRequest {
        name: wire.name,
        driver: wire.driver,
        subnets: ipam.config.iter().flatten().map(subnet_request).collect::<Result<_, _>>()?,
        ipv4: wire.enable_ipv4.or(ipv4),
        ipv6: wire.enable_ipv6.or(ipv6).unwrap_or(false),
        ipam_options: ipam.options,
        internal: wire.internal,
        attachable: wire.attachable,
        config_only: wire.config_only,
        config_from: wire.config_from.unwrap_or_default().network,
        options,
        labels: wire.labels.unwrap_or_default(),
    })
}

fn subnet_request(wire: &IpamConfig) -> Result<SubnetRequest, ApiError> {
    let auxiliary = wire.auxiliary_addresses.iter().map(|(name, text)| Ok((name.clone(), address::ip(text)?)));
    Ok(SubnetRequest {
        subnet: address::optional_net(&wire.subnet)?,
        gateway: address::optional_ip(&wire.gateway)?,
        range: address::optional_net(&wire.ip_range)?,
        auxiliary: auxiliary.collect::<Result<_, ApiError>>()?,
    })
}

/// Shows a network as lists do.
pub fn summary(info: &NetworkInfo) -> Wire {
    let network = &info.network;
    let subnets: Vec<IpamConfig> = network.subnets.iter().map(subnet).collect();
    Wire {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: network.created.to_string(),
        scope: "local".to_owned(),
        driver: network.driver.word().to_owned(),
        enable_ipv4: network.ipv4,
        enable_ipv6: network.ipv6,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: network.ipam_options.clone(),
            config: (!subnets.is_empty()).then_some(subnets),
        },
        internal: network.internal,
        attachable: network.attachable,
        config_from: ConfigReference { network: network.config_from.clone() },
        config_only: network.config_only,
        options: Some(network.options.clone()),
        labels: Some(network.labels.clone()),
        ..Wire::default()
    }
}

fn subnet(subnet: &Subnet) -> IpamConfig {
    IpamConfig {
        subnet: subnet.net.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary_addresses: subnet.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
    }
}

/// Shows a network with its containers and the use of its addresses.
pub fn inspect<'a>(info: &NetworkInfo, containers: impl Iterator<Item = &'a ContainerView>) -> Wire {
    let usage = info.usage.iter().map(|usage| {
        let status = SubnetStatus { ips_in_use: usage.in_use, dynamic_ips_available: usage.available };
        (usage.net.to_string(), status)
    });
    Wire {
        containers: Some(members(info, containers)),
        status: Some(NetworkStatus { ipam: IpamStatus { subnets: usage.collect() } }),
        ..summary(info)
    }
}

fn members<'a>(
    info: &NetworkInfo,
    containers: impl Iterator<Item = &'a ContainerView>,
) -> BTreeMap<String, EndpointResource> {
    let id = info.network.id.as_str();
    let mut members = BTreeMap::new();
    for view in containers.filter(|view| view.state.is_running()) {
        for attachment in view.networks.iter().filter(|attachment| attachment.network_id == id) {
            let Some(endpoint) = &attachment.endpoint else { continue };
            let member = EndpointResource {
                name: view.name.to_string(),
                endpoint_id: endpoint.endpoint_id.clone(),
                mac_address: endpoint.mac_address.clone(),
                ipv4_address: endpoint.ipv4.map(|net| net.to_string()).unwrap_or_default(),
                ipv6_address: endpoint.ipv6.map(|net| net.to_string()).unwrap_or_default(),
            };
            members.insert(view.id.to_string(), member);
        }
    }
    members
}
