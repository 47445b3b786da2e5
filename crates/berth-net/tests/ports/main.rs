//! Published ports, as clients in other places see them: a neighbour, the host itself, other containers.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

#[allow(dead_code, reason = "shared with the other tests of the network")]
#[path = "../net/host.rs"]
mod host;

mod both_families;
mod firewalls;
mod gateway_modes;

use std::io::{self, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use berth_net::{FirewallMode, HostPort, NetConfig, NetError, Networks, PortRequest, PublishedPort, Transport};

use host::{Host, ask, bare, container, id, ping, run_in, within};

const PATIENCE: Duration = Duration::from_secs(3);
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Answers TCP clients in a namespace with the address they come from, until the test ends.
fn serve(netns: BorrowedFd<'_>, port: u16) {
    serve_at(netns, ("0.0.0.0", port));
}

fn serve_at(netns: BorrowedFd<'_>, address: (&str, u16)) {
    let listener = within(netns, || TcpListener::bind(address)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, from)) = listener.accept() {
            let _ = client.write_all(from.ip().to_canonical().to_string().as_bytes());
        }
    });
}

/// Answers datagrams in a namespace with the address they come from, until the test ends.
fn echo(netns: BorrowedFd<'_>, port: u16) {
    let socket = within(netns, || UdpSocket::bind(("0.0.0.0", port))).unwrap();
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
            let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
        }
    });
}

fn say(socket: &UdpSocket, address: &str) -> io::Result<String> {
    socket.set_read_timeout(Some(IMPATIENCE))?;
    socket.send_to(b"who am I?", address)?;
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

fn tcp(port: u16, address: &str, host: u16) -> PortRequest {
    let address: Option<IpAddr> = if address.is_empty() { None } else { Some(address.parse().unwrap()) };
    PortRequest { transport: Transport::Tcp, port, address, host: HostPort::One(host) }
}

fn shown(ports: &[PublishedPort]) -> Vec<String> {
    ports.iter().map(|port| format!("{}:{}-{}>{}", port.address, port.first, port.last, port.target_first)).collect()
}

/// A port of this machine's loopback that can be reached by its rules alone, whatever else is on the machine.
fn connect(netns: BorrowedFd<'_>, address: &str) -> Result<String, io::ErrorKind> {
    ask(netns, address, PATIENCE).map_err(|error| error.kind())
}

fn refused(netns: BorrowedFd<'_>, address: &str) {
    let answer = ask(netns, address, IMPATIENCE);
    assert!(answer.is_err(), "{address} answered {answer:?}");
}

#[test]
fn a_port_is_reached_from_everywhere_and_shows_who_asks() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    let other = networks.attach(&container(2)).unwrap();
    serve(server.netns(), 80);
    let ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    assert_eq!(shown(ports.ports())[0], "0.0.0.0:8080-8080>80");
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(host.netns.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.1"));
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:8080").as_deref(), Ok("172.17.0.1"));
    assert_eq!(connect(host.netns.as_fd(), "127.7.7.7:8080").as_deref(), Ok("172.17.0.1"));
    // From its own network, and from itself, it is the bridge that asks.
    assert_eq!(connect(other.netns(), "172.17.0.1:8080").as_deref(), Ok("172.17.0.1"));
    assert_eq!(connect(other.netns(), "198.51.100.1:8080").as_deref(), Ok("172.17.0.1"));
    assert_eq!(connect(server.netns(), "172.17.0.1:8080").as_deref(), Ok("172.17.0.1"));
    drop(ports);
    for client in [outside.as_fd(), host.netns.as_fd(), other.netns()] {
        refused(client, "198.51.100.1:8080");
    }
}

#[test]
fn a_client_on_another_network_keeps_its_address() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let subnet = berth_net::SubnetRequest { subnet: "10.77.0.0/24".parse().ok(), ..Default::default() };
    let request = berth_net::NetworkRequest {
        name: "other".to_owned(),
        subnets: vec![subnet],
        ..berth_net::NetworkRequest::default()
    };
    networks.create(&request).unwrap();
    let server = networks.attach(&container(1)).unwrap();
    let client = networks.attach(&berth_net::EndpointRequest::on("other", id(2), "c2")).unwrap();
    serve(server.netns(), 80);
    let _ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    assert_eq!(connect(client.netns(), "10.77.0.1:8080").as_deref(), Ok("10.77.0.2"));
    // What is not published stays out of reach.
    serve(server.netns(), 81);
    refused(client.netns(), "172.17.0.2:81");
}

