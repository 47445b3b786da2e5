//! The default bridge from a container's point of view. Each test has a host of its own: a network namespace.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::host::{Host, ask, bare, container, id, not_tested, ping, run_in, serve, within};
use berth_net::{DefaultBridge, Driver, EndpointRequest, NetConfig, NetError, NetworkRequest};

const PATIENCE: Duration = Duration::from_secs(3);
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Nothing but a packet that is lost takes so long.
const LOST: Duration = Duration::from_millis(900);

#[test]
fn containers_reach_each_other_and_the_gateway() {
    for config in [bare(), NetConfig::default()] {
        // A packet that was lost would be repeated after a second. On a busy machine one may be, but not each time.
        let mut times = Vec::new();
        while times.len() < 5 && times.last().is_none_or(|time| *time >= LOST) {
            let Some(time) = reach_each_other(&config) else { return };
            times.push(time);
        }
        assert!(times.last().is_some_and(|time| *time < LOST), "{times:?}");
    }
}

/// How long the first packets took; `None` where namespaces may not be made.
fn reach_each_other(config: &NetConfig) -> Option<Duration> {
    let host = Host::new()?;
    let networks = host.networks(config.clone());
    let one = networks.attach(&container(1)).unwrap();
    let two = networks.attach(&container(2)).unwrap();
    assert_eq!(one.record().ipv4.unwrap(), "172.17.0.2/16".parse().unwrap());
    // The next address may be that of a sandbox which is being made ready meanwhile.
    assert!(config.prepared > 0 || two.record().ipv4.unwrap() == "172.17.0.3/16".parse().unwrap());
    assert_eq!(one.record().gateway_v4, Some("172.17.0.1".parse().unwrap()));
    assert_eq!(one.record().interface, "eth0");
    let start = Instant::now();
    ping(one.netns(), two.netns(), two.record().ipv4.unwrap().addr().into()).unwrap();
    ping(two.netns(), host.netns.as_fd(), "172.17.0.1".parse().unwrap()).unwrap();
    ping(host.netns.as_fd(), one.netns(), one.record().ipv4.unwrap().addr().into()).unwrap();
    Some(start.elapsed())
}

#[test]
fn a_container_sees_one_interface_with_everything_set() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    let record = endpoint.record().clone();
    let text = run_in(endpoint.netns(), "ip -o addr\nip route\nip -o link show eth0");
    assert!(text.contains("lo    inet 127.0.0.1/8") && text.contains("lo    inet6 ::1/128"), "{text}");
    assert!(text.contains("eth0    inet 172.17.0.2/16 brd 172.17.255.255 scope global eth0"), "{text}");
    assert!(!text.contains("eth0    inet6"), "{text}");
    assert!(text.contains("default via 172.17.0.1 dev eth0"), "{text}");
    assert!(text.contains(&format!("link/ether {}", record.mac.unwrap())), "{text}");
    let setting = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        within(endpoint.netns(), || std::fs::read_to_string(path)).unwrap().split_whitespace().collect::<String>()
    };
    assert_eq!(
        (setting("ip_unprivileged_port_start"), setting("ping_group_range")),
        ("0".into(), "02147483647".into())
    );
    assert_eq!(host.inside(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")).unwrap(), "1\n");
}

#[test]
fn a_wished_hardware_address_and_interface_name_are_given() {
    for config in [bare(), NetConfig::default()] {
        let Some(host) = Host::new() else { return };
        let networks = host.networks(config);
        let first = networks.attach(&container(1)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let mut request = container(2);
        request.mac = Some("02:11:22:33:44:55".parse().unwrap());
        let named = |name: &str| [("com.docker.network.endpoint.ifname".to_owned(), name.to_owned())].into();
        request.options = named("wan");
        let second = networks.attach(&request).unwrap();
        let text = run_in(second.netns(), "ip -o link show wan");
        assert!(text.contains("02:11:22:33:44:55"), "{text}");
        ping(second.netns(), first.netns(), first.record().ipv4.unwrap().addr().into()).unwrap();
        request.options = named("a/b");
        assert!(matches!(networks.attach(&request), Err(NetError::InvalidInterface(_))));
        request.options.clear();
        request.ipv4 = Some("172.17.0.99".parse().unwrap());
        assert!(matches!(networks.attach(&request), Err(NetError::FixedAddress)));
    }
}

#[test]
fn outbound_traffic_takes_the_hosts_address() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    let server = serve(outside.as_fd(), "198.51.100.2:80");
    assert_eq!(ask(endpoint.netns(), "198.51.100.2:80", PATIENCE).unwrap(), "198.51.100.1");
    server.join().unwrap().unwrap();
}

#[test]
fn without_masquerade_a_container_shows_its_own_address() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    run_in(outside.as_fd(), "ip route add 172.17.0.0/16 via 198.51.100.1");
    let networks = host.networks(NetConfig { masquerade: false, ..bare() });
    let endpoint = networks.attach(&container(1)).unwrap();
    let server = serve(outside.as_fd(), "198.51.100.2:80");
    assert_eq!(ask(endpoint.netns(), "198.51.100.2:80", PATIENCE).unwrap(), "172.17.0.2");
    server.join().unwrap().unwrap();
}

