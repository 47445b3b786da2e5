//! Why the network did not do what it was asked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use berth_model::{ErrorKind, HexId};
use berth_ports::{Owner, Place, Transport};
use berth_store::StoreError;
use ipnet::IpNet;

use crate::netlink::NetlinkError;

/// An error of the network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a change.
    #[error("network {network}: {source}: {}", cause(.source))]
    Kernel {
        /// The network's name.
        network: String,
        /// The step, and the kernel's reason.
        source: NetlinkError,
    },
    /// A netlink socket or a list could not be had.
    #[error("{source}: {}", cause(.source))]
    Netlink {
        /// The step, and the kernel's reason.
        #[from]
        source: NetlinkError,
    },
    /// A network namespace could not be made or entered.
    #[error("{step}: {source}")]
    Namespace {
        /// What was to be done.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A setting of the kernel could not be written.
    #[error("writing {value} to {}: {source}", .path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        value: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The records could not be read or written.
    #[error("{source}")]
    Store {
        /// The reason.
        #[from]
        source: StoreError,
    },
    /// A record cannot be understood.
    #[error("the record of {what} cannot be read: {source}")]
    Record {
        /// Which record.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no such network.
    #[error("network {0} not found")]
    NotFound(String),
    /// A name or the beginning of an id fits several networks.
    #[error("network {0} is ambiguous ({1} matches found on name)")]
    Ambiguous(String, usize),
    /// The name is held by another network.
    #[error("network with name {0} already exists")]
    NameTaken(String),
    /// A network must have a name.
    #[error("invalid name: name is empty")]
    EmptyName,
    /// Two networks cannot share a bridge.
    #[error(
        "cannot create network {id} ({bridge}): conflicts with network {other} ({bridge}): \
         networks have same bridge name"
    )]
    BridgeTaken {
        /// The network that was to be made.
        id: HexId,
        /// The bridge.
        bridge: String,
        /// The network that has it.
        other: HexId,
    },
    /// The container is on the network already.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// The container's name.
        container: String,
        /// The network's name.
        network: String,
    },
    /// An option of a driver has a value that it cannot have; the words name both.
    #[error("{0}")]
    Option(String),
    /// A kernel setting of an endpoint is not written as it must be.
    #[error("unrecognised network interface sysctl {0:?}; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V'")]
    InvalidSetting(String),
    /// There is no such driver.
    #[error("plugin {0:?} not found")]
    UnknownDriver(String),
    /// Networks of this driver cannot be made: there is one, and it is there.
    #[error("only one instance of {0:?} network is allowed")]
    OneInstance(&'static str),
    /// The network to take a configuration from is not there.
    #[error("configuration network {0:?} does not exist")]
    NoConfigNetwork(String),
    /// What comes from another network's configuration cannot be said again.
    #[error("user-specified configurations are not supported if the network depends on a configuration network")]
    ConfigTwice,
    /// No container can be on a network that is only a configuration.
    #[error("cannot create endpoint on configuration-only network")]
    ConfigOnly,
    /// Others were made from it.
    #[error("configuration network {0:?} is in use")]
    ConfigInUse(String),
    /// A network must have addresses of one family at least.
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    /// A bridge has one subnet of each family.
    #[error("bridge driver does not support multiple subnets")]
    SeveralSubnets,
    /// Isolation from the host is for networks without a way out.
    #[error("gateway mode 'isolated' can only be used for an internal bridge network")]
    IsolatedNotInternal,
    /// IPv6 is switched off in the kernel, or not a part of it.
    #[error(
        "network {0} has IPv6 addresses, but IPv6 is off in this host's kernel: start it without ipv6.disable=1, or make the network without --ipv6"
    )]
    Ipv6Off(String),
    /// The parent device is not there, and its name is not that of a VLAN that could be made.
    #[error("the parent interface {0} does not exist on this host: name one that does, or eth0.10 for VLAN 10 of eth0")]
    NoParent(String),
    /// Another network has the parent device.
    #[error("network {network} is already using parent interface {parent}")]
    ParentTaken {
        /// The network that has it.
        network: String,
        /// The device.
        parent: String,
    },
    /// The kernel cannot make such a device.
    #[error(
        "{step} for network {network}: operation not supported: the kernel of this host has no {module}, or may not load it (modprobe {module})"
    )]
    Unsupported {
        /// The step.
        step: &'static str,
        /// The network's name.
        network: String,
        /// The kernel's module.
        module: &'static str,
    },
    /// The three networks that are always there cannot be made or changed.
    #[error("operation is not permitted on predefined {0} network ")]
    Predefined(String),
    /// The three networks that are always there cannot be removed.
    #[error("{0} is a pre-defined network and cannot be removed")]
    PredefinedRemoval(String),
    /// The network has endpoints.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    InUse {
        /// The network's name.
        network: String,
        /// Their containers and ids.
        endpoints: String,
    },
    /// The network has no endpoints to give: `host` and `none`.
    #[error("network {0} has no endpoints of its own")]
    NoEndpoints(String),
    /// Bridge networking is turned off.
    #[error("bridge networking is turned off (--bridge none): use --network none or --network host")]
    BridgeOff,
    /// The bridge that was named in the configuration is not there.
    #[error("the bridge {0} does not exist: make it and give it an IPv4 address, or leave --bridge out")]
    NoSuchBridge(String),
    /// The bridge that was named in the configuration has no address to be a gateway.
    #[error("the bridge {0} has no IPv4 address: give it one, it is the containers' gateway")]
    NoBridgeAddress(String),
    /// An option of the default bridge lies outside its subnet.
    #[error("{what} {value} is not in the default bridge's subnet {net}: choose one that is, or another --bip")]
    OutsideDefaultBridge {
        /// The option.
        what: &'static str,
        /// Its value.
        value: String,
        /// The subnet.
        net: IpNet,
    },
    /// A device of the bridge's name is something else.
    #[error("the device {name} is a {kind}, not a bridge: remove it or choose another name for the bridge")]
    NotABridge {
        /// The device.
        name: String,
        /// What it is.
        kind: String,
    },
    /// The bridge is there with another address, and in use.
    #[error("the bridge {name} has the address {found} and containers on it, not {wanted}: stop them first")]
    BridgeAddress {
        /// The bridge.
        name: String,
        /// The address it has.
        found: IpNet,
        /// The address it should have.
        wanted: IpNet,
    },
    /// Another container has a port of the host.
    #[error("Bind for {} failed: port is already allocated", SocketAddr::new(*address, *port))]
    PortAllocated {
        /// The host's address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// A port of the host cannot be had: another program has it, or the host has no such address.
    #[error("failed to bind host port {place}: {}{}", bind_reason(source), owner.as_ref().map(|owner| format!(" ({owner})")).unwrap_or_default())]
    PortInUse {
        /// The port.
        place: Place,
        /// Who has it, where that can be seen.
        owner: Option<Owner>,
        /// The cause.
        source: io::Error,
    },
    /// Every port that may be given is taken.
    #[error("all {0} ports that may be given are taken: name a port, or widen net.ipv4.ip_local_port_range")]
    NoFreePort(Transport),
    /// No rule leads from this address of the host to the container, and no process may carry it.
    #[error(
        "ports of {0} cannot be published: no firewall rule leads from there to the container, and --userland-proxy is off"
    )]
    NotCarried(IpAddr),
    /// The process that holds ports cannot be asked.
    #[error("the process that holds published ports cannot be asked: {source}")]
    PortHolder {
        /// The cause.
        source: io::Error,
    },
    /// Every pool overlaps with something.
    #[error(
        "all predefined address pools have been fully subnetted or overlap with routes of this host: \
         choose a subnet (--bip, --subnet)"
    )]
    NoFreePool,
    /// A subnet overlaps with another network.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap,
    /// The subnet, gateway or range of a network does not fit together.
    #[error("invalid network config:\n{0}")]
    InvalidSubnet(String),
    /// Every address of the network is held.
    #[error("no available {family} addresses on this network's address pools: {name} ({id})")]
    NoFreeAddress {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network's name.
        name: String,
        /// Its id.
        id: HexId,
    },
    /// Somebody holds the address.
    #[error("Address already in use")]
    AddressTaken,
    /// The address is in none of the network's subnets.
    #[error("invalid endpoint settings:\nno configured subnet contains IP address {0}")]
    AddressOutside(IpAddr),
    /// A fixed address was asked for where addresses are the engine's to give.
    #[error("invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only")]
    FixedAddress,
    /// A name for an interface is not one.
    #[error("invalid interface name {0:?}: 1 to 15 bytes, no slash, no white space")]
    InvalidInterface(String),
    /// The thread that changes the network has ended.
    #[error("the network is shut down")]
    Closed,
}

