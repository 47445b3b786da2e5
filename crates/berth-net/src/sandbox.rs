//! A network namespace made ready for a container, and the plug that joins it to a bridge.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_sys::netns::Traveller;
use ipnet::Ipv4Net;

use crate::error::NetError;
use crate::mac::MacAddress;
use crate::netlink::route::{self, Veth};
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

/// How a namespace is joined to a bridge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plug<'a> {
    /// The bridge's number.
    pub bridge: u32,
    /// The longest packet, in bytes.
    pub mtu: u32,
    /// The name of the end on the host.
    pub device: &'a str,
    /// The name of the end inside.
    pub interface: &'a str,
    /// The address inside, with the length of the subnet's prefix.
    pub address: Ipv4Net,
    /// The hardware address inside.
    pub mac: MacAddress,
    /// Where everything without a better route goes.
    pub gateway: Option<Ipv4Addr>,
    /// Whether the port may only talk to the bridge itself.
    pub isolated: bool,
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

    /// Joins the namespace to a bridge: a veth pair, and inside everything in one message.
    ///
    /// When a step fails after the pair was made, the pair is left to the caller, who knows whether the namespace goes.
    pub fn plug(&mut self, host: &mut Socket, plug: &Plug<'_>) -> Result<(), NetlinkError> {
        let mut outside = Batch::new();
        route::add_veth(
            &mut outside,
            &Veth {
                name: plug.device,
                bridge: plug.bridge,
                peer: plug.interface,
                namespace: self.netns.as_fd(),
                mtu: plug.mtu,
            },
        );
        host.run(outside)?;
        if plug.isolated {
            isolate(host, plug.device)?;
        }
        let inside = find(&mut self.route, plug.interface)?;
        let mut batch = Batch::new();
        route::set_up(&mut batch, "switching the loopback device on", LOOPBACK);
        route::set_mac(&mut batch, inside, plug.mac);
        route::add_address(&mut batch, inside, plug.address);
        route::set_up(&mut batch, "switching the interface on", inside);
        if let Some(gateway) = plug.gateway {
            route::add_default_route(&mut batch, inside, gateway);
        }
        self.route.run(batch)
    }

    /// The first of `eth0`, `eth1`, ... that no interface has.
    pub fn free_interface(&mut self) -> Result<String, NetlinkError> {
        let mut number = 0;
        loop {
            let name = format!("eth{number}");
            if route::link_by_name(&mut self.route, &name)?.is_none() {
                return Ok(name);
            }
            number += 1;
        }
    }
}

/// Whether loopback devices have an IPv6 address here: IPv6 can be left out of a kernel or switched off at boot.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf/lo").exists()
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
