//! More containers on one network than a bridge has ports, with the daemon, its shims and its name service.

use std::time::Instant;

use berth_testkit::{Berth, Client};

use crate::start;

/// How many clients are at work at a time.
const WIDTH: usize = 8;

/// Runs a command for each number, some at a time. Gives the numbers whose command failed, with what it said.
fn each(berth: &Berth, numbers: &[usize], words: impl Fn(usize) -> String + Sync) -> Vec<(usize, String)> {
    let queue = std::sync::Mutex::new(numbers.iter().copied());
    let next = || queue.lock().expect("nobody panics with it").next();
    let work = || {
        let mut failed = Vec::new();
        while let Some(number) = next() {
            let words = words(number);
            let words: Vec<_> = words.split(' ').collect();
            let output = berth.command(Client::Berth, &words).output().expect("a client");
            if !output.status.success() {
                failed.push((number, String::from_utf8_lossy(&output.stderr).into_owned()));
            }
        }
        failed
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WIDTH).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    })
}

/// So many containers are started, ask each other by name, and go.
fn crowd(count: usize) {
    let berth = start();
    berth.run("network create --subnet 10.60.0.0/16 wide").succeeds();
    let all: Vec<usize> = (0..count).collect();
    let began = Instant::now();
    let failed = each(&berth, &all, |n| format!("run -d --name c{n} --network wide busybox sleep 100000"));
    assert!(failed.is_empty(), "{} of {count}: {:?}", failed.len(), failed.first());
    println!("{count} containers started in {:?}", began.elapsed());
    println!("{} bridges", berth.sandbox().shell("ip -o link show type bridge | grep -c b[rx]").trim());
    let began = Instant::now();
    let other = |n: usize| (n + count * 2 / 5) % count;
    let mut left = all;
    // The kernel keeps 1,024 neighbours for all namespaces together, each for half a minute: who finds no room asks again.
    for round in 1..=40 {
        let failed = each(&berth, &left, |n| format!("exec c{n} ping -c 1 -W 3 c{}", other(n)));
        println!(
            "round {round}: {} of {} asked another by name, {:?}",
            left.len() - failed.len(),
            left.len(),
            began.elapsed()
        );
        left = failed.iter().map(|(number, _)| *number).collect();
        if left.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    assert!(left.is_empty(), "{left:?} reach nobody");
    let began = Instant::now();
    for lot in (0..count).collect::<Vec<_>>().chunks(100) {
        let names: Vec<String> = lot.iter().map(|n| format!("c{n}")).collect();
        berth.run(&format!("rm -f {}", names.join(" "))).succeeds();
    }
    println!("all removed in {:?}", began.elapsed());
    berth.run("network rm wide").succeeds();
    assert_eq!(berth.sandbox().shell("ip -o link show type bridge | grep -c b[rx][0-9a-f-]*:").trim(), "0");
}

#[test]
#[ignore = "a measurement: takes minutes"]
fn fifteen_hundred_containers_find_each_other_by_name() {
    crowd(1500);
}
