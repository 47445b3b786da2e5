//! The subnets of the network `bridge`, which follow the configuration: one of IPv4, and with `--ipv6` one of IPv6.
//!
//! What is configured comes first (`--bip`, `--bip6`); then what a bridge that is there has; then the range that containers get
//! addresses from (`--fixed-cidr`), which is a subnet where nothing else is said; then the subnet of the last start; then a free one.

use std::net::IpAddr;

use berth_model::HexId;
use ipnet::IpNet;

use crate::bridge::addresses_on;
use crate::config::{DefaultBridge, NetConfig};
use crate::error::NetError;
use crate::netlink::{Socket, route};
use crate::network::{Subnet, gateway_key};
use crate::records::taken_subnets;
use crate::subnet;

/// What the configuration says of one family.
struct Asked {
    ipv6: bool,
    /// The bridge's address and its subnet.
    address: Option<IpNet>,
    /// The part that containers get addresses from.
    range: Option<IpNet>,
    /// The containers' way out, where that is not the bridge.
    gateway: Option<IpAddr>,
}

/// The subnets of the default bridge. `others` are those of other networks, `recorded` those that it had, `seed` is its id.
///
/// # Errors
/// A bridge of somebody else that is not there or has no address; parts that do not fit together; no free pool.
pub(crate) fn subnets(
    config: &NetConfig,
    others: &[IpNet],
    recorded: &[Subnet],
    seed: &HexId,
) -> Result<Vec<Subnet>, NetError> {
    if config.bridge == DefaultBridge::Off {
        return Ok(Vec::new());
    }
    let mut socket = Socket::route()?;
    let mut subnets = vec![choose(config, &Asked::v4(config), &mut socket, others, recorded, seed)?];
    if config.ipv6 {
        subnets.push(choose(config, &Asked::v6(config), &mut socket, others, recorded, seed)?);
    }
    Ok(subnets)
}

impl Asked {
    fn v4(config: &NetConfig) -> Asked {
        let address = match &config.bridge {
            DefaultBridge::Managed { address, .. } => address.map(IpNet::V4),
            DefaultBridge::Foreign { .. } | DefaultBridge::Off => None,
        };
        let (range, gateway) = (config.fixed_range.map(IpNet::V4), config.default_gateway.map(IpAddr::V4));
        Asked { ipv6: false, address, range, gateway }
    }

    fn v6(config: &NetConfig) -> Asked {
        let (address, range) = (config.bridge_address_v6.map(IpNet::V6), config.fixed_range_v6.map(IpNet::V6));
        Asked { ipv6: true, address, range, gateway: config.default_gateway_v6.map(IpAddr::V6) }
    }

    /// The subnet behind an address of the bridge.
    fn around(&self, address: IpNet) -> Result<Subnet, NetError> {
        self.within(Subnet { gateway: Some(address.addr()), ..Subnet::of(address.trunc()) })
    }

    /// A subnet with the range and the way out that are asked for.
    fn within(&self, subnet: Subnet) -> Result<Subnet, NetError> {
        let net = subnet.net;
        let outside = |what: &'static str, value: String| Err(NetError::OutsideDefaultBridge { what, value, net });
        let range = match self.range.map(|range| range.trunc()) {
            Some(range) if net.contains(&range) => Some(range),
            // More than there is means all of it.
            Some(range) if range.contains(&net) => None,
            Some(range) => {
                return outside(if self.ipv6 { "--fixed-cidr-v6" } else { "--fixed-cidr" }, range.to_string());
            }
            None => None,
        };
        let mut auxiliary = std::collections::BTreeMap::new();
        if let Some(gateway) = self.gateway.filter(|gateway| Some(*gateway) != subnet.gateway) {
            if !net.contains(&gateway) {
                let option = if self.ipv6 { "--default-gateway-v6" } else { "--default-gateway" };
                return outside(option, gateway.to_string());
            }
            auxiliary.insert(gateway_key(self.ipv6).to_owned(), gateway);
        }
        Ok(Subnet { range, auxiliary, ..subnet })
    }

    /// Whether an address that a bridge has can be the gateway.
    fn takes(&self, address: &IpNet) -> bool {
        let local = match address.addr() {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        address.addr().is_ipv6() == self.ipv6 && !local && address.prefix_len() < address.max_prefix_len()
    }

    fn fits(&self, address: &IpNet) -> bool {
        self.range.is_none_or(|range| address.trunc().contains(&range) || range.contains(&address.trunc()))
    }
}

fn choose(
    config: &NetConfig,
    asked: &Asked,
    socket: &mut Socket,
    others: &[IpNet],
    recorded: &[Subnet],
    seed: &HexId,
) -> Result<Subnet, NetError> {
    if let Some(address) = asked.address {
        return asked.around(address);
    }
    let (name, foreign) = match &config.bridge {
        DefaultBridge::Managed { name, .. } => (name, false),
        DefaultBridge::Foreign { name } => (name, true),
        DefaultBridge::Off => return Err(NetError::BridgeOff),
    };
    let link = route::link_by_name(socket, name)?;
    let mut there = match &link {
        Some(link) => addresses_on(socket, link.index)?,
        None if foreign => return Err(NetError::NoSuchBridge(name.clone())),
        None => Vec::new(),
    };
    there.retain(|address| asked.takes(address));
    let fitting = there.iter().find(|address| asked.fits(address));
    // Our own bridge is given another address, if it has one that does not fit; that of somebody else stays as it is.
    match fitting.or(there.first().filter(|_| foreign)) {
        Some(address) => return asked.around(*address),
        None if foreign => return Err(NetError::NoBridgeAddress(name.clone())),
        None => {}
    }
    if let Some(range) = asked.range {
        return asked.within(Subnet::of(range.trunc()));
    }
    let taken = taken_subnets(socket, others)?;
    let before = recorded.iter().find(|subnet| subnet.is_ipv6() == asked.ipv6);
    if let Some(before) = before.filter(|before| subnet::is_free(&before.net, &taken)) {
        let gateway = before.gateway;
        return asked.within(Subnet { gateway, ..Subnet::of(before.net) });
    }
    let local = subnet::local_pool(seed);
    let free =
        subnet::first_free(config.pools.iter().chain([&local]), asked.ipv6, &taken).ok_or(NetError::NoFreePool)?;
    asked.within(Subnet::of(free))
}
