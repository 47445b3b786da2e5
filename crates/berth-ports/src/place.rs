//! A port of the host: what is held.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A text that names no transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTransport(pub String);

impl Transport {
    /// `tcp`, `udp`, `sctp`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }

    /// The number in the header of a packet.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for InvalidTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid proto: {}", self.0)
    }
}

impl std::error::Error for InvalidTransport {}

impl FromStr for Transport {
    type Err = InvalidTransport;

    fn from_str(text: &str) -> Result<Self, InvalidTransport> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Transport::Tcp),
            "udp" => Ok(Transport::Udp),
            "sctp" => Ok(Transport::Sctp),
            _ => Err(InvalidTransport(text.to_owned())),
        }
    }
}

/// A port at an address of the host; the unspecified address is every one of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The protocol.
    pub transport: Transport,
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Where what arrives is carried to by hand; `None` where rules do it.
    pub relay: Option<SocketAddr>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_as_clients_know_it() {
        let place = |address: &str| Place {
            transport: Transport::Tcp,
            address: address.parse().unwrap(),
            port: 80,
            relay: None,
        };
        assert_eq!(place("0.0.0.0").to_string(), "0.0.0.0:80/tcp");
        assert_eq!(place("::1").to_string(), "[::1]:80/tcp");
        assert_eq!("UDP".parse(), Ok(Transport::Udp));
        assert_eq!("icmp".parse::<Transport>().unwrap_err().to_string(), "invalid proto: icmp");
    }
}