#[test]
fn a_neighbour_cannot_route_to_a_port_that_was_not_published() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    run_in(outside.as_fd(), "ip route add 172.17.0.0/16 via 198.51.100.1");
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    let _server = serve(endpoint.netns(), "172.17.0.2:80");
    assert!(ask(outside.as_fd(), "172.17.0.2:80", IMPATIENCE).is_err());
    assert_eq!(ask(host.netns.as_fd(), "172.17.0.2:80", PATIENCE).unwrap(), "172.17.0.1");
}

#[test]
fn what_passes_between_others_is_left_alone() {
    let Some(host) = Host::new() else { return };
    let first = host.neighbour("198.51.100");
    let second = host.neighbour("203.0.113");
    run_in(first.as_fd(), "ip route add default via 198.51.100.1");
    run_in(second.as_fd(), "ip route add default via 203.0.113.1");
    // A bridge of somebody else's with two machines on it, whose frames the kernel may show to the firewall.
    host.run("ip link add virbr0 type bridge\nip link set virbr0 up\nip addr add 192.0.2.1/24 dev virbr0");
    let machines = ["192.0.2", "233.252.0"].map(|prefix| host.neighbour(prefix));
    for (machine, (name, number)) in machines.iter().zip([("to19202", 11), ("to2332520", 12)]) {
        host.run(&format!("ip addr flush dev {name}\nip link set {name} master virbr0"));
        run_in(machine.as_fd(), &format!("ip addr flush dev wire\nip addr add 192.0.2.{number}/24 dev wire"));
        run_in(machine.as_fd(), "ip route add default via 192.0.2.1");
    }
    host.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let everything_passes = || {
        ping(first.as_fd(), second.as_fd(), "203.0.113.2".parse().unwrap()).unwrap();
        ping(machines[0].as_fd(), machines[1].as_fd(), "192.0.2.12".parse().unwrap()).unwrap();
        ping(machines[0].as_fd(), second.as_fd(), "203.0.113.2".parse().unwrap()).unwrap();
        ping(second.as_fd(), machines[1].as_fd(), "192.0.2.12".parse().unwrap()).unwrap();
    };
    everything_passes();
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    everything_passes();
    ping(endpoint.netns(), second.as_fd(), "203.0.113.2".parse().unwrap()).unwrap();
    drop((endpoint, networks));
    everything_passes();
}

