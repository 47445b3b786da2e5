//! Options of the default bridge: IPv6, parts of subnets, another way out.

use std::os::fd::AsFd;

use crate::host::{Host, bare, container, ping, run_in};
use berth_net::{DefaultBridge, NetConfig, NetError};

fn managed(address: &str) -> DefaultBridge {
    DefaultBridge::Managed { name: "berth0".to_owned(), address: Some(address.parse().unwrap()) }
}

fn has_ipv6(host: &Host) -> bool {
    host.inside(|| std::net::TcpListener::bind("[::1]:0")).is_ok()
}

#[test]
fn the_default_bridge_has_ipv6_when_that_is_asked_for() {
    let Some(host) = Host::new() else { return };
    if !has_ipv6(&host) {
        return;
    }
    let outside = host.neighbour("198.51.100");
    host.run("ip -6 addr add 2001:db8::1/64 dev to19851100 nodad");
    run_in(outside.as_fd(), "ip -6 addr add 2001:db8::2/64 dev wire nodad");
    let config = NetConfig { ipv6: true, ..bare() };
    let networks = host.networks(config.clone());
    let info = networks.network("bridge").unwrap().network;
    assert!(info.ipv6);
    let local = info.subnet(true).unwrap().clone();
    assert!(local.net.to_string().starts_with("fd") && local.net.prefix_len() == 64, "{local:?}");
    let one = networks.attach(&container(1)).unwrap();
    let two = networks.attach(&container(2)).unwrap();
    assert!(local.net.contains(&ipnet::IpNet::from(one.record().ipv6.unwrap())));
    ping(one.netns(), two.netns(), two.record().ipv6.unwrap().addr().into()).unwrap();
    ping(one.netns(), host.netns.as_fd(), local.gateway.unwrap()).unwrap();
    ping(one.netns(), outside.as_fd(), "2001:db8::2".parse().unwrap()).unwrap();
    drop((one, two, networks));
    // The choice is kept; switched off, it is gone.
    assert_eq!(host.networks(config).network("bridge").unwrap().network.subnet(true), Some(&local));
    let without = host.networks(bare());
    assert_eq!(without.network("bridge").unwrap().network.subnet(true), None);
    assert_eq!(without.attach(&container(3)).unwrap().record().ipv6, None);
}

#[test]
fn subnets_and_ranges_of_the_default_bridge_can_be_chosen() {
    let Some(host) = Host::new() else { return };
    let shown = |config: NetConfig| -> Vec<String> {
        let network = host.networks(config).network("bridge").unwrap().network;
        let text = |subnet: &berth_net::Subnet| {
            let range = subnet.range.map(|range| format!(" {range}")).unwrap_or_default();
            format!("{} {}{range}", subnet.net, subnet.gateway.unwrap())
        };
        network.subnets.iter().map(text).collect()
    };
    let six = |text: &str| text.parse().ok();
    let both = NetConfig {
        bridge: managed("10.9.0.1/16"),
        fixed_range: "10.9.8.0/24".parse().ok(),
        ipv6: true,
        bridge_address_v6: six("fd00:9::5/48"),
        fixed_range_v6: six("fd00:9:0:8::/64"),
        ..bare()
    };
    assert_eq!(shown(both), ["10.9.0.0/16 10.9.0.1 10.9.8.0/24", "fd00:9::/48 fd00:9::5 fd00:9:0:8::/64"]);
    // A range alone is the subnet.
    let alone =
        NetConfig { fixed_range: "10.7.8.0/24".parse().ok(), ipv6: true, fixed_range_v6: six("fd00:7::/64"), ..bare() };
    assert_eq!(shown(alone), ["10.7.8.0/24 10.7.8.1 10.7.8.0/24", "fd00:7::/64 fd00:7::1 fd00:7::/64"]);
    // A range outside is refused, with the option that says so.
    let outside = NetConfig { bridge: managed("10.9.0.1/16"), fixed_range: "10.8.0.0/24".parse().ok(), ..bare() };
    let error = host.inside(|| berth_net::Networks::open(outside, &host.store)).unwrap_err();
    assert!(matches!(error, NetError::OutsideDefaultBridge { what: "--fixed-cidr", .. }), "{error}");
    let outside = NetConfig { bridge: managed("10.9.0.1/16"), default_gateway: "10.8.0.1".parse().ok(), ..bare() };
    let error = host.inside(|| berth_net::Networks::open(outside, &host.store)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--default-gateway 10.8.0.1 is not in the default bridge's subnet 10.9.0.0/16: choose one that is, or another --bip"
    );
}

#[test]
fn containers_get_addresses_of_the_range_and_go_out_by_the_gateway_that_was_named() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig {
        bridge: managed("10.9.0.1/16"),
        fixed_range: "10.9.8.0/24".parse().ok(),
        default_gateway: "10.9.0.254".parse().ok(),
        ..bare()
    });
    let one = networks.attach(&container(1)).unwrap();
    assert_eq!(one.record().ipv4.unwrap().to_string(), "10.9.8.0/16");
    assert_eq!(run_in(one.netns(), "ip route show default").trim(), "default via 10.9.0.254 dev eth0");
    // The bridge has its own address all the same.
    ping(one.netns(), host.netns.as_fd(), "10.9.0.1".parse().unwrap()).unwrap();
    let shown = networks.network("bridge").unwrap().network.subnets[0].auxiliary.clone();
    assert_eq!(shown.get("DefaultGatewayIPv4"), Some(&std::net::IpAddr::from([10, 9, 0, 254])));
}
