//! A network namespace made ready for a container, and the plug that joins it to a bridge.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_sys::netns::Traveller;
use ipnet::IpNet;

use crate::error::NetError;
use crate::mac::MacAddress;
use crate::netlink::route::{self, Hop, Veth};
use crate::netlink::sublink::{self, Sublink};
use crate::netlink::{Batch, NetlinkError, Socket};

/// The loopback device is the first of every namespace.
const LOOPBACK: u32 = 1;

/// What is set in a new namespace, as B135 says. Without IPv6 addresses of its own a container has IPv6 on loopback only.
const SETTINGS: [(&str, &str); 4] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0"),
];

/// A namespace and a socket inside it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub netns: OwnedFd,
    pub route: Socket,
}

/// What an interface in a namespace is joined to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cable<'a> {
    /// To a bridge, by a veth pair.
    Bridge {
        /// The bridge's number.
        bridge: u32,
        /// The name of the end on the host.
        device: &'a str,
        /// Whether the port may only talk to the bridge itself.
        isolated: bool,
    },
    /// To a device of the host, by a device on top of it.
    Parent {
        /// The device's number.
        parent: u32,
        /// What is made.
        kind: sublink::Kind,
    },
}

/// How a namespace is joined to a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plug<'a> {
    /// The way to the others.
    pub cable: Cable<'a>,
    /// The longest packet, in bytes; what the other side can do if absent.
    pub mtu: Option<u32>,
    /// The name of the end inside.
    pub interface: &'a str,
    /// The addresses inside, with the lengths of their subnets' prefixes.
    pub addresses: &'a [IpNet],
    /// Addresses beside these, on this link only.
    pub link_local: &'a [IpAddr],
    /// The hardware address inside, where it can be chosen.
    pub mac: Option<MacAddress>,
    /// Where everything without a better route goes.
    pub routes: &'a [Hop],
    /// Kernel settings of the interface: paths below `/proc/sys/net` with `IFNAME` for its name.
    pub settings: &'a [(String, String)],
}

impl Sandbox {
    /// Makes a namespace with the settings of a container in it; its loopback device is down.
    pub fn make(traveller: &Traveller) -> Result<Sandbox, NetError> {
        let made = traveller.create(|_| {
            write_settings()?;
            Ok(Socket::route()?)
        });
        let (netns, route) =
            made.map_err(|source| NetError::Namespace { step: "making a network namespace", source })?;
        route.map(|route| Sandbox { netns, route })
    }

    /// Opens a socket in a namespace that is there.
    pub fn open(traveller: &Traveller, netns: OwnedFd) -> Result<Sandbox, NetError> {
        let visited = traveller.visit(netns.as_fd(), Socket::route);
        let route =
            visited.map_err(|source| NetError::Namespace { step: "entering the container's network", source })??;
        Ok(Sandbox { netns, route })
    }