#[test]
fn a_port_at_one_address_is_reached_by_no_other() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    host.run("ip addr add 203.0.113.1/32 dev lo");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 80);
    let requests = [tcp(80, "198.51.100.1", 8080), tcp(80, "127.0.0.1", 9090)];
    let _ports = networks.publish(server.record(), &requests).unwrap();
    run_in(outside.as_fd(), "ip route add 203.0.113.1 via 198.51.100.1");
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:9090").as_deref(), Ok("172.17.0.1"));
    refused(outside.as_fd(), "203.0.113.1:8080");
    refused(outside.as_fd(), "198.51.100.1:9090");
    refused(host.netns.as_fd(), "127.0.0.1:8080");
    refused(host.netns.as_fd(), "127.0.0.2:9090");
}

#[test]
fn a_neighbour_reaches_no_loopback_address_of_the_host() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    let insider = networks.attach(&container(2)).unwrap();
    serve(server.netns(), 80);
    serve(host.netns.as_fd(), 7070);
    let _ports = networks.publish(server.record(), &[tcp(80, "127.0.0.1", 8080)]).unwrap();
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:8080").as_deref(), Ok("172.17.0.1"));
    // The neighbour sends to 127.0.0.1 by way of this host's hardware address (CVE-2020-8558, CVE-2020-13401's company).
    for (netns, device, gateway) in [(outside.as_fd(), "wire", "198.51.100.1"), (insider.netns(), "eth0", "172.17.0.1")]
    {
        run_in(netns, "ip route flush table local");
        within(netns, || std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/route_localnet"), "1")).unwrap();
        let local = within(netns, || std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter")).unwrap();
        assert!(!local.is_empty());
        let own = if device == "wire" { "198.51.100.2" } else { "172.17.0.3" };
        run_in(
            netns,
            &format!(
                "ip route add local {own} dev {device} table local\nip route add 127.0.0.1 via {gateway} dev {device} src {own}"
            ),
        );
        refused(netns, "127.0.0.1:8080");
        refused(netns, "127.0.0.1:7070");
        // The way is there, only these addresses are not at its end.
        ping(netns, host.netns.as_fd(), gateway.parse().unwrap()).unwrap();
    }
}

#[test]
fn what_is_not_published_is_not_reached_by_routing_to_the_container() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    run_in(outside.as_fd(), "ip route add 172.17.0.0/16 via 198.51.100.1");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 80);
    serve(server.netns(), 81);
    let _ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.2"));
    refused(outside.as_fd(), "172.17.0.2:81");
    refused(outside.as_fd(), "172.17.0.2:80");
    assert_eq!(connect(host.netns.as_fd(), "172.17.0.2:81").as_deref(), Ok("172.17.0.1"));
}

#[test]
fn an_internal_network_reaches_no_published_port() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let subnet = berth_net::SubnetRequest { subnet: "10.77.0.0/24".parse().ok(), ..Default::default() };
    let request = berth_net::NetworkRequest {
        name: "inside".to_owned(),
        subnets: vec![subnet],
        internal: true,
        ..berth_net::NetworkRequest::default()
    };
    networks.create(&request).unwrap();
    let server = networks.attach(&container(1)).unwrap();
    let captive = networks.attach(&berth_net::EndpointRequest::on("inside", id(2), "c2")).unwrap();
    serve(server.netns(), 80);
    serve(outside.as_fd(), 80);
    let _ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.2"));
    // Even with a route by the bridge nothing is forwarded (CVE-2024-29018 was such a way out).
    run_in(captive.netns(), "ip route add default via 10.77.0.1");
    for address in ["10.77.0.1:8080", "198.51.100.1:8080", "172.17.0.2:80", "198.51.100.2:80"] {
        refused(captive.netns(), address);
    }
}

