//! The bridge of a network: found or made, with the gateway's address on it.

use ipnet::IpNet;

use crate::error::NetError;
use crate::mac::MacAddress;
use crate::netlink::route::{self, Link};
use crate::netlink::{Batch, NetlinkError, Socket};
use crate::sandbox::write_setting;

/// What a bridge should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The network's name, for errors.
    pub network: String,
    /// The device.
    pub name: String,
    /// The gateway's addresses with the lengths of their subnets' prefixes: those the bridge is to have.
    pub gateways: Vec<IpNet>,
    /// The gateway's hardware address.
    pub mac: MacAddress,
    /// The longest packet, in bytes.
    pub mtu: u32,
    /// Whether it is somebody else's: then it is only used, never made or changed.
    pub foreign: bool,
}

impl Wanted {
    /// Finds the bridge or makes it, and gives its number.
    ///
    /// # Errors
    /// A device of that name that is no bridge; a bridge with another address that has ports.
    pub fn ensure(&self, socket: &mut Socket) -> Result<u32, NetError> {
        match route::link_by_name(socket, &self.name).map_err(|source| self.refused(source))? {
            Some(link) => self.adopt(socket, &link),
            None if self.foreign => Err(NetError::NoSuchBridge(self.name.clone())),
            None => self.make(socket),
        }
    }

    fn make(&self, socket: &mut Socket) -> Result<u32, NetError> {
        let mut batch = Batch::new();
        route::add_bridge(&mut batch, &self.name, self.mac, self.mtu);
        match socket.run(batch) {
            // Somebody made it meanwhile: as good as our own, once it has the address.
            Err(error) if error.errno() == Some(rustix::io::Errno::EXIST) => {}
            outcome => outcome.map_err(|source| self.refused(source))?,
        }
        let link = route::link_by_name(socket, &self.name).map_err(|source| self.refused(source))?;
        let link = link.ok_or_else(|| NetError::NoSuchBridge(self.name.clone()))?;
        self.adopt(socket, &link).inspect_err(|_| {
            let mut batch = Batch::new();
            route::delete_link(&mut batch, link.index);
            // The error that led here is the one to tell; an empty bridge harms nobody and is adopted next time.
            let _ = socket.run(batch);
        })
    }

    /// Uses a bridge that is there; a managed one is given the address and switched on if need be.
    fn adopt(&self, socket: &mut Socket, link: &Link) -> Result<u32, NetError> {
        if link.kind.as_deref() != Some("bridge") {
            let kind = link.kind.clone().unwrap_or_else(|| "plain network device".to_owned());
            return Err(NetError::NotABridge { name: self.name.clone(), kind });
        }
        if !self.foreign {
            ignore_announcements(&self.name)?;
        }
        let found = addresses_on(socket, link.index)?;
        let mut batch = Batch::new();
        if self.gateways.iter().any(|gateway| gateway.addr().is_ipv6()) && !self.foreign {
            allow_ipv6(&self.name, &self.network)?;
        }
        for gateway in self.gateways.iter().filter(|gateway| !found.contains(gateway)) {
            if self.foreign {
                return Err(NetError::NoBridgeAddress(self.name.clone()));
            }
            if gateway.addr().is_ipv4() {
                self.clear_addresses(socket, link, &found, *gateway, &mut batch)?;
            }
            route::add_address(&mut batch, link.index, *gateway);
        }
        if !link.up {
            route::set_up(&mut batch, "switching the bridge on", link.index);
        }
        socket.run(batch).map_err(|source| self.refused(source))?;
        Ok(link.index)
    }

    /// Takes IPv4 addresses away that are not the gateway's, unless somebody uses them.
    fn clear_addresses(
        &self,
        socket: &mut Socket,
        link: &Link,
        found: &[IpNet],
        wanted: IpNet,
        batch: &mut Batch,
    ) -> Result<(), NetError> {
        let others = || found.iter().copied().filter(|address| address.addr().is_ipv4());
        if let Some(found) = others().next()
            && !route::ports_of(socket, link.index)?.is_empty()
        {
            return Err(NetError::BridgeAddress { name: self.name.clone(), found, wanted });
        }
        others().for_each(|address| route::delete_address(batch, link.index, address));
        Ok(())
    }

    fn refused(&self, source: NetlinkError) -> NetError {
        NetError::Kernel { network: self.network.clone(), source }
    }
}

/// Lets a bridge have IPv6 addresses.
fn allow_ipv6(bridge: &str, network: &str) -> Result<(), NetError> {
    if clear(bridge, "disable_ipv6")? { Ok(()) } else { Err(NetError::Ipv6Off(network.to_owned())) }
}

/// Has the host believe nothing that is announced on a bridge. A container could make itself the host's way to everywhere, on networks
/// without IPv6 too: the host has its own address on every device (CVE-2020-13401).
pub(crate) fn ignore_announcements(bridge: &str) -> Result<(), NetError> {
    // Where the kernel has no IPv6 nothing is believed.
    clear(bridge, "accept_ra").map(drop)
}

/// Puts an IPv6 setting of a device to 0; `false` where there is no such thing.
fn clear(device: &str, setting: &str) -> Result<bool, NetError> {
    let path = format!("/proc/sys/net/ipv6/conf/{device}/{setting}");
    match std::fs::read_to_string(&path) {
        // Written only when it must change: some hosts have it right but read-only.
        Ok(now) if now.trim() == "0" => Ok(true),
        Ok(_) => write_setting(&path, "0").map(|()| true),
        Err(_) => Ok(false),
    }
}

/// The addresses of a device, in the kernel's order: the first is the primary one.
pub(crate) fn addresses_on(socket: &mut Socket, index: u32) -> Result<Vec<IpNet>, NetError> {
    let all = route::addresses(socket)?;
    Ok(all.into_iter().filter(|(device, _)| *device == index).map(|(_, address)| address).collect())
}