/// The cause that an error carries, which its own words leave out.
fn cause(error: &NetlinkError) -> String {
    let words = std::error::Error::source(error).map_or_else(|| "gave up".to_owned(), ToString::to_string);
    match way_out(error) {
        Some(way_out) => format!("{words}: {way_out}"),
        None => words,
    }
}

/// What whoever runs the daemon can do about a refusal of the kernel, where that is known.
fn way_out(error: &NetlinkError) -> Option<&'static str> {
    use rustix::io::Errno;
    let (NetlinkError::Refused { step, source, .. } | NetlinkError::Exchange { step, source }) = error else {
        let NetlinkError::Open { source, .. } = error else { return None };
        return (source.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error())).then_some(NO_NF_TABLES);
    };
    match Errno::from_io_error(source)? {
        Errno::PERM | Errno::ACCESS => Some("the daemon needs the capability CAP_NET_ADMIN"),
        // What a kernel says that does not know a family, a kind of chain, or an expression.
        Errno::NOENT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT
            if step.contains("firewall") || *step == "nf_tables" =>
        {
            Some(NO_NF_TABLES)
        }
        _ => None,
    }
}

const NO_NF_TABLES: &str = "the kernel of this host lacks a part of nf_tables (nf_tables, nft_ct, nft_fib_inet, nft_nat, nft_masq), \
    or may not load it (modprobe); without rules networks work by --iptables=false";

