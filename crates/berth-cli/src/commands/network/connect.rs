//! `berth network connect`.

use berth_api::endpoint::{EndpointIpamConfig, EndpointSettings};
use berth_api::network::ConnectRequest;
use berth_client::Client;
use clap::Args;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Connect>(
    "network",
    "connect",
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    Arity::Exactly(2),
);

/// Connects a container to a network, running or not.
#[derive(Args)]
pub struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
    #[arg(long, value_name = "int", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    gw_priority: i64,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    ip: String,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    ip6: String,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    network: String,
    container: String,
}

impl Command for Connect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let option = |text: &String| match text.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
            None => Err(CliError::message("invalid key/value pair format in driver options")),
        };
        let driver_opts = self.driver_opt.iter().map(option).collect::<Result<_, _>>()?;
        let list = |values: Vec<String>| (!values.is_empty()).then_some(values);
        let settings = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: self.ip,
                ipv6_address: self.ip6,
                link_local_ips: self.link_local_ip,
            }),
            links: list(self.link),
            aliases: Some(self.alias),
            driver_opts: Some(driver_opts),
            gw_priority: self.gw_priority,
            ..EndpointSettings::default()
        };
        let request = ConnectRequest { container: self.container, endpoint_config: Some(settings) };
        cx.client()?.post(Client::path("networks", &self.network, "/connect")).json(&request).send()?.finish()?;
        Ok(())
    }
}