#[test]
fn ranges_keep_their_order_whether_shifted_or_not() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 7002);
    serve(server.netns(), 82);
    let mut requests: Vec<_> = (7000..7010).map(|port| tcp(port, "", port)).collect();
    requests.extend((80..90).map(|port| tcp(port, "198.51.100.1", port + 8000)));
    let ports = networks.publish(server.record(), &requests).unwrap();
    assert!(shown(ports.ports()).contains(&"0.0.0.0:7000-7009>7000".to_owned()), "{:?}", shown(ports.ports()));
    assert!(shown(ports.ports()).contains(&"198.51.100.1:8080-8089>80".to_owned()), "{:?}", shown(ports.ports()));
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:7002").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8082").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:7002").as_deref(), Ok("172.17.0.1"));
    refused(outside.as_fd(), "198.51.100.1:8083");
    refused(outside.as_fd(), "198.51.100.1:7010");
    drop(ports);
    refused(outside.as_fd(), "198.51.100.1:7002");
    refused(outside.as_fd(), "198.51.100.1:8082");
}

#[test]
fn a_client_of_udp_is_led_to_the_new_container_and_away_from_the_old() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let first = networks.attach(&container(1)).unwrap();
    let second = networks.attach(&container(2)).unwrap();
    echo(first.netns(), 53);
    echo(second.netns(), 53);
    // It sends from the beginning, and never stops for long.
    let client = within(outside.as_fd(), || UdpSocket::bind("198.51.100.2:5000")).unwrap();
    assert!(say(&client, "198.51.100.1:53").is_err());
    let request = PortRequest { transport: Transport::Udp, ..tcp(53, "", 53) };
    let ports = networks.publish(first.record(), &[request]).unwrap();
    assert_eq!(say(&client, "198.51.100.1:53").unwrap(), "198.51.100.2");
    drop(ports);
    assert!(say(&client, "198.51.100.1:53").is_err());
    let _ports = networks.publish(second.record(), &[request]).unwrap();
    assert_eq!(say(&client, "198.51.100.1:53").unwrap(), "198.51.100.2");
    let local = within(host.netns.as_fd(), || UdpSocket::bind("127.0.0.1:0")).unwrap();
    assert_eq!(say(&local, "127.0.0.1:53").unwrap(), "172.17.0.1");
}

#[test]
fn a_port_that_somebody_has_is_refused_by_name() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let one = networks.attach(&container(1)).unwrap();
    let two = networks.attach(&container(2)).unwrap();
    let _mine = networks.publish(one.record(), &[tcp(80, "127.0.0.1", 8080)]).unwrap();
    let error = networks.publish(two.record(), &[tcp(80, "", 9000), tcp(80, "", 8080)]).unwrap_err();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
    let foreign = host.inside(|| TcpListener::bind("127.0.0.1:9090")).unwrap();
    let error = networks.publish(two.record(), &[tcp(80, "", 9000), tcp(81, "", 9090)]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("failed to bind host port 0.0.0.0:9090/tcp: address already in use ("), "{text}");
    assert!(text.ends_with(&format!(", pid {})", std::process::id())), "{text}");
    drop(foreign);
    // What was refused left nothing behind.
    let ports = networks.publish(two.record(), &[tcp(80, "", 9000), tcp(81, "", 9090)]).unwrap();
    assert!(host.inside(|| TcpListener::bind("127.0.0.1:9090")).is_err());
    drop(ports);
    drop(host.inside(|| TcpListener::bind("127.0.0.1:9090")).unwrap());
    let error = networks.publish(two.record(), &[tcp(80, "192.0.2.9", 80)]).unwrap_err();
    assert_eq!(error.to_string(), "failed to bind host port 192.0.2.9:80/tcp: cannot assign requested address");
}

#[test]
fn a_port_that_nobody_chose_is_a_free_one() {
    let Some(host) = Host::new() else { return };
    host.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003")).unwrap();
    let networks = host.networks(bare());
    let one = networks.attach(&container(1)).unwrap();
    let two = networks.attach(&container(2)).unwrap();
    let _taken = host.inside(|| TcpListener::bind("0.0.0.0:40001")).unwrap();
    let any = |port| PortRequest { host: HostPort::Free, ..tcp(port, "0.0.0.0", 0) };
    let ports = networks.publish(one.record(), &[any(80), any(81), any(82)]).unwrap();
    assert_eq!(shown(ports.ports()), ["0.0.0.0:40000-40000>80", "0.0.0.0:40002-40002>81", "0.0.0.0:40003-40003>82"]);
    let error = networks.publish(two.record(), &[any(80)]).unwrap_err();
    assert!(matches!(error, NetError::NoFreePort(Transport::Tcp)), "{error}");
    drop(ports);
    let first_of = PortRequest { host: HostPort::FirstOf(40001, 40005), ..tcp(80, "0.0.0.0", 0) };
    let ports = networks.publish(two.record(), &[first_of]).unwrap();
    assert_eq!(shown(ports.ports()), ["0.0.0.0:40002-40002>80"]);
}