/// CVE-2020-13401: a container that announces itself as a router must not become the host's way to everywhere.
#[test]
fn what_a_container_announces_is_not_believed_by_the_host() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let believing = ["default", "to19851100"].map(|name| format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"));
    if !host.inside(|| std::path::Path::new(&believing[0]).exists()) {
        return not_tested("the kernel has no IPv6");
    }
    // A host that believes everybody, even while it forwards.
    believing.iter().for_each(|path| host.inside(|| std::fs::write(path, "2")).unwrap());
    run_in(outside.as_fd(), "ip -6 addr add fe80::98/64 dev wire nodad");
    let networks = host.networks(bare());
    let insider = networks.attach(&container(1)).unwrap();
    within(insider.netns(), || std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0")).unwrap();
    run_in(insider.netns(), "ip -6 addr add fe80::66/64 dev eth0 nodad");
    let routes = || host.run("ip -6 route show default");
    let since = Instant::now();
    // The neighbour is believed: what the container sends before would be, too.
    while !routes().contains("via fe80::98 dev to19851100") {
        announce_router(insider.netns(), "eth0");
        announce_router(outside.as_fd(), "wire");
        assert!(since.elapsed() < Duration::from_secs(20), "the neighbour is not believed: {}", routes());
    }
    assert!(!routes().contains("berth0"), "{}", routes());
}

/// Sends a router advertisement (RFC 4861) to everybody on a link.
fn announce_router(netns: std::os::fd::BorrowedFd<'_>, device: &str) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sockopt};
    let sent = within(netns, || -> rustix::io::Result<usize> {
        let socket = rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
        // Only what comes from this link itself is believed.
        sockopt::set_ipv6_multicast_hops(&socket, 255)?;
        let index = rustix::net::netdevice::name_to_index(&socket, device)?;
        let everybody = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
        // Type, code, the kernel's checksum; hop limit, flags, life of 1800 s; two timers.
        let message = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::net::sendto(&socket, &message, SendFlags::empty(), &everybody)
    });
    assert_eq!(sent, Ok(16));
}

#[test]
fn without_icc_containers_reach_the_world_but_not_each_other() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig { between_containers: false, ..bare() });
    let one = networks.attach(&container(1)).unwrap();
    let two = networks.attach(&container(2)).unwrap();
    let _server = serve(two.netns(), "172.17.0.3:80");
    assert!(ask(one.netns(), "172.17.0.3:80", IMPATIENCE).is_err());
    ping(one.netns(), host.netns.as_fd(), "172.17.0.1".parse().unwrap()).unwrap();
}

#[test]
fn a_forward_policy_of_iptables_is_reported_and_does_not_cut_containers_off() {
    for user_chain in [false, true] {
        let Some(host) = Host::new() else { return };
        let outside = host.neighbour("198.51.100");
        host.run("iptables-nft -P FORWARD DROP");
        if user_chain {
            host.run("iptables-nft -N DOCKER-USER\niptables-nft -A DOCKER-USER -j RETURN\niptables-nft -I FORWARD -j DOCKER-USER");
        }
        let networks = host.networks(bare());
        assert_eq!(networks.obstacles().unwrap(), []);
        let endpoint = networks.attach(&container(1)).unwrap();
        let server = serve(outside.as_fd(), "198.51.100.2:80");
        assert_eq!(ask(endpoint.netns(), "198.51.100.2:80", PATIENCE).unwrap(), "198.51.100.1");
        server.join().unwrap().unwrap();
        let obstacles = networks.obstacles().unwrap();
        assert_eq!(obstacles.len(), 1, "{obstacles:?}");
        let place = if user_chain { "DOCKER-USER" } else { "FORWARD" };
        assert_eq!(obstacles[0].admitted_in.as_deref(), Some(place));
        assert!(
            obstacles[0].to_string().contains("chain FORWARD of table ip filter drops forwarded packets by policy")
        );
        // iptables still understands its own table, and sees our rules once, also after we come back.
        drop(endpoint);
        drop(networks);
        let again = host.networks(bare());
        let _endpoint = again.attach(&container(2)).unwrap();
        let listed = host.run(&format!("iptables-nft -S {place}"));
        assert_eq!(listed.matches("berth0").count(), 2, "{listed}");
    }
}

#[test]
fn a_dropping_chain_that_nobody_may_edit_is_reported() {
    let Some(host) = Host::new() else { return };
    host.run("nft add table inet wall\nnft add chain inet wall guard { type filter hook forward priority 0 ; policy drop ; }");
    let networks = host.networks(bare());
    let _endpoint = networks.attach(&container(1)).unwrap();
    let obstacles = networks.obstacles().unwrap();
    let told = "chain guard of table inet wall drops forwarded packets by policy: containers reach nothing outside";
    assert!(obstacles[0].to_string().starts_with(told), "{}", obstacles[0]);
}

