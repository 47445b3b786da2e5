//! Networks under random operations and a daemon that is killed in the middle of them: nothing is given twice, nothing is left.

use std::collections::BTreeSet;

use berth_testkit::Berth;
use serde_json::Value;

use crate::start;

const NETWORKS: u64 = 3;
const CONTAINERS: u64 = 5;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // The generator of Knuth's MMIX; its upper bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Whatever one of these answers, right or wrong, the engine goes on. Which of them fit together is left to chance.
fn operation(dice: &mut Dice) -> String {
    let network = |dice: &mut Dice| match dice.below(NETWORKS + 1) {
        NETWORKS => "lan".to_owned(),
        number => format!("n{number}"),
    };
    let (network, other) = (network(dice), network(dice));
    let container = format!("c{}", dice.below(CONTAINERS));
    let address = format!("--ip 10.{}.0.{}", 60 + dice.below(NETWORKS), 2 + dice.below(4));
    match dice.below(14) {
        0 => format!("network create --ipv6 {network}"),
        1 => format!("network create --subnet 10.{}.0.0/24 {network}", 60 + dice.below(NETWORKS)),
        2 => format!("network rm {network}"),
        3 => format!("run -d --name {container} --network {network} busybox sleep 600"),
        4 => format!("run -d --name {container} --network {network} --network {other} busybox sleep 600"),
        5 => format!("run --rm --network {network} {address} busybox true"),
        6 => format!("network connect {network} {container}"),
        7 => format!("network connect {address} {network} {container}"),
        8 => format!("network disconnect {network} {container}"),
        9 => format!("stop -t 0 {container}"),
        10 => format!("start {container}"),
        11 => "network create -d macvlan -o parent=lan0 --subnet 10.70.0.0/24 lan".to_owned(),
        12 => format!("run -d --name {container} --network {network} -p 808{}:80 busybox sleep 600", dice.below(3)),
        _ => format!("rm -f {container}"),
    }
}

/// No address is in two containers, what inspect shows is what is inside, and nothing else is.
#[track_caller]
fn check_addresses(berth: &Berth) {
    let (_, list) = berth.api("GET", "/containers/json", None);
    let mut seen = BTreeSet::new();
    for container in list.as_array().expect("a list") {
        let name = container["Id"].as_str().unwrap_or_default();
        let inside = berth.run(&format!("exec {name} ip -o addr"));
        let mut interfaces = 1;
        for (network, endpoint) in container["NetworkSettings"]["Networks"].as_object().into_iter().flatten() {
            let address = endpoint["IPAddress"].as_str().unwrap_or_default();
            assert!(!address.is_empty(), "{name} has no address on {network}");
            assert!(seen.insert(address.to_owned()), "{address} was given twice");
            interfaces += 1;
            assert!(inside.code != 0 || inside.stdout.contains(&format!("{address}/")), "{address}: {}", inside.stdout);
        }
        let links = berth.run(&format!("exec {name} ls /sys/class/net"));
        assert!(links.code != 0 || links.stdout.split_whitespace().count() == interfaces, "{name}: {}", links.stdout);
    }
}

fn stir(operations: u32, kills: u32, seed: u64) {
    let mut berth = start();
    let _ = berth
        .sandbox()
        .shell("ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up");
    let mut dice = Dice(seed);
    for number in 1..=operations {
        let words = operation(&mut dice);
        if number % (operations / kills) == 0 {
            // Killed while it is at work: the client hears of it or not.
            let asked: Vec<_> = words.split(' ').collect();
            let mut client = berth.command(berth_testkit::Client::Berth, &asked).spawn().expect("a client");
            std::thread::sleep(std::time::Duration::from_micros(dice.below(20_000)));
            berth.kill_daemon();
            let _ = client.wait();
            berth.start_daemon();
        } else {
            let outcome = berth.run(&words);
            assert!(!outcome.stderr.contains("panicked") && outcome.code != 101, "{words}: {outcome:?}");
        }
        if number % 10 == 0 {
            check_addresses(&berth);
        }
    }
    check_addresses(&berth);
    for id in berth.run("ps -aq").succeeds().lines() {
        berth.run(&format!("rm -f {id}")).succeeds();
    }
    for name in berth.run("network ls --filter type=custom --format {{.Name}}").succeeds().lines() {
        berth.run(&format!("network rm {name}")).succeeds();
    }
    assert_eq!(berth.sandbox().shell("nft list map inet berth ports4any | grep -c 'tcp . '").trim(), "0");
    let in_use = |berth: &Berth| {
        let (_, bridge) = berth.api("GET", "/networks/bridge", None);
        let subnets = bridge["Status"]["IPAM"]["Subnets"].as_object().cloned().unwrap_or_default();
        subnets.values().filter_map(|usage| usage["IPsInUse"].as_u64()).collect::<Vec<_>>()
    };
    crate::eventually("every address of the default bridge is free", || in_use(&berth) == [3]);
    let sandbox = berth.sandbox();
    let left = sandbox
        .shell("ip -o link show type bridge; nft list ruleset")
        .lines()
        .filter(|line| line.contains("br-"))
        .count();
    assert_eq!(left, 0, "bridges or rules of networks that are gone: {}", sandbox.shell("nft list ruleset"));
    let (_, networks) = berth.api("GET", "/networks", None);
    assert_eq!(networks.as_array().map(Vec::len), Some(3), "{}", Value::from(networks));
    let _ = berth.sandbox().shell("ip link del lan0");
    // Devices, mounts, cgroups and files are searched for when the engine is dropped.
}

#[test]
fn nothing_is_given_twice_or_left_whatever_is_done() {
    stir(60, 4, 7);
}

#[test]
#[ignore = "a measurement: takes minutes"]
fn nothing_is_left_after_a_thousand_operations_and_fifty_kills() {
    // Another seed is another history: LEAK_SEED=2 cargo test ...
    let seed = std::env::var("LEAK_SEED").ok().and_then(|text| text.parse().ok());
    stir(1000, 50, seed.unwrap_or(1));
}