#[test]
fn two_containers_want_the_same_port_and_one_gets_it() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoints: Vec<_> = (1..5).map(|number| networks.attach(&container(number)).unwrap()).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let publish = |record| networks.publish(record, &[tcp(80, "", 8080)]);
        let threads: Vec<_> =
            endpoints.iter().map(|endpoint| scope.spawn(move || publish(endpoint.record()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
}

#[test]
fn ports_beyond_the_number_are_held_by_records_and_reserved() {
    let Some(host) = Host::new() else { return };
    let reserved = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    host.inside(|| std::fs::write(reserved, "1234")).unwrap();
    let mut config = bare();
    config.held_ports = 1;
    let networks = host.networks(config.clone());
    let one = networks.attach(&container(1)).unwrap();
    let requests: Vec<_> = (7000..7010).map(|port| tcp(port, "127.0.0.1", port)).collect();
    let ports = networks.publish(one.record(), &requests).unwrap();
    assert!(!ports.ports()[0].held);
    assert_eq!(host.inside(|| std::fs::read_to_string(reserved)).unwrap(), "1234,7000-7009\n");
    ports.keep();
    let record = one.keep();
    drop(networks);
    // The next engine finds them, and gives them back when the container is gone.
    let networks = host.networks(config);
    networks.reconcile(&[]).unwrap();
    assert_eq!(host.inside(|| std::fs::read_to_string(reserved)).unwrap(), "1234\n");
    assert_eq!(networks.published(&record.id), []);
}

#[test]
fn the_next_engine_leads_ports_as_before() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    let gone = networks.attach(&container(2)).unwrap();
    serve(server.netns(), 80);
    serve(gone.netns(), 80);
    let kept = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap().keep();
    networks.publish(gone.record(), &[tcp(80, "", 9090)]).unwrap().keep();
    let (namespace, gone_too) = (server.netns().try_clone_to_owned().unwrap(), gone.netns().try_clone_to_owned());
    let record = server.keep();
    gone.keep();
    drop(networks);
    // Nobody is there to look after them, and they go on.
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.2"));
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:9090").as_deref(), Ok("198.51.100.2"));
    host.run("nft flush ruleset");
    let networks = host.networks(bare());
    let removed = networks.reconcile(&[id(1)]).unwrap();
    assert_eq!(removed.removed.len(), 1);
    assert_eq!(networks.published(&record.id), kept);
    assert_eq!(connect(outside.as_fd(), "198.51.100.1:8080").as_deref(), Ok("198.51.100.2"));
    refused(outside.as_fd(), "198.51.100.1:9090");
    assert!(host.inside(|| TcpListener::bind("0.0.0.0:8080")).is_err());
    drop(host.inside(|| TcpListener::bind("0.0.0.0:9090")).unwrap());
    drop((namespace, gone_too));
}

#[test]
fn rules_that_somebody_flushes_are_back_soon() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 80);
    let _ports = networks.publish(server.record(), &[tcp(80, "", 8080), tcp(80, "", 8081)]).unwrap();
    let back = |what: &str| {
        // How soon is measured by `costs`: here it is enough that they come back, however busy the machine is.
        let since = std::time::Instant::now();
        while ask(outside.as_fd(), "198.51.100.1:8080", IMPATIENCE).is_err() {
            assert!(since.elapsed() < PATIENCE * 10, "{what}: not back after {:?}", since.elapsed());
        }
    };
    for disturbance in [
        "nft flush ruleset",
        "nft delete table inet berth",
        "nft delete element inet berth ports4any { tcp . 8080 }",
        "nft flush chain inet berth prerouting",
    ] {
        host.run(disturbance);
        back(disturbance);
    }
    // A firewall that is started afterwards and drops what it does not know lets containers pass all the same.
    host.run("iptables -P FORWARD DROP");
    back("a policy of iptables");
    host.run("iptables -F FORWARD");
    back("iptables flushed");
}

