//! What is asked of `berth-net` for a container: one request for each attachment, and which of them leads to the world.

use std::net::IpAddr;
use std::sync::Arc;

use berth_net::{EndpointRecord, EndpointRequest, InvalidMacAddress, Network};

use super::NetworkAttachment;
use crate::{EngineError, Inner, view::ContainerView};

/// The networks that a container's default routes lead by, as positions in the list that was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaysOut {
    pub ipv4: Option<usize>,
    pub ipv6: Option<usize>,
}

/// Chooses among networks, each with its priority: the highest that leads out, of equals the first by name.
pub(crate) fn ways_out<'a>(networks: impl Iterator<Item = (&'a Network, i64)> + Clone) -> WaysOut {
    let best = |ipv6: bool| {
        let leading = networks.clone().enumerate().filter(|(_, (network, _))| network.leads_out(ipv6));
        let order =
            |(_, (network, priority)): &(usize, (&Network, i64))| (-i128::from(*priority), network.name.clone());
        leading.min_by_key(order).map(|(position, _)| position)
    };
    WaysOut { ipv4: best(false), ipv6: best(true) }
}

/// The requests for all endpoints of a container, in the order of its interfaces.
pub(crate) fn requests(engine: &Inner, view: &ContainerView) -> Result<Vec<EndpointRequest>, EngineError> {
    let find = |attachment: &NetworkAttachment| Ok(find(engine, attachment)?);
    let networks = view.networks.iter().map(find).collect::<Result<Vec<Network>, EngineError>>()?;
    let priorities = view.networks.iter().map(|attachment| attachment.wanted.gw_priority);
    let ways = ways_out(networks.iter().zip(priorities));
    let mut requests = Vec::new();
    for (position, (attachment, network)) in view.networks.iter().zip(&networks).enumerate() {
        let mut request = request(view, attachment, network)?;
        if position == 0 && request.mac.is_none() {
            request.mac = mac(&view.spec.config.mac_address)?;
        }
        request.default_v4 = ways.ipv4.is_none_or(|way| way == position);
        request.default_v6 = ways.ipv6.is_none_or(|way| way == position);
        requests.push(request);
    }
    Ok(requests)
}

/// The request for one endpoint; its network is the way out, if it leads anywhere.
pub(crate) fn request(
    view: &ContainerView,
    attachment: &NetworkAttachment,
    network: &Network,
) -> Result<EndpointRequest, EngineError> {
    let wanted = &attachment.wanted;
    Ok(EndpointRequest {
        ipv4: wanted.ipv4,
        ipv6: wanted.ipv6,
        preferred: attachment.former.iter().copied().filter(|ip| !is_settled(attachment, ip)).collect(),
        link_local: wanted.link_local.clone(),
        mac: mac(&wanted.mac_address)?,
        options: wanted.driver_opts.clone().unwrap_or_default(),
        aliases: wanted.aliases.iter().flatten().cloned().collect(),
        ..EndpointRequest::on(network.id.as_str(), view.id.clone(), view.name.as_str())
    })
}

/// Whether the container said which address of that family it wants.
fn is_settled(attachment: &NetworkAttachment, address: &IpAddr) -> bool {
    if address.is_ipv4() { attachment.wanted.ipv4.is_some() } else { attachment.wanted.ipv6.is_some() }
}

fn mac(text: &str) -> Result<Option<berth_net::MacAddress>, EngineError> {
    let read = Some(text).filter(|text| !text.is_empty()).map(str::parse).transpose();
    read.map_err(|error: InvalidMacAddress| EngineError::invalid(error.to_string()))
}

fn find(engine: &Inner, attachment: &NetworkAttachment) -> Result<Network, berth_net::NetError> {
    let by_name = engine.networks.network(&attachment.network);
    // A network of that name may have been made anew; then the name is what counts.
    Ok(by_name?.network)
}

/// The endpoints of a running container with the ways out chosen anew among them.
pub(crate) fn rerouted(
    engine: &Inner,
    attachments: &[NetworkAttachment],
    records: &[EndpointRecord],
) -> Result<Vec<EndpointRecord>, EngineError> {
    let network = |record: &EndpointRecord| Ok(Arc::new(engine.networks.network(record.network.as_str())?.network));
    let networks = records.iter().map(network).collect::<Result<Vec<_>, EngineError>>()?;
    let priority = |record: &EndpointRecord| {
        let own = attachments.iter().find(|attachment| attachment.network_id == record.network.as_str());
        own.map_or(0, |attachment| attachment.wanted.gw_priority)
    };
    let ways = ways_out(networks.iter().map(Arc::as_ref).zip(records.iter().map(priority)));
    let mut records = records.to_vec();
    for (position, record) in records.iter_mut().enumerate() {
        record.default_v4 = ways.ipv4 == Some(position) && record.ipv4.is_some();
        record.default_v6 = ways.ipv6 == Some(position) && record.ipv6.is_some();
    }
    Ok(records)
}
