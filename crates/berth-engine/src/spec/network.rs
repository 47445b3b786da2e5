//! Networks and ports of a container.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Where a container's network comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The default network: the bridge.
    #[default]
    Default,
    /// The bridge, by name.
    Bridge,
    /// Only a loopback interface.
    None,
    /// The host's own.
    Host,
    /// That of another container, by name or id.
    Container(String),
    /// A network by name or id.
    Named(String),
}

impl NetworkMode {
    /// The text of the Engine API.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            NetworkMode::Default => "default".to_owned(),
            NetworkMode::Bridge => "bridge".to_owned(),
            NetworkMode::None => "none".to_owned(),
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::Container(name) => format!("container:{name}"),
            NetworkMode::Named(name) => name.clone(),
        }
    }

    /// Reads the text of the Engine API; empty is the default network.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        match text {
            "" | "default" => NetworkMode::Default,
            "bridge" => NetworkMode::Bridge,
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            _ => match text.strip_prefix("container:") {
                Some(name) => NetworkMode::Container(name.to_owned()),
                None => NetworkMode::Named(text.to_owned()),
            },
        }
    }
}

/// What a container wants of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// Wanted IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Wanted IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Wanted link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// Whether the request had an `IPAMConfig` at all.
    pub has_ipam: bool,
    /// Wanted MAC address.
    pub mac_address: String,
    /// Other names on that network.
    pub aliases: Option<Vec<String>>,
    /// Old-style links.
    pub links: Option<Vec<String>>,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The network with the highest one gives the default gateway.
    pub gw_priority: i64,
}

/// Transport protocols of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port inside a container: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortProto {
    /// The number.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// Where a port is published on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    /// Address of the host; empty is every address.
    pub host_ip: String,
    /// Port or range of the host; empty is a free one.
    pub host_port: String,
}

/// A text that is no port. The text is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPort {
    /// The number is none.
    #[error("invalid port '{0}': invalid syntax")]
    Number(String),
    /// The number is too large.
    #[error("invalid port '{0}': value out of range")]
    Range(String),
    /// The protocol is unknown.
    #[error("invalid proto: {0}")]
    Protocol(String),
}

impl FromStr for PortProto {
    type Err = InvalidPort;

    /// Reads `80` or `80/udp`.
    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidPort::Number(number.to_owned()));
        }
        let port = number.parse().map_err(|_| InvalidPort::Range(number.to_owned()))?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(InvalidPort::Protocol(protocol.to_owned())),
        };
        Ok(Self { port, protocol })
    }
}

impl fmt::Display for PortProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.word())
    }
}

impl Protocol {
    /// `tcp`, `udp`, `sctp`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl TryFrom<String> for PortProto {
    type Error = InvalidPort;

    fn try_from(text: String) -> Result<Self, InvalidPort> {
        text.parse()
    }
}

impl From<PortProto> for String {
    fn from(port: PortProto) -> Self {
        port.to_string()
    }
}