/// A host whose firewall is to be respected, with a container that serves four ports of it.
fn respectful(rules: &[&str]) -> Option<(Host, Networks, berth_net::Endpoint, std::os::fd::OwnedFd)> {
    let host = Host::new()?;
    let outside = host.neighbour("198.51.100");
    rules.iter().for_each(|rule| drop(host.run(rule)));
    let networks = host.networks(NetConfig { firewall: FirewallMode::Respect, ..bare() });
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 80);
    let requests = [8080, 8081, 8082, 9090].map(|port| tcp(80, "0.0.0.0", port));
    networks.publish(server.record(), &requests).unwrap().keep();
    Some((host, networks, server, outside))
}

/// Which of the four ports a neighbour reaches.
fn reached(outside: &std::os::fd::OwnedFd) -> Vec<u16> {
    // The first packet may be lost while the container's device comes up; the next one follows after a second.
    let patience = Duration::from_millis(1500);
    let open = |port: &u16| ask(outside.as_fd(), &format!("198.51.100.1:{port}"), patience).is_ok();
    [8080, 8081, 8082, 9090].into_iter().filter(open).collect()
}

#[test]
fn ports_obey_the_input_rules_of_plain_nft() {
    let setup = [
        "nft add table inet fw",
        "nft add chain inet fw input { type filter hook input priority 0 ; policy drop ; }",
        "nft add chain inet fw services",
        "nft add rule inet fw input ct state vmap { established : accept, related : accept, invalid : drop }",
        "nft add rule inet fw input iifname lo accept",
        "nft add rule inet fw input meta l4proto { icmp, ipv6-icmp } accept",
        "nft add rule inet fw input ip saddr 10.0.0.0/8 tcp dport 8082 accept",
        "nft add rule inet fw input jump services",
        "nft add rule inet fw services tcp dport { 22, 8080-8081 } counter accept",
        "nft add rule inet fw services tcp dport 8081 drop",
    ];
    let Some((host, networks, server, outside)) = respectful(&setup) else { return };
    assert_eq!(reached(&outside), [8080, 8081]);
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:9090").as_deref(), Ok("172.17.0.1"));
    let lines = networks.firewall().unwrap().explain(&[server.record().id.clone()], None).join("\n");
    for words in [
        "0.0.0.0:8080 -> 80/tcp: reached: translated to 172.17.0.2, which sees the client's address; the host's input rules accept it",
        "0.0.0.0:8082 -> 80/tcp: perhaps reached: translated to 172.17.0.2, which sees the client's address; chain input of table inet fw (rule",
        "0.0.0.0:9090 -> 80/tcp: not reached: chain input of table inet fw drops it: let the host's firewall accept 9090/tcp",
    ] {
        assert!(lines.contains(words), "no {words:?} in\n{lines}");
    }
    // The host's owner opens a port, and closes one: both are heard of.
    host.run("nft add rule inet fw services tcp dport 9090 accept");
    host.run("nft insert rule inet fw input tcp dport 8080 drop");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(reached(&outside), [8081, 9090]);
}

#[test]
fn ports_obey_the_input_rules_of_iptables() {
    let setup = [
        "iptables -P INPUT DROP",
        "iptables -A INPUT -i lo -j ACCEPT",
        "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "iptables -A INPUT -m conntrack --ctstate INVALID -j DROP",
        "iptables -N user-input",
        "iptables -N logging",
        "iptables -A INPUT -m addrtype --dst-type LOCAL -j RETURN -p udp",
        "iptables -A INPUT -j user-input",
        "iptables -A INPUT -j logging",
        "iptables -A logging -m limit --limit 3/min -j LOG",
        "iptables -A user-input -p tcp --dport 8080 -m comment --comment web -j ACCEPT",
        "iptables -A user-input -p tcp -m multiport --dports 80,8081:8082 -j ACCEPT",
        "iptables -A user-input -p udp --dport 9090 -j ACCEPT",
        "iptables -I user-input -p tcp --dport 8082 -j REJECT",
    ];
    let Some((_host, networks, server, outside)) = respectful(&setup) else { return };
    let lines = networks.firewall().unwrap().explain(&[server.record().id.clone()], None).join("\n");
    assert_eq!(reached(&outside), [8080, 8081], "{lines}");
    assert!(lines.contains("chain INPUT of table ip filter drops it"), "{lines}");
}

