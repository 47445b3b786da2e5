//! A namespace that its container could not change and did not use serves the next one; every other goes.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use berth_net::{EndpointRequest, NetConfig, NetError, NetworkRequest, Networks, SubnetRequest};
use berth_sys::netns;

use crate::host::{Host, container, id, run_in, within};

/// So many wait ready that none is made while a test looks for the one that came back.
fn many_ready() -> NetConfig {
    NetConfig { prepared: 40, ..NetConfig::default() }
}

/// Whether one of the next containers gets the namespace; they are all ended again.
fn comes_again(networks: &Networks, netns: &OwnedFd) -> bool {
    let endpoints: Vec<_> = (100..150).map(|number| networks.attach(&container(number)).unwrap()).collect();
    endpoints.iter().any(|endpoint| netns::same(endpoint.netns(), netns.as_fd()).unwrap())
}

/// Waits until the sockets by which a namespace was made are gone: the kernel takes its time.
fn without_sockets(netns: &OwnedFd) {
    let none = || std::fs::read_to_string("/proc/thread-self/net/sockstat").unwrap().starts_with("sockets: used 0\n");
    while !within(netns.as_fd(), none) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn check(what: &str, again: bool, meanwhile: impl FnOnce(&Networks, &OwnedFd) -> Option<OwnedFd>) {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(many_ready());
    let endpoint = networks.attach(&container(1)).unwrap();
    let netns = endpoint.netns().try_clone_to_owned().unwrap();
    without_sockets(&netns);
    let record = endpoint.lend();
    let held = meanwhile(&networks, &netns);
    networks.detach(&record).unwrap();
    assert_eq!(comes_again(&networks, &netns), again, "{what}");
    drop((held, netns));
    networks.settle().unwrap();
    assert_eq!(networks.endpoints().unwrap(), []);
    drop(networks);
    let left = (0..50).find(|_| {
        std::thread::sleep(Duration::from_millis(100));
        host.container_devices().is_empty()
    });
    assert!(left.is_some(), "{what}: devices stay");
}

#[test]
fn what_waits_gives_its_address_to_a_container_that_cannot_use_it() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig { prepared: 3, ..NetConfig::default() });
    // Five addresses beside the gateway's.
    let subnet = SubnetRequest { subnet: "10.77.0.0/29".parse().ok(), ..SubnetRequest::default() };
    let small = NetworkRequest { name: "small".to_owned(), subnets: vec![subnet], ..NetworkRequest::default() };
    networks.create(&small).unwrap();
    let on = |number| EndpointRequest::on("small", id(number), &format!("c{number}"));
    let first = networks.attach(&on(1)).unwrap();
    while host.container_devices().len() < 4 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let special = |number| EndpointRequest { link_local: vec!["169.254.9.9".parse().unwrap()], ..on(number) };
    let others: Vec<_> = (2..=4).map(|number| networks.attach(&special(number)).unwrap()).collect();
    let taken: Vec<_> = others.iter().chain([&first]).map(|endpoint| endpoint.record().ipv4.unwrap().addr()).collect();
    let last = (2..=6).map(|n| Ipv4Addr::new(10, 77, 0, n)).find(|address| !taken.contains(address));
    let asked = networks.attach(&EndpointRequest { ipv4: last, ..on(5) }).unwrap();
    assert_eq!(asked.record().ipv4.unwrap().addr(), last.unwrap());
    assert!(networks.attach(&special(6)).is_err_and(|error| matches!(error, NetError::NoFreeAddress { .. })));
}

#[test]
fn an_unused_namespace_serves_the_next_container() {
    check("unused", true, |_, _| None);
}

#[test]
fn what_was_used_or_touched_goes() {
    check("a packet was sent", false, |_, netns| {
        within(netns.as_fd(), || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "172.17.0.1:9").unwrap());
        None
    });
    check("a packet went through loopback", false, |_, netns| {
        within(netns.as_fd(), || UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap());
        None
    });
    check("a socket is left", false, |_, netns| {
        Some(within(netns.as_fd(), || UdpSocket::bind("0.0.0.0:0").unwrap().into()))
    });
    check("a socket of another family is left", false, |_, netns| {
        let dir = tempfile::tempdir().unwrap();
        Some(within(netns.as_fd(), || UnixListener::bind(dir.path().join("s")).unwrap().into()))
    });
    check("a device was added", false, |_, netns| {
        run_in(netns.as_fd(), "ip link add more type bridge");
        None
    });
    check("somebody else had to do with it", false, |networks, _| {
        networks.recall(&id(1));
        None
    });
}

#[test]
fn what_was_chosen_for_one_container_is_not_the_next_one_s() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(many_ready());
    let mut choices = [container(1), container(2)];
    choices[0].mac = Some("02:00:00:00:00:42".parse().unwrap());
    choices[1].options.insert("com.docker.network.endpoint.ifname".to_owned(), "wan".to_owned());
    for chosen in choices {
        let endpoint = networks.attach(&chosen).unwrap();
        let netns = endpoint.netns().try_clone_to_owned().unwrap();
        without_sockets(&netns);
        let record = endpoint.lend();
        networks.detach(&record).unwrap();
        assert!(!comes_again(&networks, &netns), "{record:?}");
    }
}

#[test]
fn a_namespace_that_was_not_lent_goes() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(many_ready());
    let endpoint = networks.attach(&container(1)).unwrap();
    let netns = endpoint.netns().try_clone_to_owned().unwrap();
    networks.detach(&endpoint.keep()).unwrap();
    assert!(!comes_again(&networks, &netns));
}

#[test]
fn a_namespace_without_a_network_serves_the_next_container() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig::default());
    let again = |use_it: &dyn Fn(&OwnedFd)| {
        let netns = networks.isolated().unwrap();
        let kept = netns.try_clone().unwrap();
        without_sockets(&netns);
        use_it(&netns);
        networks.lend_isolated(id(1), netns);
        // Two wait at most: what comes back needs room.
        let _others: Vec<_> = (0..3).map(|_| networks.isolated().unwrap()).collect();
        networks.isolated_ended(&id(1)).unwrap();
        let next: Vec<_> = (0..3).map(|_| networks.isolated().unwrap()).collect();
        next.iter().any(|netns| netns::same(netns.as_fd(), kept.as_fd()).unwrap())
    };
    // On a busy machine others may have been made in between.
    assert!((0..20).any(|_| again(&|_| {})));
    let used = |netns: &OwnedFd| {
        within(netns.as_fd(), || UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap());
    };
    assert!((0..5).all(|_| !again(&used)));
}