#[test]
fn nft_shows_our_table_in_its_own_words() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let _endpoint = networks.attach(&container(1)).unwrap();
    let text = host.run("nft list table inet berth");
    for line in [
        "type ifname",
        "elements = { \"berth0\" }",
        "type ifname . ifname",
        "elements = { \"berth0\" . \"berth0\" }",
        "type filter hook forward priority filter; policy accept;",
        "iifname . oifname @within accept comment \"containers of one network reach each other\"",
        "oifname @bridges ct state established,related accept comment \"answers\"",
        "oifname @bridges ct status dnat accept comment \"published ports\"",
        "oifname @bridges counter packets 0 bytes 0 drop comment \"whatever was not published\"",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip saddr 172.17.0.0/16 oifname != \"berth0\" counter packets 0 bytes 0 masquerade comment \"outbound traffic\"",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let json = host.run("nft -j list ruleset");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let count = |what: &str| value["nftables"].as_array().unwrap().iter().filter(|item| item[what].is_object()).count();
    assert_eq!((count("table"), count("chain"), count("set"), count("rule")), (1, 6, 11, 29));
}

#[test]
fn a_pool_that_overlaps_with_the_hosts_routes_is_passed_over_and_the_choice_is_kept() {
    let Some(host) = Host::new() else { return };
    let _outside = host.neighbour("172.17.5");
    host.run("ip route add 172.18.0.0/15 via 172.17.5.2");
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    assert_eq!(endpoint.record().ipv4.unwrap(), "172.20.0.2/16".parse().unwrap());
    drop((endpoint, networks));
    host.run("ip route del 172.18.0.0/15\nip link del to172175");
    let networks = host.networks(bare());
    assert_eq!(networks.network("bridge").unwrap().network.subnets[0].net, "172.20.0.0/16".parse().unwrap());
}

#[test]
fn a_chosen_bridge_address_is_used_and_a_bridge_in_use_is_not_changed() {
    let Some(host) = Host::new() else { return };
    let bip = |text: &str| NetConfig {
        bridge: DefaultBridge::Managed { name: "br7".to_owned(), address: Some(text.parse().unwrap()) },
        ..bare()
    };
    let networks = host.networks(bip("10.5.0.9/29"));
    let endpoint = networks.attach(&container(1)).unwrap();
    assert_eq!(endpoint.record().ipv4.unwrap(), "10.5.0.10/29".parse::<ipnet::Ipv4Net>().unwrap());
    let other = host.networks(bip("10.6.0.1/24"));
    let error = other.attach(&container(2)).unwrap_err();
    assert!(matches!(error, NetError::BridgeAddress { .. }), "{error}");
    drop(endpoint);
    networks.settle().unwrap();
    let endpoint = other.attach(&container(2)).unwrap();
    assert_eq!(endpoint.record().ipv4.unwrap(), "10.6.0.2/24".parse().unwrap());
    assert!(!host.run("ip -4 -o addr show br7").contains("10.5.0.9"));
}

#[test]
fn a_bridge_of_somebody_else_is_used_as_it_is() {
    let Some(host) = Host::new() else { return };
    let foreign = || NetConfig { bridge: DefaultBridge::Foreign { name: "lan".to_owned() }, ..bare() };
    let error = host.inside(|| berth_net::Networks::open(foreign(), &host.store)).unwrap_err();
    assert!(matches!(error, NetError::NoSuchBridge(_)), "{error}");
    host.run("ip link add lan type bridge\nip link set lan up");
    let error = host.inside(|| berth_net::Networks::open(foreign(), &host.store)).unwrap_err();
    assert!(matches!(error, NetError::NoBridgeAddress(_)), "{error}");
    host.run("ip addr add 10.44.0.1/24 dev lan");
    let networks = host.networks(foreign());
    let endpoint = networks.attach(&container(1)).unwrap();
    assert_eq!(endpoint.record().ipv4.unwrap(), "10.44.0.2/24".parse().unwrap());
    ping(endpoint.netns(), host.netns.as_fd(), "10.44.0.1".parse().unwrap()).unwrap();
}

