//! Networks that people make: from the containers on them.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::host::{Host, ask, bare, container, id, ping, run_in, serve};
use berth_net::{Driver, EndpointRequest, NetError, NetworkRequest, SubnetRequest};

const PATIENCE: Duration = Duration::from_secs(3);
const IMPATIENCE: Duration = Duration::from_millis(300);

fn named(name: &str) -> NetworkRequest {
    NetworkRequest { name: name.to_owned(), ..NetworkRequest::default() }
}

fn with_subnet(name: &str, subnet: &str) -> NetworkRequest {
    let subnet = SubnetRequest { subnet: subnet.parse().ok(), ..SubnetRequest::default() };
    NetworkRequest { subnets: vec![subnet], ..named(name) }
}

fn on(network: &str, number: u32) -> EndpointRequest {
    EndpointRequest::on(network, id(number), &format!("c{number}"))
}

#[test]
fn containers_of_one_network_reach_each_other_and_those_of_two_do_not() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let blue = networks.create(&named("blue")).unwrap().info;
    assert_eq!(blue.network.subnets[0].net, "172.18.0.0/16".parse().unwrap());
    networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap();
    let one = networks.attach(&on("blue", 1)).unwrap();
    let two = networks.attach(&on(&blue.network.id.as_str()[..12], 2)).unwrap();
    let other = networks.attach(&on("red", 3)).unwrap();
    let default = networks.attach(&container(4)).unwrap();
    ping(one.netns(), two.netns(), two.record().ipv4.unwrap().addr().into()).unwrap();
    for stranger in [&other, &default] {
        let address = format!("{}:80", stranger.record().ipv4.unwrap().addr());
        let _server = serve(stranger.netns(), &address);
        assert!(ask(one.netns(), &address, IMPATIENCE).is_err(), "{address}");
    }
    for endpoint in [&one, &other, &default] {
        let server = serve(outside.as_fd(), "198.51.100.2:80");
        assert_eq!(ask(endpoint.netns(), "198.51.100.2:80", PATIENCE).unwrap(), "198.51.100.1");
        server.join().unwrap().unwrap();
    }
}

#[test]
fn an_internal_network_has_no_way_out() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    networks.create(&NetworkRequest { internal: true, ..with_subnet("inside", "10.77.0.0/24") }).unwrap();
    let one = networks.attach(&on("inside", 1)).unwrap();
    let two = networks.attach(&on("inside", 2)).unwrap();
    assert_eq!(one.record().gateway_v4, None);
    ping(one.netns(), two.netns(), two.record().ipv4.unwrap().addr().into()).unwrap();
    let _server = serve(outside.as_fd(), "198.51.100.2:80");
    assert!(ask(one.netns(), "198.51.100.2:80", IMPATIENCE).is_err());
    // Not even for one who makes himself a route, in or out.
    run_in(one.netns(), "ip route add default via 10.77.0.1");
    run_in(outside.as_fd(), "ip route add 10.77.0.0/24 via 198.51.100.1");
    assert!(ask(one.netns(), "198.51.100.2:80", IMPATIENCE).is_err());
    let _server = serve(two.netns(), "10.77.0.3:80");
    assert!(ask(outside.as_fd(), "10.77.0.3:80", IMPATIENCE).is_err());
}

#[test]
fn a_certain_address_is_given_to_one_and_kept_for_one() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap();
    networks.create(&named("blue")).unwrap();
    let at = |network: &str, number: u32, address: &str| {
        networks.attach(&EndpointRequest { ipv4: address.parse().ok(), ..on(network, number) })
    };
    let fixed = at("red", 1, "10.77.0.9").unwrap();
    assert_eq!(fixed.record().ipv4.unwrap(), "10.77.0.9/24".parse().unwrap());
    assert_eq!(at("red", 2, "10.77.0.9").unwrap_err().to_string(), "Address already in use");
    assert!(matches!(at("red", 2, "10.77.0.1"), Err(NetError::AddressTaken)));
    assert!(matches!(at("red", 2, "10.78.0.1"), Err(NetError::AddressOutside(_))));
    assert!(matches!(at("blue", 2, "172.18.0.9"), Err(NetError::AddressOutside(_))));
    // An address that waits for somebody is passed over, now and after the next start.
    networks.reserve("red", "10.77.0.2".parse().unwrap(), &id(5)).unwrap();
    drop((fixed, networks));
    let networks = host.networks(bare());
    let next = networks.attach(&on("red", 6)).unwrap();
    assert_eq!(next.record().ipv4, "10.77.0.3/24".parse().ok());
    // Whoever names it has it: so a container that is made anew takes its predecessor's place.
    let at = |number: u32| networks.attach(&EndpointRequest { ipv4: "10.77.0.2".parse().ok(), ..on("red", number) });
    drop(at(6).unwrap());
    networks.settle().unwrap();
    drop(at(5).unwrap());
    networks.settle().unwrap();
    networks.release_others(&[id(5)]).unwrap();
    assert!(networks.network("red").is_ok());
    networks.release(&id(5)).unwrap();
}