/// The reason in the words that clients know, which are those of the C library in lower case.
fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

impl NetError {
    /// The coarse kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            NetError::NotFound(_) | NetError::UnknownDriver(_) | NetError::NoConfigNetwork(_) => ErrorKind::NotFound,
            NetError::NameTaken(_) => ErrorKind::Conflict,
            NetError::Predefined(_)
            | NetError::PredefinedRemoval(_)
            | NetError::InUse { .. }
            | NetError::BridgeTaken { .. }
            | NetError::AlreadyConnected { .. }
            | NetError::OneInstance(_)
            | NetError::ConfigOnly
            | NetError::ConfigTwice
            | NetError::ConfigInUse(_)
            | NetError::SeveralSubnets
            | NetError::ParentTaken { .. }
            | NetError::Overlap
            | NetError::AddressTaken => ErrorKind::Forbidden,
            NetError::Ambiguous(..)
            | NetError::EmptyName
            | NetError::Option(_)
            | NetError::InvalidSetting(_)
            | NetError::NoFamily
            | NetError::IsolatedNotInternal
            | NetError::NoParent(_)
            | NetError::NoEndpoints(_)
            | NetError::BridgeOff
            | NetError::InvalidSubnet(_)
            | NetError::OutsideDefaultBridge { .. }
            | NetError::AddressOutside(_)
            | NetError::FixedAddress
            | NetError::InvalidInterface(_) => ErrorKind::Invalid,
            NetError::Store { source } => source.kind(),
            NetError::Closed => ErrorKind::Unavailable,
            NetError::Kernel { .. }
            | NetError::Netlink { .. }
            | NetError::Namespace { .. }
            | NetError::Setting { .. }
            | NetError::Record { .. }
            | NetError::NoSuchBridge(_)
            | NetError::NoBridgeAddress(_)
            | NetError::NotABridge { .. }
            | NetError::BridgeAddress { .. }
            | NetError::Ipv6Off(_)
            | NetError::Unsupported { .. }
            | NetError::PortAllocated { .. }
            | NetError::PortInUse { .. }
            | NetError::NoFreePort(_)
            | NetError::NotCarried(_)
            | NetError::PortHolder { .. }
            | NetError::NoFreePool
            | NetError::NoFreeAddress { .. } => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn refusals_of_the_kernel_say_what_to_do() {
        let refused = |step, errno: Errno| {
            let source = NetlinkError::Refused { step, detail: None, source: errno.into() };
            NetError::Netlink { source }.to_string()
        };
        for (step, errno, words) in [
            (
                "making the bridge",
                Errno::PERM,
                "making the bridge: Operation not permitted (os error 1): the daemon needs the capability CAP_NET_ADMIN",
            ),
            (
                "adding a firewall rule",
                Errno::NOENT,
                "adding a firewall rule: No such file or directory (os error 2): the kernel of this host lacks a part of nf_tables",
            ),
            ("making the firewall table", Errno::OPNOTSUPP, "lacks a part of nf_tables"),
        ] {
            let text = refused(step, errno);
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(refused("adding an address", Errno::EXIST), "adding an address: File exists (os error 17)");
    }
}
