//! /etc/hostname, /etc/hosts and /etc/resolv.conf of a container: made by the engine, bound over the image's (B121-B123).

use std::{net::IpAddr, path::Path, sync::Arc};

use berth_net::files::{self, DnsOptions};

use crate::{EngineError, Inner, name_service, network::Attachment, spec::NetworkMode, view::ContainerView};

/// What containers on the default bridge, where there is no name service, call the host all the same.
const HOST_NAME: &str = "host.docker.internal";

/// The host name a container sees.
pub(super) fn hostname(view: &ContainerView) -> String {
    let config = &view.spec.config;
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    if view.spec.host.network == NetworkMode::Host || super::linux::shares_uts(&view.spec.host) {
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    view.id.short().to_owned()
}

/// The host name with its domain, as it stands in `/etc/hosts`.
pub(super) fn full_name(view: &ContainerView) -> String {
    let name = hostname(view);
    match view.spec.config.domainname.as_str() {
        "" => name,
        domain => format!("{name}.{domain} {name}"),
    }
}

pub(super) fn write(engine: &Arc<Inner>, view: &ContainerView, network: &Attachment) -> Result<(), EngineError> {
    let host = &view.spec.host;
    if let NetworkMode::Container(_) = host.network {
        return Ok(()); // It shows the files of the other container.
    }
    let put = |path: &Path, text: String| std::fs::write(path, text).map_err(EngineError::io("writing", path));
    let name = hostname(view);
    put(&view.paths.hostname, files::hostname(&name))?;
    let mut networks = view.networks.clone();
    network.fill(&mut networks);
    let own_host = name_service::address_of_host(engine, &networks);
    let mut extra = extra_hosts(engine, own_host, host.extra_hosts.as_deref().unwrap_or_default())?;
    let has_names = name_service::has_names(&view.networks);
    if let Some(address) = own_host.filter(|_| !has_names && !extra.iter().any(|(name, _)| name == HOST_NAME)) {
        extra.push((HOST_NAME.to_owned(), address));
    }
    let full_name = full_name(view);
    let hosts = match host.network {
        NetworkMode::Host => files::hosts_of_host(&read_host("/etc/hosts"), &extra),
        _ => files::hosts(engine.networks.ipv6_loopback(), &extra, &network.addresses(), &full_name),
    };
    put(&view.paths.hosts, hosts)?;
    put(&view.paths.resolv_conf, resolv_conf(engine, view, has_names))
}

/// The text of /etc/resolv.conf, on networks with the name service and on those without.
pub(crate) fn resolv_conf(engine: &Inner, view: &ContainerView, has_names: bool) -> String {
    let chosen = dns_options(engine, view);
    match view.spec.host.network {
        NetworkMode::Host => files::resolv_conf_of_host(&host_resolv_conf(), &chosen),
        _ if has_names => files::resolv_conf_with_names(&host_resolv_conf(), &chosen),
        _ => files::resolv_conf(&real_resolv_conf(), &chosen),
    }
}

/// What somebody chose for a container, or for all that choose nothing.
pub(crate) fn dns_options(engine: &Inner, view: &ContainerView) -> DnsOptions {
    let (host, defaults) = (&view.spec.host, &engine.config.dns);
    let or = |own: &[String], default: &[String]| if own.is_empty() { default.to_vec() } else { own.to_vec() };
    let own: Vec<IpAddr> = host.dns.iter().filter_map(|text| text.parse().ok()).collect();
    DnsOptions {
        servers: if own.is_empty() { defaults.servers.clone() } else { own },
        search: or(&host.dns_search, &defaults.search),
        options: or(&host.dns_options, &defaults.options),
    }
}

/// `name:address` lines; `host-gateway` is the host where the operator says it is, or on the container's own network, or else on the default
/// bridge.
fn extra_hosts(
    engine: &Inner,
    own_host: Option<IpAddr>,
    lines: &[String],
) -> Result<Vec<(String, IpAddr)>, EngineError> {
    let all = |line: &String| -> Result<Vec<(String, IpAddr)>, EngineError> {
        let invalid = || EngineError::invalid(format!("bad format for add-host: {line:?}"));
        let (name, address) = line.split_once([':', '=']).ok_or_else(invalid)?;
        let addresses = match address.trim_matches(['[', ']']) {
            "host-gateway" if !engine.config.host_gateway.is_empty() => engine.config.host_gateway.clone(),
            "host-gateway" => vec![own_host.or_else(|| crate::network::gateway_of_host(engine)).ok_or_else(|| {
                EngineError::internal("unable to derive the IP value for host-gateway: there is no bridge")
            })?],
            text => vec![text.parse().map_err(|_| invalid())?],
        };
        Ok(addresses.into_iter().map(|address| (name.to_owned(), address)).collect())
    };
    Ok(lines.iter().map(all).collect::<Result<Vec<_>, _>>()?.concat())
}

fn read_host(path: &str) -> String {
    // A host without the file is a host without such settings.
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The host's /etc/resolv.conf, as it is.
pub(crate) fn host_resolv_conf() -> String {
    read_host("/etc/resolv.conf")
}

/// A host with systemd-resolved names a stub on loopback; the real servers are in resolved's own file.
fn real_resolv_conf() -> String {
    let text = host_resolv_conf();
    if !files::is_stub(&text) {
        return text;
    }
    let real = read_host("/run/systemd/resolve/resolv.conf");
    if real.is_empty() { text } else { real }
}
