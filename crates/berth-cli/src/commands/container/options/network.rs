//! The networks of a new container: `--network` in both forms, and the older flags that speak of the first network.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use berth_api::endpoint::{EndpointIpamConfig, EndpointSettings};
use berth_api::ordered::Ordered;

use super::{ContainerOptions, csv, value};

/// Flags about the network, but for those that nearly everybody uses.
#[derive(Debug, Default, clap::Args)]
pub struct NetworkOptions {
    /// Extra /etc/hosts line given as name:address (value host-gateway maps to the host side address)
    #[arg(long = "add-host", value_name = "list", value_parser = value::extra_host)]
    pub extra_hosts: Vec<String>,
    /// DNS server for the container resolv.conf
    #[arg(long, value_name = "list", value_parser = value::ip_address)]
    pub dns: Vec<String>,
    /// Resolver option for resolv.conf
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "list")]
    pub dns_options: Vec<String>,
    /// DNS search domain for resolv.conf
    #[arg(long, value_name = "list", value_parser = value::dns_search)]
    pub dns_search: Vec<String>,
    /// NIS domain name
    #[arg(long, value_name = "string")]
    pub domainname: Option<String>,
    /// Mark a port or port range as exposed without publishing
    #[arg(long, value_name = "list")]
    pub expose: Vec<String>,
    /// Fixed IPv4 address on the network
    #[arg(long, value_name = "string", value_parser = value::ipv4)]
    pub ip: Option<Ipv4Addr>,
    /// Fixed IPv6 address on the network
    #[arg(long, value_name = "string", value_parser = value::ipv6)]
    pub ip6: Option<Ipv6Addr>,
    /// Legacy link to another container (name[:alias])
    #[arg(long = "link", value_name = "list", value_parser = value::link)]
    pub links: Vec<String>,
    /// Link-local address for the endpoint
    #[arg(long = "link-local-ip", value_name = "list", value_parser = value::ip_address)]
    pub link_local_ips: Vec<String>,
    /// Fixed MAC address
    #[arg(long, value_name = "string")]
    pub mac_address: Option<String>,
    /// Extra DNS name on the given networks
    #[arg(long = "network-alias", alias = "net-alias", value_name = "list")]
    pub network_aliases: Vec<String>,
    /// Publish every exposed port to a free host port
    #[arg(long, short = 'P')]
    pub publish_all: bool,
}

/// One `--network`, as typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkAttachment {
    target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    driver_opts: BTreeMap<String, String>,
    ipv4: String,
    ipv6: String,
    link_local_ips: Vec<String>,
    mac_address: String,
    gw_priority: i64,
}

