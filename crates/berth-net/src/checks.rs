//! What cannot be in a new network; the words are those that clients know.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::custom::SubnetRequest;
use crate::error::NetError;
use crate::network::{Driver, GatewayMode, Network, NetworkInfo, PREDEFINED};
use crate::options::OPTION_PARENT;

/// Whether nobody has the name, and nobody may not.
pub(crate) fn check_name(name: &str, others: &[NetworkInfo]) -> Result<(), NetError> {
    if name.is_empty() {
        return Err(NetError::EmptyName);
    }
    if PREDEFINED.contains(&name) {
        return Err(NetError::Predefined(name.to_owned()));
    }
    if others.iter().any(|info| info.network.name == name) {
        return Err(NetError::NameTaken(name.to_owned()));
    }
    Ok(())
}

/// Whether the modes of the gateways go with the rest.
pub(crate) fn check_modes(network: &Network) -> Result<(), NetError> {
    let isolated = [false, true].into_iter().any(|ipv6| network.gateway_mode(ipv6) == GatewayMode::Isolated);
    if isolated && !network.internal { Err(NetError::IsolatedNotInternal) } else { Ok(()) }
}

/// Two networks share neither a bridge nor, but for VLANs and dummies of their own, a parent.
pub(crate) fn check_devices(network: &Network, others: &[NetworkInfo]) -> Result<(), NetError> {
    let mut others = others.iter().map(|info| &info.network).filter(|other| !other.config_only);
    match network.driver {
        Driver::Bridge => {
            let bridge = network.bridge_name();
            match others.find(|other| other.driver == Driver::Bridge && other.bridge_name() == bridge) {
                Some(other) => Err(NetError::BridgeTaken { id: network.id.clone(), bridge, other: other.id.clone() }),
                None => crate::endpoint::check_interface(&bridge),
            }
        }
        Driver::Macvlan | Driver::Ipvlan => {
            let Some(parent) = network.options.get(OPTION_PARENT) else { return Ok(()) };
            crate::endpoint::check_interface(parent)?;
            match others.find(|other| other.options.get(OPTION_PARENT) == Some(parent) && other.driver.has_endpoints())
            {
                Some(other) => Err(NetError::ParentTaken { network: other.name.clone(), parent: parent.clone() }),
                None => Ok(()),
            }
        }
        Driver::Host | Driver::Null => Ok(()),
    }
}

/// What belongs to a subnet needs one.
pub(crate) fn check_without_subnet(request: &SubnetRequest) -> Result<(), NetError> {
    let outside = |what: &str, value: String| {
        Err(NetError::InvalidSubnet(format!(
            "invalid {what} {value}: parent subnet invalid Prefix doesn't contain this address"
        )))
    };
    match (&request.gateway, &request.range, request.auxiliary.keys().next()) {
        (Some(gateway), ..) => outside("gateway", gateway.to_string()),
        (_, Some(range), _) => Err(NetError::InvalidSubnet(format!(
            "invalid ip-range {range}: parent subnet invalid Prefix doesn't contain ip-range"
        ))),
        (.., Some(name)) => outside("auxiliary address", name.clone()),
        _ => Ok(()),
    }
}

/// Whether gateway, range and auxiliary addresses lie in the subnet; the words are those that clients know.
pub(crate) fn check_subnet(net: IpNet, request: &SubnetRequest) -> Result<(), NetError> {
    let mut wrong = Vec::new();
    if net != net.trunc() {
        wrong.push(format!("invalid subnet {net}: it should be {}", net.trunc()));
    }
    let inside = |address: &IpAddr| net.contains(address);
    if let Some(range) = request.range.filter(|range| !net.contains(range)) {
        wrong.push(format!("invalid ip-range {range}: parent subnet {net} doesn't contain ip-range"));
    }
    if let Some(gateway) = request.gateway.filter(|gateway| !inside(gateway)) {
        wrong.push(format!("invalid gateway {gateway}: parent subnet {net} doesn't contain this address"));
    }
    for (name, _) in request.auxiliary.iter().filter(|(_, address)| !inside(address)) {
        wrong.push(format!("invalid auxiliary address {name}: parent subnet {net} doesn't contain this address"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(NetError::InvalidSubnet(wrong.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &SubnetRequest, expected: &str) {
        let error = check_subnet(request.subnet.unwrap(), request).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid network config:\n{expected}"));
    }

    #[test]
    fn what_does_not_fit_together_is_told_in_the_words_clients_know() {
        let subnet = |text: &str| SubnetRequest { subnet: text.parse().ok(), ..SubnetRequest::default() };
        check(&subnet("10.78.0.5/24"), "invalid subnet 10.78.0.5/24: it should be 10.78.0.0/24");
        check(
            &SubnetRequest { gateway: "10.79.0.1".parse().ok(), ..subnet("10.78.0.0/24") },
            "invalid gateway 10.79.0.1: parent subnet 10.78.0.0/24 doesn't contain this address",
        );
        check(
            &SubnetRequest { range: "10.79.0.0/25".parse().ok(), ..subnet("10.78.0.0/24") },
            "invalid ip-range 10.79.0.0/25: parent subnet 10.78.0.0/24 doesn't contain ip-range",
        );
        let auxiliary = [("a".to_owned(), IpAddr::from([1, 2, 3, 4]))].into();
        check(
            &SubnetRequest { auxiliary, ..subnet("10.78.0.0/24") },
            "invalid auxiliary address a: parent subnet 10.78.0.0/24 doesn't contain this address",
        );
    }
}
