//! What the name service is told of a container.

use std::net::IpAddr;

use berth_dns::{Link, Member, Membership, Upstream};
use berth_net::{Driver, PREDEFINED};

use crate::{
    Inner,
    network::{EndpointView, NetworkAttachment},
    view::ContainerView,
};

/// Whether a container on these networks has the name service: on any but the predefined ones (B124).
pub(crate) fn has_names(networks: &[NetworkAttachment]) -> bool {
    networks.iter().any(is_named)
}

/// A container on these networks, as the name service knows it.
pub(super) fn member_of(engine: &Inner, view: &ContainerView, networks: &[NetworkAttachment]) -> Member {
    let held = networks.iter().filter_map(|attachment| Some((attachment, attachment.endpoint.as_ref()?)));
    let has_way_out = held.clone().any(|(_, endpoint)| endpoint.gateway_v4.is_some() || endpoint.gateway_v6.is_some());
    let dns = crate::bundle::dns_options(engine, view);
    Member {
        id: view.id.to_string(),
        networks: held
            .filter(|(attachment, _)| is_named(attachment))
            .map(|(attachment, endpoint)| membership(engine, view, attachment, endpoint))
            .collect(),
        upstream: match dns.servers {
            servers if !servers.is_empty() => Upstream::Named(servers),
            _ if has_way_out => Upstream::Host,
            _ => Upstream::Nobody,
        },
        keeps_single_labels: berth_net::files::has_ndots(&crate::bundle::host_resolv_conf(), &dns.options),
    }
}

/// The host's address on the first of these networks where it has one.
pub(crate) fn address_of_host(engine: &Inner, networks: &[NetworkAttachment]) -> Option<IpAddr> {
    let held = networks.iter().filter(|attachment| attachment.endpoint.is_some());
    held.flat_map(|attachment| addresses_of_host(engine, attachment)).next()
}

fn is_named(attachment: &NetworkAttachment) -> bool {
    !PREDEFINED.contains(&attachment.network.as_str())
}

fn membership(
    engine: &Inner,
    view: &ContainerView,
    attachment: &NetworkAttachment,
    endpoint: &EndpointView,
) -> Membership {
    Membership {
        network: attachment.network_id.clone(),
        network_name: attachment.network.clone(),
        names: attachment.dns_names(view).unwrap_or_default(),
        addresses: endpoint.addresses(),
        host: addresses_of_host(engine, attachment),
        links: attachment.wanted.links.iter().flatten().filter_map(|text| link(engine, text)).collect(),
    }
}

/// The host's addresses on a network: on a bridge the gateway is the host.
fn addresses_of_host(engine: &Inner, attachment: &NetworkAttachment) -> Vec<IpAddr> {
    match engine.networks.network(&attachment.network_id) {
        Ok(info) if info.network.driver == Driver::Bridge => {
            info.network.subnets.iter().filter_map(|subnet| subnet.gateway).collect()
        }
        // A network that is being removed, or one whose gateway is somebody else.
        _ => Vec::new(),
    }
}

/// `CONTAINER:ALIAS`, as `--link` has it: the container goes by that name for us.
fn link(engine: &Inner, text: &str) -> Option<Link> {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    let target = match engine.registry.find(container) {
        Ok(handle) => handle.view().name.to_string(),
        Err(_) => container.to_owned(),
    };
    Some(Link { alias: alias.to_owned(), target }).filter(|link| !link.alias.is_empty())
}