#[test]
fn a_device_with_the_bridges_name_is_an_error_that_says_so() {
    let Some(host) = Host::new() else { return };
    host.run("ip link add berth0 type veth peer name other");
    let error = host.networks(bare()).attach(&container(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the device berth0 is a veth, not a bridge: remove it or choose another name for the bridge"
    );
}

#[test]
fn with_the_bridge_turned_off_only_the_default_network_is_missing() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig { bridge: DefaultBridge::Off, ..bare() });
    assert!(matches!(networks.attach(&container(1)), Err(NetError::BridgeOff)));
    networks.isolated().unwrap();
}

#[test]
fn the_three_networks_keep_their_ids() {
    let Some(host) = Host::new() else { return };
    let names = || host.networks(bare()).list().into_iter().map(|info| (info.network.name, info.network.id));
    let first: Vec<_> = names().collect();
    assert_eq!(first.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["bridge", "host", "none"]);
    assert_eq!(first, names().collect::<Vec<_>>());
    let networks = host.networks(bare());
    let by_prefix = networks.network(&first[1].1.as_str()[..9]).unwrap();
    assert_eq!((by_prefix.network.driver, by_prefix.network.name.as_str()), (Driver::Host, "host"));
    assert_eq!(networks.network("nope").unwrap_err().to_string(), "network nope not found");
    let bridge = networks.network("bridge").unwrap();
    assert_eq!((bridge.usage[0].in_use, bridge.usage[0].available), (3, 65533));
    let mut request = container(1);
    request.network = "host".to_owned();
    assert!(matches!(networks.attach(&request), Err(NetError::NoEndpoints(_))));
}

#[test]
fn an_isolated_namespace_has_loopback_and_nothing_else() {
    for config in [bare(), NetConfig::default()] {
        let Some(host) = Host::new() else { return };
        let networks = host.networks(config);
        for _ in 0..3 {
            let netns = networks.isolated().unwrap();
            let links = run_in(netns.as_fd(), "ip -o link");
            assert_eq!(links.lines().count(), 1, "{links}");
            ping(netns.as_fd(), netns.as_fd(), "127.0.0.1".parse().unwrap()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(host.container_devices().len(), 0);
    }
}

#[test]
fn a_running_container_gets_a_second_interface_and_loses_it() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    let netns = endpoint.netns().try_clone_to_owned().unwrap();
    networks.create(&NetworkRequest { name: "second".to_owned(), ..NetworkRequest::default() }).unwrap();
    let request = EndpointRequest { default_v4: false, ..EndpointRequest::on("second", id(1), "c1") };
    let connection = networks.connect(netns.as_fd(), &request).unwrap();
    let record = connection.keep();
    assert_eq!((record.interface.as_str(), record.ipv4.unwrap().to_string().as_str()), ("eth1", "172.18.0.2/16"));
    assert!(run_in(netns.as_fd(), "ip -o addr").contains("eth1    inet 172.18.0.2/16"));
    networks.disconnect(&record, netns.as_fd()).unwrap();
    assert!(!run_in(netns.as_fd(), "ip -o addr").contains("eth1"));
    let dropped = networks.connect(netns.as_fd(), &request).unwrap();
    drop(dropped);
    assert!(!run_in(netns.as_fd(), "ip -o addr").contains("eth1"));
    assert_eq!(networks.endpoints().unwrap().len(), 1);
}

#[test]
fn a_bridge_that_was_deleted_is_made_again() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    drop(networks.attach(&container(1)).unwrap());
    host.run("ip link del berth0\nnft flush ruleset");
    let endpoint = networks.attach(&container(2)).unwrap();
    ping(endpoint.netns(), host.netns.as_fd(), "172.17.0.1".parse().unwrap()).unwrap();
    assert!(host.run("nft list ruleset").contains("masquerade"));
}