/// `NAME`, or `name=NAME,alias=...,ip=...`: the parser of `--network`.
pub(super) fn attachment(text: &str) -> Result<NetworkAttachment, String> {
    let mut network = NetworkAttachment::default();
    if !text.contains('=') {
        text.clone_into(&mut network.target);
        return Ok(network);
    }
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
        match key.as_str() {
            "name" => network.target = value,
            "alias" => network.aliases.push(value),
            "ip" => network.ipv4 = value,
            "ip6" => network.ipv6 = value,
            "link-local-ip" => network.link_local_ips.push(value),
            "mac-address" => network.mac_address = value,
            "driver-opt" => {
                let (name, value) = value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                network.driver_opts.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
            "gw-priority" => {
                network.gw_priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if network.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(network)
}

/// The network mode of a container, and the settings of its endpoints.
#[derive(Debug, PartialEq)]
pub(super) struct Networking {
    pub mode: String,
    pub endpoints: Ordered<Option<EndpointSettings>>,
}

/// What all flags about networks ask for together.
pub(super) fn networking(options: &ContainerOptions) -> Result<Networking, String> {
    let mut networks = options.networks.clone();
    let nothing_said = networks.is_empty();
    if nothing_said {
        networks.push(NetworkAttachment { target: "default".to_owned(), ..NetworkAttachment::default() });
    }
    let user_defined = networks.iter().filter(|network| is_user_defined(&network.target)).count();
    let mut endpoints = Ordered::default();
    let alone = networks.len() == 1 && !nothing_said;
    let mode = networks[0].target.clone();
    for (index, mut network) in networks.iter().cloned().enumerate() {
        if index == 0 {
            apply_older_flags(&mut network, &options.network)?;
        }
        let endpoint = endpoint(&network)?;
        if endpoints.contains_key(&network.target) {
            return Err(format!("network {:?} is specified multiple times", network.target));
        }
        // The daemon makes the endpoint of one plain network by itself, whatever the API version calls its settings.
        if alone && endpoint == EndpointSettings::default() {
            continue;
        }
        endpoints.insert(network.target, Some(endpoint));
    }
    if user_defined > 0 && user_defined < networks.len() {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()
        );
    }
    Ok(Networking { mode, endpoints })
}

/// Flags from before a container could have several networks: they speak of the first.
fn apply_older_flags(network: &mut NetworkAttachment, options: &NetworkOptions) -> Result<(), String> {
    let conflict = |flag: &str, other: &str| {
        Err(format!("conflicting options: cannot specify both {flag} and per-network {other}"))
    };
    if !network.aliases.is_empty() && !options.network_aliases.is_empty() {
        return conflict("--network-alias", "alias");
    }
    if !network.ipv4.is_empty() && options.ip.is_some() {
        return conflict("--ip", "IPv4 address");
    }
    if !network.ipv6.is_empty() && options.ip6.is_some() {
        return conflict("--ip6", "IPv6 address");
    }
    if !network.mac_address.is_empty() && options.mac_address.is_some() {
        return conflict("--mac-address", "MAC address");
    }
    if !network.link_local_ips.is_empty() && !options.link_local_ips.is_empty() {
        return conflict("--link-local-ip", "link-local IP addresses");
    }
    network.aliases.extend(options.network_aliases.iter().cloned());
    if is_user_defined(&network.target) {
        network.links.extend(options.links.iter().cloned());
    }
    if let Some(ip) = options.ip {
        network.ipv4 = ip.to_string();
    }
    if let Some(ip) = options.ip6 {
        network.ipv6 = ip.to_string();
    }
    if let Some(mac) = &options.mac_address {
        mac.trim().clone_into(&mut network.mac_address);
    }
    network.link_local_ips.extend(options.link_local_ips.iter().cloned());
    Ok(())
}

fn endpoint(network: &NetworkAttachment) -> Result<EndpointSettings, String> {
    if network.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&network.target) {
        if !network.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
        if !network.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    if !network.mac_address.is_empty() && !is_mac(&network.mac_address) {
        return Err(format!("{} is not a valid mac address", network.mac_address));
    }
    let list = |values: &Vec<String>| (!values.is_empty()).then(|| values.clone());
    let any_address = !network.ipv4.is_empty() || !network.ipv6.is_empty() || !network.link_local_ips.is_empty();
    Ok(EndpointSettings {
        ipam_config: any_address.then(|| EndpointIpamConfig {
            ipv4_address: network.ipv4.clone(),
            ipv6_address: network.ipv6.clone(),
            link_local_ips: network.link_local_ips.clone(),
        }),
        links: list(&network.links),
        aliases: list(&network.aliases),
        driver_opts: (!network.driver_opts.is_empty()).then(|| network.driver_opts.clone()),
        gw_priority: network.gw_priority,
        mac_address: network.mac_address.clone(),
        ..EndpointSettings::default()
    })
}

/// Whether a mode is the name of a network that somebody made.
fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none") && !mode.starts_with("container:") && mode != "container"
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<_> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_form_names_everything() {
        let network = attachment("name=b,alias=x,alias=y,ip=1.2.3.4,driver-opt=K=v,gw-priority=3").expect("network");
        assert_eq!((network.target.as_str(), network.gw_priority), ("b", 3));
        assert_eq!(network.aliases, ["x", "y"]);
        assert_eq!(network.driver_opts.get("k").map(String::as_str), Some("v"));
        assert_eq!(attachment("a,b").expect("a name may hold anything").target, "a,b");
    }

    #[test]
    fn hardware_addresses() {
        for (text, good) in
            [("02:00:00:00:00:01", true), ("02-00-00-00-00-01", true), ("foo", false), ("02:00:00:00:00", false)]
        {
            assert_eq!(is_mac(text), good, "{text}");
        }
    }
}
