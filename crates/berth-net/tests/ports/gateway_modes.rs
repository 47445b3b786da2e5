//! `gateway_mode_ipv4` and `gateway_mode_ipv6`: what a neighbour who has a route to the containers reaches of them.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};

use berth_net::{
    Endpoint, EndpointRequest, FirewallMode, HostPort, NetConfig, NetworkRequest, Networks, PortRequest, SubnetRequest,
    Transport, Way,
};

use crate::host::{Host, bare, id, run_in, within};
use crate::{connect, refused, tcp};

const NEIGHBOUR: &str = "198.51.100";

/// A network of both families with these modes, and a container on it that answers on two ports in both.
fn container(networks: &Networks, v4: &str, v6: &str) -> Endpoint {
    let subnet = |text: &str| SubnetRequest { subnet: text.parse().ok(), ..SubnetRequest::default() };
    let mode =
        |family: u8, word: &str| (format!("com.docker.network.bridge.gateway_mode_ipv{family}"), word.to_owned());
    networks
        .create(&NetworkRequest {
            name: "modes".to_owned(),
            subnets: vec![subnet("10.77.0.0/24"), subnet("fd00:77::/64")],
            ipv6: true,
            options: [mode(4, v4), mode(6, v6)].into(),
            ..NetworkRequest::default()
        })
        .unwrap();
    let endpoint = networks.attach(&EndpointRequest::on("modes", id(1), "c1")).unwrap();
    answer(endpoint.netns(), 80);
    answer(endpoint.netns(), 81);
    endpoint
}

/// Answers TCP clients of both families with the address they come from.
fn answer(netns: BorrowedFd<'_>, port: u16) {
    let listener = within(netns, || TcpListener::bind(("::", port))).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, from)) = listener.accept() {
            let _ = client.write_all(from.ip().to_canonical().to_string().as_bytes());
        }
    });
}

/// A neighbour with a route to the containers; `None` where the machine has no IPv6.
fn neighbour(host: &Host) -> Option<std::os::fd::OwnedFd> {
    let outside = host.neighbour(NEIGHBOUR);
    host.inside(|| TcpListener::bind("[::1]:0")).ok()?;
    host.run("ip -6 addr add 2001:db8::1/64 dev to19851100 nodad");
    run_in(
        outside.as_fd(),
        "ip -6 addr add 2001:db8::2/64 dev wire nodad\nip route add 10.77.0.0/24 via 198.51.100.1\nip -6 route add fd00:77::/64 via 2001:db8::1",
    );
    Some(outside)
}

#[test]
fn of_a_routed_network_published_ports_are_reached_at_the_containers_own_address() {
    let Some(host) = Host::new() else { return };
    let Some(outside) = neighbour(&host) else { return };
    let networks = host.networks(bare());
    let server = container(&networks, "routed", "routed");
    refused(outside.as_fd(), "10.77.0.2:80");
    let free = PortRequest { transport: Transport::Tcp, port: 80, address: None, host: HostPort::Free };
    let ports = networks.publish(server.record(), &[tcp(80, "", 8080), free]).unwrap();
    // No port of the host is taken, so nobody else is kept from it.
    assert!(ports.ports().iter().all(|port| port.way == Way::Routed), "{:?}", ports.ports());
    let other = host.inside(|| TcpListener::bind("0.0.0.0:8080")).unwrap();
    drop(other);
    assert_eq!(connect(outside.as_fd(), "10.77.0.2:80").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(outside.as_fd(), "[fd00:77::2]:80").as_deref(), Ok("2001:db8::2"));
    // What was not published is not reached, nor is the host's port; a ping is answered.
    for closed in ["10.77.0.2:81", "[fd00:77::2]:81", "198.51.100.1:8080", "[2001:db8::1]:8080"] {
        refused(outside.as_fd(), closed);
    }
    run_in(outside.as_fd(), "busybox ping -c 1 -W 3 10.77.0.2\nbusybox ping -c 1 -W 3 fd00:77::2");
    // A container goes out by its own address.
    answer(outside.as_fd(), 80);
    assert_eq!(connect(server.netns(), "198.51.100.2:80").as_deref(), Ok("10.77.0.2"));
    drop(ports);
    refused(outside.as_fd(), "10.77.0.2:80");
    refused(outside.as_fd(), "[fd00:77::2]:80");
}

