//! What attaching and detaching costs. Run by hand: `cargo test -p berth-net --release --test net -- measure --ignored --nocapture`.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::host::{Host, bare, container, id, ping, run_in};
use berth_net::{EndpointRequest, NetConfig, NetworkRequest};

const RUNS: u32 = 200;

fn median(mut times: Vec<Duration>) -> (Duration, Duration, Duration) {
    times.sort();
    (times[times.len() / 10], times[times.len() / 2], times[times.len() * 9 / 10])
}

/// CPU time of this process, user and system.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

#[test]
#[ignore = "a measurement, not a test"]
fn attach_and_detach() {
    for (name, prepared, pause) in [
        ("made at once, back to back", 0, 0),
        ("made at once, 10 ms apart", 0, 10),
        ("ready, back to back", 4, 0),
        ("ready, 10 ms apart", 4, 10),
    ] {
        let Some(host) = Host::new() else { return };
        let networks = host.networks(NetConfig { prepared, ..NetConfig::default() });
        drop(networks.attach(&container(0)).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        let before = cpu();
        let (mut attach, mut detach) = (Vec::new(), Vec::new());
        for number in 1..=RUNS {
            let start = Instant::now();
            let endpoint = networks.attach(&container(number)).unwrap();
            attach.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(pause));
            let start = Instant::now();
            let record = endpoint.keep();
            networks.detach(&record).unwrap();
            detach.push(start.elapsed());
        }
        networks.settle().unwrap();
        let cpu = (cpu() - before) / RUNS;
        println!(
            "{name}: attach p10/median/p90 {:?}, detach {:?}, CPU of the process {cpu:?} each",
            median(attach),
            median(detach)
        );
    }
    burst();
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig::default());
    let times = (0..RUNS).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let start = Instant::now();
        drop(networks.isolated().unwrap());
        start.elapsed()
    });
    println!("isolated: p10/median/p90 {:?}", median(times.collect()));
}

/// A hundred containers, eight at a time, all of which stay.
fn burst() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(NetConfig::default());
    drop(networks.attach(&container(0)).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let networks = &networks;
                scope.spawn(move || {
                    let one = |number: u32| {
                        let start = Instant::now();
                        let endpoint = networks.attach(&container(1 + thread * 13 + number)).unwrap();
                        (start.elapsed(), endpoint)
                    };
                    (0..13).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).map(|(time, _)| time).collect()
    });
    println!("burst of 104, 8 at a time: {:?} in all, attach p10/median/p90 {:?}", start.elapsed(), median(times));
}

/// 1,500 containers on one network: all of them answer all along a ring, across the bridges that the network consists of.
#[test]
#[ignore = "a measurement: takes a minute"]
fn fifteen_hundred_containers_on_one_network_reach_each_other() {
    const CONTAINERS: u32 = 1500;
    let Some(host) = Host::new() else { return };
    let ports = std::env::var("BRIDGE_PORTS").ok().and_then(|text| text.parse().ok());
    let bridge_ports = ports.unwrap_or(berth_net::DEFAULT_BRIDGE_PORTS);
    println!("{bridge_ports} ports a bridge");
    let networks = host.networks(NetConfig { bridge_ports, ..bare() });
    networks.create(&NetworkRequest { name: "wide".to_owned(), ..NetworkRequest::default() }).unwrap();
    let start = Instant::now();
    let attach = |number| networks.attach(&EndpointRequest::on("wide", id(number), &format!("c{number}"))).unwrap();
    let all: Vec<_> = (0..CONTAINERS).map(attach).collect();
    println!("{CONTAINERS} endpoints made in {:?}", start.elapsed());
    println!("{} bridges", host.run("ip -o link show type bridge").lines().count());
    // The kernel keeps 1,024 neighbours for all namespaces together, and none goes while it counts as reachable: half a minute.
    let forget = |netns| _ = run_in(netns, "ip neigh flush all");
    let start = Instant::now();
    let mut again = 0;
    for (position, one) in all.iter().enumerate() {
        // A neighbour one further along a ring whose step leads from bridge to bridge.
        let other = &all[(position + 601) % all.len()];
        let address = IpAddr::V4(other.record().ipv4.unwrap().addr());
        while let Err(error) = ping(one.netns(), other.netns(), address) {
            println!("{position}: {address}: {error} after {:?}", start.elapsed());
            again += 1;
            assert!(again < 30, "{address} does not answer");
            std::thread::sleep(Duration::from_secs(1));
        }
        forget(one.netns());
        forget(other.netns());
    }
    for one in &all {
        let address = IpAddr::V4(one.record().ipv4.unwrap().addr());
        while let Err(error) = ping(host.netns.as_fd(), one.netns(), address) {
            println!("the host: {address}: {error} after {:?}", start.elapsed());
            again += 1;
            assert!(again < 30, "{address} does not answer the host");
            std::thread::sleep(Duration::from_secs(1));
        }
        forget(one.netns());
        forget(host.netns.as_fd());
    }
    println!("all answered in {:?}, {again} asked again", start.elapsed());
    let start = Instant::now();
    drop(all);
    networks.settle().unwrap();
    println!("all gone after {:?}", start.elapsed());
    networks.remove("wide").unwrap();
    assert_eq!((host.run("ip -o link show type bridge"), host.container_devices().len()), (String::new(), 0));
}