    /// Switches the loopback device on: all there is in a container without a network.
    pub fn raise_loopback(&mut self) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        route::set_up(&mut batch, "switching the loopback device on", LOOPBACK);
        self.route.run(batch)
    }

    /// Joins the namespace to a network: a device, and inside everything in one message.
    ///
    /// When a step fails after the device was made, it is left to the caller, who knows whether the namespace goes.
    pub fn plug(&mut self, traveller: &Traveller, host: &mut Socket, plug: &Plug<'_>) -> Result<(), NetError> {
        self.lay(host, plug)?;
        let inside = find(&mut self.route, plug.interface)?;
        self.write_settings_of(traveller, plug)?;
        let mut batch = Batch::new();
        route::set_up(&mut batch, "switching the loopback device on", LOOPBACK);
        if let (Cable::Bridge { .. }, Some(mac)) = (plug.cable, plug.mac) {
            route::set_mac(&mut batch, inside, mac);
        }
        plug.addresses.iter().for_each(|address| route::add_address(&mut batch, inside, *address));
        for address in plug.link_local {
            route::add_address(&mut batch, inside, with_link_prefix(*address));
        }
        route::set_up(&mut batch, "switching the interface on", inside);
        plug.routes.iter().for_each(|hop| route::add_default_route(&mut batch, inside, *hop));
        Ok(self.route.run(batch)?)
    }

    /// Makes the device.
    fn lay(&self, host: &mut Socket, plug: &Plug<'_>) -> Result<(), NetError> {
        let mut outside = Batch::new();
        let namespace = self.netns.as_fd();
        match plug.cable {
            Cable::Bridge { bridge, device, isolated } => {
                let mtu = plug.mtu.unwrap_or(crate::config::DEFAULT_MTU);
                let veth = Veth { name: device, bridge, peer: plug.interface, namespace, mtu };
                route::add_veth(&mut outside, &veth);
                host.run(outside)?;
                if isolated {
                    isolate(host, device)?;
                }
            }
            Cable::Parent { parent, kind } => {
                let Plug { interface: name, mtu, mac, .. } = *plug;
                let mac = mac.filter(|_| matches!(kind, sublink::Kind::Macvlan(_)));
                sublink::add_sublink(&mut outside, &Sublink { name, parent, namespace, kind, mtu, mac });
                host.run(outside)?;
            }
        }
        Ok(())
    }

    /// Lets the interface have IPv6 addresses if it is to have one, and writes what was asked for.
    fn write_settings_of(&self, traveller: &Traveller, plug: &Plug<'_>) -> Result<(), NetError> {
        let ipv6 = plug.addresses.iter().map(IpNet::addr).chain(plug.link_local.iter().copied()).any(|ip| ip.is_ipv6());
        if !ipv6 && plug.settings.is_empty() {
            return Ok(());
        }
        let own = [("ipv6/conf/IFNAME/disable_ipv6", "0"), ("ipv6/conf/IFNAME/accept_ra", "0")];
        let own = own.iter().filter(|_| ipv6).copied();
        let all = own.chain(plug.settings.iter().map(|(path, value)| (path.as_str(), value.as_str())));
        let write = || {
            for (path, value) in all {
                write_setting(&format!("/proc/sys/net/{}", path.replace("IFNAME", plug.interface)), value)?;
            }
            Ok(())
        };
        let visited = traveller.visit(self.netns.as_fd(), write);
        visited.map_err(|source| NetError::Namespace { step: "entering the container's network", source })?
    }

    /// The first of `eth0`, `eth1`, ... that no interface has.
    pub fn free_interface(&mut self, prefix: &str) -> Result<String, NetlinkError> {
        let mut number = 0;
        loop {
            let name = format!("{prefix}{number}");
            if route::link_by_name(&mut self.route, &name)?.is_none() {
                return Ok(name);
            }
            number += 1;
        }
    }

    /// Deletes an interface; one that is not there is no error.
    pub fn unplug(&mut self, interface: &str) -> Result<(), NetlinkError> {
        let Some(link) = route::link_by_name(&mut self.route, interface)? else { return Ok(()) };
        let mut batch = Batch::new();
        route::delete_link(&mut batch, link.index);
        self.route.run(batch)
    }

    /// Has everything without a better route go another way from now on.
    pub fn reroute(&mut self, from: &[(String, Hop)], to: &[(String, Hop)]) -> Result<(), NetlinkError> {
        let mut old = Batch::new();
        for (interface, hop) in from {
            if let Some(link) = route::link_by_name(&mut self.route, interface)? {
                route::delete_default_route(&mut old, link.index, *hop);
            }
        }
        // Whoever lives in there may have taken it away already.
        let _ = self.route.run(old);
        self.add_routes(to).inspect_err(|_| {
            // As it was, as far as that goes: the refusal is what matters.
            let _ = self.add_routes(from);
        })
    }

    fn add_routes(&mut self, routes: &[(String, Hop)]) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        for (interface, hop) in routes {
            let index = find(&mut self.route, interface)?;
            // A way out that no record tells of is one that an engine had set when it was killed.
            route::replace_default_route(&mut batch, index, *hop);
        }
        self.route.run(batch)
    }
}

/// A link-local address with the length of what it is local to.
fn with_link_prefix(address: IpAddr) -> IpNet {
    let length = match address {
        IpAddr::V4(address) if address.is_link_local() => 16,
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 64,
    };
    IpNet::new(address, length).expect("the length fits the family")
}

/// Whether loopback devices have an IPv6 address here: IPv6 can be left out of a kernel or switched off at boot.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf/lo").exists()
}

/// Whether the host of the calling thread's namespace has IPv6, and it is not switched off.
pub(crate) fn ipv6_is_on() -> bool {
    let off = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    off.is_ok_and(|text| text.trim() == "0")
}

/// Writes a setting of the network namespace that the calling thread is in.
pub(crate) fn write_setting(path: &str, value: &str) -> Result<(), NetError> {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| NetError::Setting { path: path.into(), value: value.to_owned(), source })
}

fn write_settings() -> Result<(), NetError> {
    for (path, value) in SETTINGS {
        match write_setting(path, value) {
            // A kernel without IPv6 has nothing to switch off.
            Err(NetError::Setting { source, .. })
                if source.kind() == io::ErrorKind::NotFound && path.contains("/ipv6/") => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn isolate(host: &mut Socket, device: &str) -> Result<(), NetlinkError> {
    let port = find(host, device)?;
    let mut batch = Batch::new();
    route::set_isolated(&mut batch, port);
    host.run(batch)
}

fn find(socket: &mut Socket, name: &str) -> Result<u32, NetlinkError> {
    let missing = || NetlinkError::Refused {
        step: "looking for a new interface",
        detail: None,
        source: rustix::io::Errno::NODEV.into(),
    };
    route::link_by_name(socket, name)?.map(|link| link.index).ok_or_else(missing)
}
