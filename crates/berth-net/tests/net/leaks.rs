//! Nothing is left behind, and no address is given twice: not after many containers, not after a crash.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::host::{Host, bare, container, id};
use berth_net::{DefaultBridge, NetConfig, NetError};

#[test]
fn a_hundred_containers_leave_nothing() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    for number in 0u32..100 {
        let record = networks.attach(&container(number)).unwrap().keep();
        assert_eq!(record.ipv4.unwrap().addr(), std::net::Ipv4Addr::from(0xac11_0002 + number));
        networks.detach(&record).unwrap();
    }
    networks.settle().unwrap();
    assert_eq!(host.container_devices(), [""; 0]);
    assert_eq!(networks.endpoints().unwrap(), []);
    assert_eq!(networks.network("bridge").unwrap().usage[0].in_use, 3);
}

#[test]
fn an_endpoint_that_is_not_kept_takes_itself_back() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    drop(networks.attach(&container(1)).unwrap());
    assert_eq!(networks.endpoints().unwrap(), []);
    networks.settle().unwrap();
    assert_eq!(host.container_devices(), [""; 0]);
}

#[test]
fn containers_at_the_same_time_get_different_addresses() {
    let Some(host) = Host::new() else { return };
    for prepared in [0, 4] {
        let networks = host.networks(NetConfig { prepared, ..NetConfig::default() });
        let records: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0u32..8)
                .map(|thread| {
                    let networks = &networks;
                    scope.spawn(move || {
                        let start = thread * 10;
                        let attach = |number: u32| networks.attach(&container(start + number)).unwrap();
                        (0u32..10).map(attach).map(berth_net::Endpoint::keep).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: HashSet<_> = records.iter().map(|record| record.ipv4).collect();
        let macs: HashSet<_> = records.iter().map(|record| record.mac).collect();
        assert_eq!((addresses.len(), macs.len()), (80, 80));
        for record in &records {
            networks.detach(record).unwrap();
        }
        networks.settle().unwrap();
        let info = networks.network("bridge").unwrap();
        assert_eq!(info.usage[0].in_use, 3, "{info:?}");
    }
}

#[test]
fn after_a_crash_what_nobody_owns_is_removed_and_what_lives_stays() {
    let Some(host) = Host::new() else { return };
    let (living, dead, living_netns, dead_netns);
    {
        let networks = host.networks(NetConfig::default());
        let one = networks.attach(&container(1)).unwrap();
        let two = networks.attach(&container(2)).unwrap();
        // The processes of both containers hold their namespaces, whatever becomes of the engine.
        living_netns = one.netns().try_clone_to_owned().unwrap();
        dead_netns = two.netns().try_clone_to_owned().unwrap();
        (living, dead) = (one.keep(), two.keep());
        std::thread::sleep(Duration::from_millis(50));
    }
    let networks = host.networks(NetConfig::default());
    assert_eq!(networks.endpoints().unwrap().len(), 2);
    let third = networks.attach(&container(3)).unwrap();
    assert!(third.record().ipv4.unwrap() != living.ipv4.unwrap() && third.record().ipv4.unwrap() != dead.ipv4.unwrap());
    let live = [id(1), id(3)];
    let result = networks.reconcile(&live).unwrap();
    assert_eq!(result.removed, std::slice::from_ref(&dead));
    assert!(result.stray_devices >= 1, "{result:?}");
    let devices = host.container_devices();
    assert!(devices.contains(&living.device) && devices.contains(&third.record().device), "{devices:?}");
    assert!(!devices.contains(&dead.device), "{devices:?}");
    crate::host::ping(
        std::os::fd::AsFd::as_fd(&living_netns),
        std::os::fd::AsFd::as_fd(&host.netns),
        "172.17.0.1".parse().unwrap(),
    )
    .unwrap();
    drop(dead_netns);
    assert_eq!(networks.reconcile(&live).unwrap(), berth_net::Reconciled::default());
}

#[test]
fn a_full_subnet_says_so_and_recovers_at_once() {
    let Some(host) = Host::new() else { return };
    let address = Some("10.5.0.1/29".parse().unwrap());
    for prepared in [0, 2] {
        let bridge = DefaultBridge::Managed { name: "berth0".to_owned(), address };
        let networks = host.networks(NetConfig { bridge, prepared, ..NetConfig::default() });
        let mut records: Vec<_> = (0..5).map(|number| networks.attach(&container(number)).unwrap().keep()).collect();
        let error = networks.attach(&container(9)).unwrap_err();
        assert!(matches!(error, NetError::NoFreeAddress { .. }), "{error}");
        assert!(error.to_string().starts_with("no available IPv4 addresses on this network's address pools: bridge ("));
        networks.detach(&records.pop().unwrap()).unwrap();
        let start = Instant::now();
        let again = networks.attach(&container(9)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(again.record().ipv4.unwrap(), "10.5.0.6/29".parse().unwrap());
        drop(again);
        records.iter().for_each(|record| networks.detach(record).unwrap());
        networks.settle().unwrap();
    }
}

#[test]
fn a_namespace_that_somebody_holds_loses_its_interface_all_the_same() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    let held = endpoint.netns().try_clone_to_owned().unwrap();
    drop(endpoint);
    let start = Instant::now();
    networks.settle().unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(host.container_devices(), [""; 0]);
    drop(held);
}

#[test]
fn an_engine_that_ends_leaves_no_ready_sandbox() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig::default());
    networks.attach(&container(1)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!host.container_devices().is_empty());
    drop(networks);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !host.container_devices().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", host.container_devices());
        std::thread::sleep(Duration::from_millis(20));
    }
}
