//! Networks.

use std::collections::BTreeMap;

use berth_api::network::{
    EndpointResource, Ipam, IpamConfig, IpamStatus, Network as Wire, NetworkStatus, SubnetStatus,
};
use berth_engine::ContainerView;
use berth_net::{NetworkInfo, Subnet};

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
        enable_ipv4: true,
        enable_ipv6: false,
        ipam: Ipam { driver: "default".to_owned(), options: None, config: (!subnets.is_empty()).then_some(subnets) },
        internal: network.internal,
        attachable: network.attachable,
        options: Some(network.options.clone()),
        labels: Some(network.labels.clone()),
        ..Wire::default()
    }
}

fn subnet(subnet: &Subnet) -> IpamConfig {
    IpamConfig {
        subnet: subnet.net.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.to_string(),
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
        for endpoint in view.networks.iter().filter(|endpoint| endpoint.network_id == id) {
            let address = endpoint.address.map(|ip| format!("{ip}/{}", endpoint.prefix_len)).unwrap_or_default();
            let member = EndpointResource {
                name: view.name.to_string(),
                endpoint_id: endpoint.endpoint_id.clone(),
                mac_address: endpoint.mac_address.clone(),
                ipv4_address: address,
                ipv6_address: String::new(),
            };
            members.insert(view.id.to_string(), member);
        }
    }
    members
}