#[test]
fn without_input_rules_every_port_is_open() {
    let Some((_host, networks, _server, outside)) = respectful(&[]) else { return };
    assert_eq!(reached(&outside), [8080, 8081, 8082, 9090]);
    assert!(networks.firewall().unwrap().lines().iter().any(|line| line == "bridge    berth0"));
}

/// Run by hand: `cargo test -p berth-net --release --test ports -- costs --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn costs() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig { held_ports: 0, ..bare() });
    let server = networks.attach(&container(1)).unwrap();
    let time = |name: &str, requests: &[PortRequest], runs: usize| {
        let mut times: Vec<[Duration; 2]> = Vec::new();
        for _ in 0..runs {
            let start = std::time::Instant::now();
            let ports = networks.publish(server.record(), requests).unwrap();
            let published = start.elapsed();
            drop(ports);
            times.push([published, start.elapsed() - published]);
        }
        times.sort();
        let [publish, withdraw] = times[runs / 2];
        let memory = std::fs::read_to_string("/proc/self/status").unwrap();
        let memory = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
        println!("{name}: published in {publish:?}, withdrawn in {withdraw:?} (median of {runs}); {memory}");
    };
    time("one port", &[tcp(80, "", 8080)], 200);
    time("one port at one address", &[tcp(80, "127.0.0.1", 8080)], 200);
    let same: Vec<_> = (10_000..20_000).map(|port| tcp(port, "0.0.0.0", port)).collect();
    time("10,000 ports that keep their numbers", &same, 5);
    let shifted: Vec<_> = (10_000..20_000).map(|port| tcp(port, "0.0.0.0", port + 10_000)).collect();
    time("10,000 ports with other numbers", &shifted, 5);
    drop((server, networks));
    costs_of_respect();
    costs_of_a_flush();
}

/// Publishing where the host's rules are asked, those of ufw.
fn costs_of_respect() {
    let Some(host) = Host::new() else { return };
    host.run(&firewalls::ufw());
    let networks = host.networks(NetConfig { firewall: FirewallMode::Respect, ..bare() });
    let server = networks.attach(&container(1)).unwrap();
    for (what, port) in [("open", 8080), ("open to some", 8081), ("shut", 9090)] {
        let mut times: Vec<_> = (0..100)
            .map(|_| {
                let start = std::time::Instant::now();
                drop(networks.publish(server.record(), &[tcp(80, "0.0.0.0", port)]).unwrap());
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("one port that ufw keeps {what}: published and withdrawn in {:?} (median of 100)", times[50]);
    }
}

/// From the end of a command that flushes the rules until a client gets through again.
fn costs_of_a_flush() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 80);
    let _ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    for disturbance in ["nft flush ruleset", "iptables -P FORWARD DROP"] {
        let mut times: Vec<_> = (0..20)
            .map(|_| {
                host.run(disturbance);
                let start = std::time::Instant::now();
                while ask(outside.as_fd(), "198.51.100.1:8080", Duration::from_millis(10)).is_err() {}
                let took = start.elapsed();
                host.run("iptables -P FORWARD ACCEPT\niptables -F FORWARD");
                std::thread::sleep(Duration::from_millis(400));
                took
            })
            .collect();
        times.sort();
        println!("{disturbance}: a client gets through after {:?} (median of 20), {:?} at most", times[10], times[19]);
    }
}

#[test]
fn ten_thousand_ports_are_one_transaction() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(berth_net::NetConfig { held_ports: 0, ..bare() });
    let server = networks.attach(&container(1)).unwrap();
    for (shift, elements) in [(0, 1), (10_000, 10_000)] {
        let requests: Vec<_> = (10_000..20_000).map(|port| tcp(port, "0.0.0.0", port + shift)).collect();
        let ports = networks.publish(server.record(), &requests).unwrap();
        assert_eq!(ports.ports().len(), 1);
        let map = if elements == 1 { "ranges4" } else { "ports4any" };
        let listed = host.run(&format!("nft list map inet berth {map}"));
        assert_eq!(listed.matches("172.17.0.2").count(), elements);
        drop(ports);
    }
    leave_nothing(&host, &networks);
}

fn leave_nothing(host: &Host, networks: &Networks) {
    let listed = host.run("nft list table inet berth");
    assert!(!listed.contains("172.17.0.2"), "{listed}");
    assert_eq!(networks.endpoints().unwrap().len(), 1);
}