#[test]
fn a_network_with_ipv6_has_addresses_of_both_families() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let made = networks.create(&NetworkRequest { ipv6: true, ..named("both") }).unwrap().info;
    let [ipv4, ipv6] = made.network.subnets.as_slice() else { panic!("{:?}", made.network.subnets) };
    assert_eq!(ipv4.net, "172.18.0.0/16".parse().unwrap());
    assert!(ipv6.net.to_string().starts_with("fd") && ipv6.net.prefix_len() == 64, "{}", ipv6.net);
    let alone = NetworkRequest { ipv6: true, ipv4: Some(false), ..with_subnet("six", "fd00:6::/64") };
    networks.create(&alone).unwrap();
    let one = networks.attach(&on("both", 1)).unwrap();
    let two = networks.attach(&on("both", 2)).unwrap();
    let six = networks.attach(&on("six", 3)).unwrap();
    assert_eq!((six.record().ipv4, six.record().ipv6), (None, "fd00:6::2/64".parse().ok()));
    ping(one.netns(), two.netns(), two.record().ipv4.unwrap().addr().into()).unwrap();
    ping(one.netns(), two.netns(), two.record().ipv6.unwrap().addr().into()).unwrap();
    ping(six.netns(), host.netns.as_fd(), "fd00:6::1".parse().unwrap()).unwrap();
    let routes = run_in(one.netns(), "ip -6 route");
    assert!(routes.contains(&format!("default via {}", one.record().gateway_v6.unwrap())), "{routes}");
    // What has no IPv6 address has no IPv6 at all.
    let plain = networks.attach(&container(4)).unwrap();
    assert!(!run_in(plain.netns(), "ip -6 addr show dev eth0").contains("inet6"));
}

#[test]
fn what_a_description_says_is_taken_by_those_who_name_it() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    networks.create(&NetworkRequest { config_only: true, ..with_subnet("plan", "10.99.0.0/24") }).unwrap();
    let taking = NetworkRequest { config_from: "plan".to_owned(), ..named("real") };
    let real = networks.create(&taking).unwrap().info;
    assert_eq!(real.network.subnets[0].net, "10.99.0.0/24".parse().unwrap());
    assert!(matches!(networks.attach(&on("plan", 1)), Err(NetError::ConfigOnly)));
    assert!(matches!(networks.remove("plan"), Err(NetError::ConfigInUse(_))));
    networks.remove("real").unwrap();
    networks.remove("plan").unwrap();
    let nowhere = NetworkRequest { config_from: "none".to_owned(), ..named("x") };
    assert_eq!(networks.create(&nowhere).unwrap_err().to_string(), "configuration network \"none\" does not exist");
}