#[test]
fn what_the_host_opens_to_some_is_open_to_the_same_at_a_routed_containers_address() {
    let Some(host) = Host::new() else { return };
    let Some(outside) = neighbour(&host) else { return };
    run_in(outside.as_fd(), "ip addr add 198.51.100.7/24 dev wire");
    host.run(
        "nft add table inet fw
         nft add set inet fw friends { type ipv4_addr ; flags interval ; elements = { 198.51.100.7 } ; }
         nft add chain inet fw input { type filter hook input priority 0 ; policy drop ; }
         nft add rule inet fw input ct state established,related accept
         nft add rule inet fw input icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
         nft add rule inet fw input tcp dport 80 ip saddr @friends accept
         nft add rule inet fw input tcp dport 80 ip6 saddr 2001:db8::2 accept
         nft add rule inet fw input tcp dport 90 accept",
    );
    let networks = host.networks(NetConfig { firewall: FirewallMode::Respect, ..bare() });
    let server = container(&networks, "routed", "routed");
    answer(server.netns(), 85);
    answer(server.netns(), 90);
    let ports = networks.publish(server.record(), &[tcp(80, "", 80), tcp(85, "", 85), tcp(90, "", 90)]).unwrap();
    let become_ = |source: &str| {
        run_in(outside.as_fd(), &format!("ip route replace 10.77.0.0/24 via 198.51.100.1 src {source}"));
    };
    become_("198.51.100.7");
    assert_eq!(connect(outside.as_fd(), "10.77.0.2:80").as_deref(), Ok("198.51.100.7"));
    become_("198.51.100.2");
    refused(outside.as_fd(), "10.77.0.2:80");
    refused(outside.as_fd(), "10.77.0.2:85");
    assert_eq!(connect(outside.as_fd(), "10.77.0.2:90").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(outside.as_fd(), "[fd00:77::2]:80").as_deref(), Ok("2001:db8::2"));
    refused(outside.as_fd(), "[fd00:77::2]:85");
    let explained = |client: &str| {
        let report = networks.firewall().unwrap();
        report.explain(&[server.record().id.clone()], client.parse().ok()).join("\n")
    };
    assert!(explained("198.51.100.7").contains("10.77.0.2:80 -> 80/tcp: reached"), "{}", explained("198.51.100.7"));
    assert!(explained("198.51.100.2").contains("10.77.0.2:80 -> 80/tcp: not reached"), "{}", explained("198.51.100.2"));
    drop(ports);
    become_("198.51.100.7");
    refused(outside.as_fd(), "10.77.0.2:80");
}

#[test]
fn one_family_is_routed_and_the_other_translated() {
    let Some(host) = Host::new() else { return };
    let Some(outside) = neighbour(&host) else { return };
    let networks = host.networks(bare());
    let server = container(&networks, "nat", "routed");
    let ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    let ways: Vec<_> = ports.ports().iter().map(|port| (port.address.is_ipv4(), port.way)).collect();
    assert_eq!(ways, [(true, Way::Translated), (false, Way::Routed)]);
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(outside.as_fd(), "[fd00:77::2]:80").as_deref(), Ok("2001:db8::2"));
    refused(outside.as_fd(), "10.77.0.2:80");
    refused(outside.as_fd(), "[2001:db8::1]:8080");
    // The rules are the same when all of them are written anew.
    let kept = ports.keep();
    networks.reconcile(&[id(1)]).unwrap();
    host.run("nft flush ruleset");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while crate::ask(outside.as_fd(), "[fd00:77::2]:80", crate::IMPATIENCE).is_err()
        || crate::ask(outside.as_fd(), "198.51.100.1:8080", crate::IMPATIENCE).is_err()
    {
        assert!(std::time::Instant::now() < deadline, "the rules do not come back");
    }
    refused(outside.as_fd(), "10.77.0.2:80");
    networks.unpublish(&kept[0].endpoint).unwrap();
    refused(outside.as_fd(), "[fd00:77::2]:80");
}

#[test]
fn protection_is_given_up_for_one_family_alone() {
    let Some(host) = Host::new() else { return };
    let Some(outside) = neighbour(&host) else { return };
    let networks = host.networks(bare());
    let _server = container(&networks, "nat", "nat-unprotected");
    assert_eq!(connect(outside.as_fd(), "[fd00:77::2]:81").as_deref(), Ok("2001:db8::2"));
    refused(outside.as_fd(), "10.77.0.2:81");
}

#[test]
fn outbound_ipv6_traffic_takes_the_hosts_address() {
    let Some(host) = Host::new() else { return };
    let Some(outside) = neighbour(&host) else { return };
    let networks = host.networks(bare());
    let client = container(&networks, "nat", "nat");
    answer(outside.as_fd(), 80);
    assert_eq!(connect(client.netns(), "[2001:db8::2]:80").as_deref(), Ok("2001:db8::1"));
    assert_eq!(connect(client.netns(), "198.51.100.2:80").as_deref(), Ok("198.51.100.1"));
}

#[test]
fn an_isolated_network_has_no_gateway_and_the_host_no_part_in_it() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let mode = |family: u8| (format!("com.docker.network.bridge.gateway_mode_ipv{family}"), "isolated".to_owned());
    let request = NetworkRequest {
        name: "alone".to_owned(),
        internal: true,
        ipv6: true,
        options: [mode(4), mode(6)].into(),
        ..NetworkRequest::default()
    };
    let made = networks.create(&request).unwrap().info.network;
    let one = networks.attach(&EndpointRequest::on("alone", id(1), "c1")).unwrap();
    let two = networks.attach(&EndpointRequest::on("alone", id(2), "c2")).unwrap();
    assert_eq!((one.record().gateway_v4, one.record().gateway_v6), (None, None));
    let bridge = made.bridge_name();
    assert!(!host.run(&format!("ip -o -4 addr show {bridge}")).contains("inet"));
    crate::ping(one.netns(), two.netns(), two.record().ipv4.unwrap().addr().into()).unwrap();
    crate::ping(one.netns(), two.netns(), two.record().ipv6.unwrap().addr().into()).unwrap();
}
