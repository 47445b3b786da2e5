//! Bridges, addresses, rules and names: how containers reach each other, the host and the world.
//!
//! [`Networks`] is the way in. Below it, in reading order: [`network`](Network) and [`endpoint`](Endpoint) say what
//! there is; `book` remembers it; `worker` is the one thread that changes the kernel, with `sandbox`, `bridge` and
//! `firewall` as its hands and `netlink` as its language; `ipam` and `subnet` choose addresses; [`files`] writes what a
//! container reads about names.
//!
//! [`Networks::publish`] leads ports of the host to a container: `ports`.
//!
//! Deliberately absent: executed programs, async, the name service, and any knowledge of what runs in a namespace.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics says where"))]

mod asked;
mod book;
mod bridge;
mod checks;
mod config;
mod custom;
mod default_bridge;
mod endpoint;
mod error;
mod explain;
pub mod files;
mod firewall;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod ipam;
mod mac;
mod name_sockets;
mod netlink;
mod network;
mod networks;
mod options;
mod ports;
mod records;
mod sandbox;
mod shape;
mod subnet;
mod tap;
mod worker;

pub use berth_ports::{Transport, owner_of};
pub use config::{
    DEFAULT_BRIDGE, DEFAULT_BRIDGE_PORTS, DEFAULT_HELD_PORTS, DEFAULT_MTU, DEFAULT_PREPARED, DefaultBridge,
    FirewallMode, NetConfig,
};
pub use custom::{Created, NetworkRequest, SubnetRequest};
pub use endpoint::{Connection, Endpoint, EndpointRecord, EndpointRequest};
pub use error::NetError;
pub use explain::{FirewallReport, Reach};
pub use firewall::{Direction, Limited, Obstacle, PortVerdict};
pub use mac::{InvalidMacAddress, MacAddress};
pub use name_sockets::{NAME_SERVER, NameSockets};
pub use netlink::NetlinkError;
pub use network::{Driver, GatewayMode, Network, NetworkInfo, PREDEFINED, Subnet, SubnetUsage};
pub use networks::{Count, Networks, Reconciled, Traffic};
pub use ports::{HostPort, InvalidHostPort, PortRequest, Publication, PublishedPort, Way};
pub use shape::Shape;
pub use subnet::{AddressPool, default_pools};
pub use tap::{DEFAULT_SNAPLEN, Tap, TapOptions};

/// An id that nobody can guess and nobody has.
fn new_id() -> berth_model::HexId {
    loop {
        if let Some(id) = berth_model::HexId::from_random(random()) {
            return id;
        }
    }
}

/// Random bytes of the kernel. See getrandom(2).
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel has random bytes: {error}"),
        }
    }
    bytes
}