#[test]
fn macvlan_containers_are_on_the_link_of_their_parent() {
    let Some(host) = Host::new() else { return };
    let neighbour = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let options = |parent: &str| [("parent".to_owned(), parent.to_owned())].into();
    let on_link = |name: &str, parent: &str| {
        let mut request = with_subnet(name, "198.51.100.0/24");
        request.subnets[0].range = "198.51.100.128/25".parse().ok();
        NetworkRequest { driver: "macvlan".to_owned(), options: options(parent), ..request }
    };
    match networks.create(&on_link("lan", "to19851100")) {
        Ok(made) => assert_eq!((made.info.network.driver, made.info.network.owns_parent), (Driver::Macvlan, false)),
        Err(error) => panic!("{error}"),
    }
    let request = EndpointRequest { ipv4: "198.51.100.7".parse().ok(), ..on("lan", 1) };
    let one = match networks.attach(&request) {
        Ok(one) => one,
        // Not every kernel has the driver.
        Err(NetError::Unsupported { module: "macvlan", .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let two = networks.attach(&on("lan", 2)).unwrap();
    assert_eq!(one.record().device, "");
    ping(neighbour.as_fd(), one.netns(), "198.51.100.7".parse().unwrap()).unwrap();
    ping(one.netns(), two.netns(), two.record().ipv4.unwrap().addr().into()).unwrap();
    // Taken off, it is gone; the parent stays.
    let netns = one.netns().try_clone_to_owned().unwrap();
    networks.disconnect(one.record(), netns.as_fd()).unwrap();
    assert!(!run_in(netns.as_fd(), "ip -o link").contains("eth0"));
    drop((one, two));
    assert!(matches!(
        networks.create(&on_link("again", "to19851100")),
        Err(NetError::ParentTaken { .. } | NetError::Overlap)
    ));
    networks.remove("lan").unwrap();
    assert!(host.run("ip -o link").contains("to19851100"));
    let told = networks.create(&on_link("x", "nosuch0")).unwrap_err().to_string();
    assert!(told.starts_with("the parent interface nosuch0 does not exist"), "{told}");
}

#[test]
fn more_containers_than_a_bridge_has_ports_reach_each_other() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    networks.create(&with_subnet("wide", "10.60.0.0/16")).unwrap();
    drop(networks.attach(&on("wide", 1)).unwrap());
    networks.settle().unwrap();
    // The first bridge is filled with devices that are cheap to make; the next engine counts them.
    let bridge = networks.network("wide").unwrap().network.bridge_name();
    let mut filler = tempfile::NamedTempFile::new().unwrap();
    for number in 0..980 {
        let lines = format!("link add f{number} type veth peer name g{number}\nlink set f{number} master {bridge}");
        std::io::Write::write_all(&mut filler, format!("{lines}\n").as_bytes()).unwrap();
    }
    host.run(&format!("ip -batch {}", filler.path().display()));
    drop(networks);
    let networks = host.networks(bare());
    let first = networks.attach(&on("wide", 1)).unwrap();
    let others: Vec<_> = (2..60).map(|number| networks.attach(&on("wide", number)).unwrap()).collect();
    let extended = host.run("ip -o link show type bridge");
    assert_eq!(extended.lines().count(), 2, "{extended}");
    let last = others.last().unwrap();
    ping(first.netns(), last.netns(), last.record().ipv4.unwrap().addr().into()).unwrap();
    ping(last.netns(), host.netns.as_fd(), "10.60.0.1".parse().unwrap()).unwrap();
    // The next engine finds the extension again.
    let records: Vec<_> = others.into_iter().map(|endpoint| endpoint.keep()).collect();
    drop((first, networks));
    let networks = host.networks(bare());
    networks.reconcile(&[]).unwrap();
    drop(records);
    networks.remove("wide").unwrap();
    assert_eq!(host.run("ip -o link show type bridge"), "");
    assert!(host.container_devices().iter().all(|name| name.starts_with(['f', 'g'])), "{:?}", host.container_devices());
}

#[test]
fn containers_on_all_bridges_of_a_network_reach_each_other_and_the_host() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(berth_net::NetConfig { bridge_ports: 8, ..bare() });
    networks.create(&NetworkRequest { ipv6: true, ..with_subnet("wide", "10.60.0.0/16") }).unwrap();
    let all: Vec<_> = (0..30).map(|number| networks.attach(&on("wide", number)).unwrap()).collect();
    assert!(host.run("ip -o link show type bridge").lines().count() >= 4);
    for (position, one) in all.iter().enumerate() {
        // From each bridge to the next, to the one after it, and back. Where the kernel shows bridged frames to the firewall, none is
        // taken for traffic that leaves the network.
        for step in [8, 17, 29] {
            let other = &all[(position + step) % all.len()];
            other.record().addresses().for_each(|address| ping(one.netns(), other.netns(), address).unwrap());
        }
        one.record().addresses().for_each(|address| ping(host.netns.as_fd(), one.netns(), address).unwrap());
    }
    drop(all);
    networks.settle().unwrap();
    networks.remove("wide").unwrap();
    assert_eq!(host.run("ip -o link show type bridge"), "");
}

#[test]
fn a_network_goes_with_its_bridge_but_not_under_its_containers() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(berth_net::NetConfig::default());
    let red = networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap().info;
    let endpoint = networks.attach(&on("red", 1)).unwrap();
    let told = networks.remove("red").unwrap_err().to_string();
    let id = endpoint.record().id.short().to_owned();
    assert_eq!(
        told,
        format!("error while removing network: network red has active endpoints (name:\"c1\" id:\"{id}\")")
    );
    drop(endpoint);
    networks.remove("red").unwrap();
    let bridge = red.network.bridge_name();
    assert!(!host.run("ip -o link").contains(&bridge));
    assert!(!host.run("nft list ruleset").contains(&bridge));
    assert!(matches!(networks.remove("red"), Err(NetError::NotFound(_))));
    assert_eq!(networks.remove("host").unwrap_err().to_string(), "host is a pre-defined network and cannot be removed");
    assert_eq!(host.networks(bare()).list().len(), 3);
}

