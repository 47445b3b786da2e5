//! /etc/hostname, /etc/hosts and /etc/resolv.conf of a container: made by the engine, bound over the image's (B121-B123).

use std::{net::IpAddr, path::Path, sync::Arc};

use berth_net::files::{self, DnsOptions};

use crate::{EngineError, Inner, network::Attachment, spec::NetworkMode, view::ContainerView};

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

pub(super) fn write(engine: &Arc<Inner>, view: &ContainerView, network: &Attachment) -> Result<(), EngineError> {
    let host = &view.spec.host;
    if let NetworkMode::Container(_) = host.network {
        return Ok(()); // It shows the files of the other container.
    }
    let put = |path: &Path, text: String| std::fs::write(path, text).map_err(EngineError::io("writing", path));
    let name = hostname(view);
    put(&view.paths.hostname, files::hostname(&name))?;
    let extra = extra_hosts(engine, host.extra_hosts.as_deref().unwrap_or_default())?;
    let full_name = match view.spec.config.domainname.as_str() {
        "" => name,
        domain => format!("{name}.{domain} {name}"),
    };
    let hosts = match host.network {
        NetworkMode::Host => files::hosts_of_host(&read_host("/etc/hosts"), &extra),
        _ => files::hosts(engine.networks.ipv6_loopback(), &extra, &network.addresses(), &full_name),
    };
    put(&view.paths.hosts, hosts)?;
    let chosen = dns_options(engine, view);
    let resolv = read_resolv_conf();
    let text = match host.network {
        NetworkMode::Host => files::resolv_conf_of_host(&resolv, &chosen),
        _ => files::resolv_conf(&resolv, &chosen),
    };
    put(&view.paths.resolv_conf, text)
}

fn dns_options(engine: &Inner, view: &ContainerView) -> DnsOptions {
    let (host, defaults) = (&view.spec.host, &engine.config.dns);
    let or = |own: &[String], default: &[String]| if own.is_empty() { default.to_vec() } else { own.to_vec() };
    let own: Vec<IpAddr> = host.dns.iter().filter_map(|text| text.parse().ok()).collect();
    DnsOptions {
        servers: if own.is_empty() { defaults.servers.clone() } else { own },
        search: or(&host.dns_search, &defaults.search),
        options: or(&host.dns_options, &defaults.options),
    }
}

/// `name:address` lines; `host-gateway` is the host's side of the bridge.
fn extra_hosts(engine: &Inner, lines: &[String]) -> Result<Vec<(String, IpAddr)>, EngineError> {
    let one = |line: &String| {
        let invalid = || EngineError::invalid(format!("bad format for add-host: {line:?}"));
        let (name, address) = line.split_once([':', '=']).ok_or_else(invalid)?;
        let address = match address.trim_matches(['[', ']']) {
            "host-gateway" => crate::network::gateway_of_host(engine).ok_or_else(|| {
                EngineError::internal("unable to derive the IP value for host-gateway: there is no bridge")
            })?,
            text => text.parse().map_err(|_| invalid())?,
        };
        Ok((name.to_owned(), address))
    };
    lines.iter().map(one).collect()
}

fn read_host(path: &str) -> String {
    // A host without the file is a host without such settings.
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A host with systemd-resolved names a stub on loopback; the real servers are in resolved's own file.
fn read_resolv_conf() -> String {
    let text = read_host("/etc/resolv.conf");
    if !files::is_stub(&text) {
        return text;
    }
    let real = read_host("/run/systemd/resolve/resolv.conf");
    if real.is_empty() { text } else { real }
}
