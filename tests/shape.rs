//! Shaped traffic: `run --net-rate`, `update --net-rate`.

use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use berth_testkit::Berth;

use crate::{eventually, start};

/// The queueing disciplines of a container's two ends that limit a rate.
fn limits(berth: &Berth, container: &str) -> Vec<String> {
    let pid = berth.run(&format!("inspect -f {{{{.State.Pid}}}} {container}")).succeeds();
    let inside = berth.sandbox().shell(&format!("nsenter -t {pid} -n tc qdisc show"));
    let outside = berth.sandbox().shell("tc qdisc show");
    let rates = |text: &str| -> Vec<String> {
        let tbf = text.lines().filter(|line| line.contains(" tbf "));
        tbf.filter_map(|line| Some(line.split(" rate ").nth(1)?.split(' ').next()?.to_owned())).collect()
    };
    [rates(&inside), rates(&outside)].concat()
}

#[test]
fn a_rate_holds_from_the_start_and_after_a_restart() {
    let berth = start();
    berth.run("run -d --name slow --net-rate 10mbit busybox sleep 600").succeeds();
    assert_eq!(limits(&berth, "slow"), ["10Mbit", "10Mbit"]);
    berth.run("restart -t 0 slow").succeeds();
    assert_eq!(limits(&berth, "slow"), ["10Mbit", "10Mbit"]);
    let (_, document) = berth.api("GET", "/containers/slow/json", None);
    assert_eq!(document["HostConfig"]["NetworkShape"], serde_json::json!({ "Rate": 10_000_000 }));
}

#[test]
fn a_rate_is_changed_and_lifted_while_the_container_runs() {
    let mut berth = start();
    berth.run("run -d --name one busybox sleep 600").succeeds();
    assert!(limits(&berth, "one").is_empty());
    berth.run("update --net-rate 1gbit one").succeeds();
    assert_eq!(limits(&berth, "one"), ["1Gbit", "1Gbit"]);
    berth.run("update --net-rate 512kbit one").succeeds();
    berth.kill_daemon();
    berth.start_daemon();
    assert_eq!(limits(&berth, "one"), ["512Kbit", "512Kbit"]);
    berth.run("update --memory 64m one").succeeds();
    assert_eq!(limits(&berth, "one"), ["512Kbit", "512Kbit"]);
    berth.run("update --net-rate 0 one").succeeds();
    assert!(limits(&berth, "one").is_empty());
}

#[test]
fn a_limited_container_sends_no_faster() {
    let berth = start();
    // 1.5 MB at 800 kbyte/s, of which 64 KiB go at once.
    let serve = "dd if=/dev/zero of=/tmp/x bs=1000 count=1500; while true; do nc -l -p 80 < /tmp/x; done";
    berth.run(&format!("run -d --name slow --net-rate 6.4mbit busybox sh -c '{serve}'")).succeeds();
    let address = berth.run("inspect -f {{.NetworkSettings.Networks.bridge.IPAddress}} slow").succeeds();
    let pid = berth.daemon_pid();
    let fetch = move || -> std::io::Result<(usize, Duration)> {
        let host = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&host), network)?;
        let mut stream = TcpStream::connect((address.as_str(), 80))?;
        let (began, mut all) = (Instant::now(), Vec::new());
        stream.read_to_end(&mut all)?;
        Ok((all.len(), began.elapsed()))
    };
    eventually("it was fetched, and took its time", || {
        let fetched = std::thread::spawn(fetch.clone()).join().expect("a thread");
        // A busy machine only makes it slower.
        fetched.is_ok_and(|(bytes, time)| bytes == 1_500_000 && time > Duration::from_millis(1_500))
    });
}

#[test]
fn what_cannot_be_shaped_is_told() {
    let berth = start();
    berth.run("run --net-rate fast busybox true").fails(125, "invalid rate: 'fast'");
    berth.run("run --network host --net-rate 1mbit busybox true").fails(125, "network mode host");
    berth.run("run --network none --net-loss 1% busybox true").fails(125, "network mode none");
    let delayed = berth.run("run --rm --net-delay 10ms busybox tc qdisc show");
    // Some kernels have the emulator; those that have not say so.
    assert!(
        delayed.code == 0 || delayed.stderr.contains("no network emulator: load its module sch_netem"),
        "{delayed:?}"
    );
}