#[test]
fn what_cannot_be_is_refused_in_the_words_clients_know() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap();
    let told = |request: NetworkRequest| networks.create(&request).unwrap_err().to_string();
    assert_eq!(told(named("red")), "network with name red already exists");
    assert_eq!(told(named("")), "invalid name: name is empty");
    assert_eq!(told(named("host")), "operation is not permitted on predefined host network ");
    let overlap = "invalid pool request: Pool overlaps with other one on this address space";
    assert_eq!(told(with_subnet("x", "10.77.0.0/16")), overlap);
    let option = |name: &str, value: &str| [(format!("com.docker.network.{name}"), value.to_owned())].into();
    let mtu = NetworkRequest { options: option("driver.mtu", "x"), ..named("x") };
    assert_eq!(
        told(mtu),
        "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)"
    );
    let bridge = NetworkRequest { options: option("bridge.name", "berth0"), ..named("x") };
    assert!(told(bridge).ends_with("(berth0): networks have same bridge name"));
    let gateway = SubnetRequest { gateway: "10.79.0.1".parse().ok(), ..SubnetRequest::default() };
    let gateway = NetworkRequest { subnets: vec![gateway], ..named("x") };
    assert!(told(gateway).contains("parent subnet invalid Prefix doesn't contain this address"));
}

#[test]
fn a_container_on_two_networks_has_two_interfaces_and_one_way_out() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap();
    let endpoint = networks.attach(&container(1)).unwrap();
    let netns = endpoint.netns().try_clone_to_owned().unwrap();
    let second = EndpointRequest { default_v4: false, ..on("red", 1) };
    let record = networks.connect(netns.as_fd(), &second).unwrap().keep();
    let routes = run_in(netns.as_fd(), "ip route");
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    assert!(routes.contains("10.77.0.0/24 dev eth1"), "{routes}");
    // The way out can be moved to the other, and back.
    let before = [endpoint.record().clone(), record.clone()];
    let mut after = before.clone();
    (after[0].default_v4, after[1].default_v4) = (false, true);
    networks.reroute(netns.as_fd(), &before, &after).unwrap();
    assert!(run_in(netns.as_fd(), "ip route").contains("default via 10.77.0.1 dev eth1"));
    networks.reroute(netns.as_fd(), &after, &before).unwrap();
    assert!(run_in(netns.as_fd(), "ip route").contains("default via 172.17.0.1 dev eth0"));
    networks.disconnect(&record, netns.as_fd()).unwrap();
    assert!(!run_in(netns.as_fd(), "ip -o link").contains("eth1"));
}

#[test]
fn traffic_is_counted_from_the_containers_side() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    ping(endpoint.netns(), host.netns.as_fd(), "172.17.0.1".parse().unwrap()).unwrap();
    // The host's own multicast may come in between two readings.
    let inside = || -> Vec<u64> {
        let text = run_in(endpoint.netns(), "cat /proc/net/dev");
        let line = text.lines().find(|line| line.contains("eth0:")).unwrap();
        line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect()
    };
    let before = inside();
    let traffic = networks.traffic(endpoint.record()).unwrap().unwrap();
    let after = inside();
    let seen = [traffic.received.bytes, traffic.received.packets, traffic.sent.bytes, traffic.sent.packets];
    for (count, column) in seen.into_iter().zip([0, 1, 8, 9]) {
        assert!((before[column]..=after[column]).contains(&count), "{count} in column {column}");
    }
    assert!(traffic.sent.packets >= 1);
    let record = endpoint.keep();
    networks.detach(&record).unwrap();
    networks.settle().unwrap();
    assert_eq!(networks.traffic(&record).unwrap(), None);
}

#[test]
fn a_network_without_protection_is_reached_by_those_who_route_to_it() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let mode = |word: &str| [("com.docker.network.bridge.gateway_mode_ipv4".to_owned(), word.to_owned())].into();
    networks
        .create(&NetworkRequest { options: mode("nat-unprotected"), ..with_subnet("open", "10.77.0.0/24") })
        .unwrap();
    networks.create(&NetworkRequest { options: mode("routed"), ..with_subnet("routed", "10.78.0.0/24") }).unwrap();
    let open = networks.attach(&on("open", 1)).unwrap();
    let routed = networks.attach(&on("routed", 2)).unwrap();
    run_in(outside.as_fd(), "ip route add 10.76.0.0/14 via 198.51.100.1");
    let server = serve(open.netns(), "10.77.0.2:80");
    assert_eq!(ask(outside.as_fd(), "10.77.0.2:80", PATIENCE).unwrap(), "198.51.100.2");
    server.join().unwrap().unwrap();
    let _server = serve(routed.netns(), "10.78.0.2:80");
    assert!(ask(outside.as_fd(), "10.78.0.2:80", IMPATIENCE).is_err());
    // One goes out by the host's address, the other by its own.
    for (endpoint, seen) in [(&open, "198.51.100.1"), (&routed, "10.78.0.2")] {
        let server = serve(outside.as_fd(), "198.51.100.2:80");
        assert_eq!(ask(endpoint.netns(), "198.51.100.2:80", PATIENCE).unwrap(), seen);
        server.join().unwrap().unwrap();
    }
}
