//! `berth network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_api::network::{ConfigReference, CreateRequest, CreateResponse, Ipam, IpamConfig};
use clap::Args;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Create>("network", "create", "[OPTIONS] NETWORK", "Create a network", Arity::Exactly(1));

/// Creates a network and prints its id.
#[derive(Args)]
pub struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map", value_parser = pair)]
    aux_address: Vec<(String, String)>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "string")]
    config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "string", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "map", value_parser = pair)]
    ipam_opt: Vec<(String, String)>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "list", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map", value_parser = pair)]
    opt: Vec<(String, String)>,
    /// Control the network's scope
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    name: String,
}

impl Command for Create {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let config = self.subnets().map_err(CliError::message)?;
        let request = CreateRequest {
            name: self.name,
            driver: self.driver,
            scope: self.scope,
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Some(Ipam { driver: self.ipam_driver, options: Some(map(&self.ipam_opt)), config: Some(config) }),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.map(|network| ConfigReference { network }),
            options: Some(map(&self.opt)),
            labels: Some(map(&self.label)),
        };
        let created: CreateResponse = cx.client()?.post("/networks/create").json(&request).send()?.json()?;
        if !created.warning.is_empty() {
            cx.warn(format!("WARNING: {}", created.warning));
        }
        cx.say(created.id)
    }
}

impl Create {
    /// Puts ranges, gateways and auxiliary addresses to the subnets that they lie in.
    fn subnets(&self) -> Result<Vec<IpamConfig>, String> {
        if self.subnet.len() < self.ip_range.len() || self.subnet.len() < self.gateway.len() {
            return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
        }
        let mut subnets: Vec<IpamConfig> = Vec::new();
        for text in &self.subnet {
            for other in &subnets {
                if contains(text, &other.subnet)? || contains(&other.subnet, text)? {
                    return Err("multiple overlapping subnet configuration is not supported".to_owned());
                }
            }
            subnets.push(IpamConfig { subnet: text.clone(), ..IpamConfig::default() });
        }
        for range in &self.ip_range {
            let subnet = home(&mut subnets, range)?.ok_or_else(|| format!("no matching subnet for range {range}"))?;
            if !subnet.ip_range.is_empty() {
                let IpamConfig { ip_range, subnet, .. } = subnet;
                return Err(format!(
                    "cannot configure multiple ranges ({range}, {ip_range}) on the same subnet ({subnet})"
                ));
            }
            subnet.ip_range.clone_from(range);
        }
        for gateway in &self.gateway {
            let subnet =
                home(&mut subnets, gateway)?.ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
            if !subnet.gateway.is_empty() {
                let IpamConfig { gateway: other, subnet, .. } = subnet;
                return Err(format!(
                    "cannot configure multiple gateways ({gateway}, {other}) for the same subnet ({subnet})"
                ));
            }
            subnet.gateway.clone_from(gateway);
        }
        for (name, address) in &self.aux_address {
            let subnet = home(&mut subnets, address)?;
            let subnet = subnet.ok_or_else(|| format!("no matching subnet for aux-address {address}"))?;
            subnet.auxiliary_addresses.insert(name.clone(), address.clone());
        }
        Ok(subnets)
    }
}

/// The subnet that an address or a range lies in.
fn home<'a>(subnets: &'a mut [IpamConfig], what: &str) -> Result<Option<&'a mut IpamConfig>, String> {
    for subnet in subnets {
        if contains(&subnet.subnet, what)? {
            return Ok(Some(subnet));
        }
    }
    Ok(None)
}

/// Whether the first address of something, written as `IP` or `IP/BITS`, lies in a subnet.
fn contains(subnet: &str, what: &str) -> Result<bool, String> {
    let invalid = |text: &str| format!("invalid CIDR address: {text}");
    let (base, bits) = subnet.split_once('/').ok_or_else(|| invalid(subnet))?;
    let base: IpAddr = base.parse().map_err(|_| invalid(subnet))?;
    let bits: u32 = bits.parse().map_err(|_| invalid(subnet))?;
    let (address, in_cidr) = match what.split_once('/') {
        Some((address, _)) => (address, true),
        None => (what, false),
    };
    let refused = || if in_cidr { invalid(what) } else { format!("invalid address: {what}") };
    let address: IpAddr = address.parse().map_err(|_| refused())?;
    let (base, address, width) = match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(own)) => (u128::from(u32::from(base)), u128::from(u32::from(own)), 32),
        (IpAddr::V6(base), IpAddr::V6(own)) => (u128::from(base), u128::from(own), 128),
        _ => return Ok(false),
    };
    let host_bits = width - bits.min(width);
    Ok(base.checked_shr(host_bits).unwrap_or(0) == address.checked_shr(host_bits).unwrap_or(0))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((key.to_owned(), value.to_owned()))
}

fn map(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_subnet_that_contains_it() {
        for (subnet, what, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0/9", false),
            ("fd00::/64", "fd00::5", true),
            ("fd00::/64", "10.0.0.1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
        ] {
            assert_eq!(contains(subnet, what), Ok(expected), "{subnet} {what}");
        }
        assert!(contains("10.0.0.0", "10.0.0.1").is_err());
        assert!(contains("10.0.0.0/8", "x").is_err());
    }
}
