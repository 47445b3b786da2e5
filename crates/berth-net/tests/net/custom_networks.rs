//! Networks that people make: from the containers on them.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::host::{Host, ask, bare, container, id, ping, run_in, serve};
use berth_net::{EndpointRequest, NetError, NetworkRequest};

const PATIENCE: Duration = Duration::from_secs(3);
const IMPATIENCE: Duration = Duration::from_millis(300);

fn named(name: &str) -> NetworkRequest {
    NetworkRequest { name: name.to_owned(), ..NetworkRequest::default() }
}

fn with_subnet(name: &str, subnet: &str) -> NetworkRequest {
    NetworkRequest { subnet: subnet.parse().ok(), ..named(name) }
}

fn on(network: &str, number: u32) -> EndpointRequest {
    EndpointRequest::on(network, id(number), &format!("c{number}"))
}

#[test]
fn containers_of_one_network_reach_each_other_and_those_of_two_do_not() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    let networks = host.networks(bare());
    let blue = networks.create(&named("blue")).unwrap();
    assert_eq!(blue.network.subnets[0].net, "172.18.0.0/16".parse().unwrap());
    networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap();
    let one = networks.attach(&on("blue", 1)).unwrap();
    let two = networks.attach(&on(&blue.network.id.as_str()[..12], 2)).unwrap();
    let other = networks.attach(&on("red", 3)).unwrap();
    let default = networks.attach(&container(4)).unwrap();
    ping(one.netns(), two.netns(), two.record().address.addr()).unwrap();
    for stranger in [&other, &default] {
        let address = format!("{}:80", stranger.record().address.addr());
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
    assert_eq!(one.record().gateway, None);
    ping(one.netns(), two.netns(), two.record().address.addr()).unwrap();
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
        networks.attach(&EndpointRequest { address: address.parse().ok(), ..on(network, number) })
    };
    let fixed = at("red", 1, "10.77.0.9").unwrap();
    assert_eq!(fixed.record().address, "10.77.0.9/24".parse().unwrap());
    assert_eq!(at("red", 2, "10.77.0.9").unwrap_err().to_string(), "Address already in use");
    assert!(matches!(at("red", 2, "10.77.0.1"), Err(NetError::AddressTaken)));
    assert!(matches!(at("red", 2, "10.78.0.1"), Err(NetError::AddressOutside(_))));
    assert!(matches!(at("blue", 2, "172.18.0.9"), Err(NetError::AddressOutside(_))));
    networks.reserve("red", "10.77.0.20".parse().unwrap(), &id(5)).unwrap();
    assert!(matches!(at("red", 6, "10.77.0.20"), Err(NetError::AddressTaken)));
    drop((fixed, networks));
    let networks = host.networks(bare());
    let at =
        |number: u32| networks.attach(&EndpointRequest { address: "10.77.0.20".parse().ok(), ..on("red", number) });
    assert!(matches!(at(6), Err(NetError::AddressTaken)));
    drop(at(5).unwrap());
    networks.settle().unwrap();
    assert!(matches!(at(6), Err(NetError::AddressTaken)));
    networks.release(&id(5)).unwrap();
    at(6).unwrap();
}

#[test]
fn a_network_goes_with_its_bridge_but_not_under_its_containers() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(berth_net::NetConfig::default());
    let red = networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap();
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
    let gateway = NetworkRequest { gateway: "10.79.0.1".parse().ok(), ..named("x") };
    assert!(told(gateway).contains("parent subnet invalid Prefix doesn't contain this address"));
}

#[test]
fn a_container_on_two_networks_has_two_interfaces_and_one_way_out() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    networks.create(&with_subnet("red", "10.77.0.0/24")).unwrap();
    let endpoint = networks.attach(&container(1)).unwrap();
    let netns = endpoint.netns().try_clone_to_owned().unwrap();
    let second = EndpointRequest { default_route: false, ..on("red", 1) };
    let record = networks.connect(netns.try_clone().unwrap(), &second).unwrap().keep();
    let routes = run_in(netns.as_fd(), "ip route");
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    assert!(routes.contains("10.77.0.0/24 dev eth1"), "{routes}");
    let again = networks.connect(netns.try_clone().unwrap(), &second).unwrap_err();
    assert_eq!(again.to_string(), "endpoint with name c1 already exists in network red");
    networks.disconnect(&record).unwrap();
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
