//! `berth network tap`: packets of a container, read back by tcpdump.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use berth_testkit::{Berth, Client};

use crate::start;

/// What tcpdump makes of a capture.
fn read_back(capture: &[u8]) -> String {
    let mut tcpdump = Command::new("tcpdump")
        .args(["-n", "-r", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Debian's tcpdump");
    tcpdump.stdin.take().expect("piped").write_all(capture).expect("it reads");
    let output = tcpdump.wait_with_output().expect("our child");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !complaints.contains("truncated"), "{complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Captures with these options while a shell in the container does something again and again.
fn tap(berth: &Berth, container: &str, options: &[&str], doing: &str) -> String {
    let words: Vec<&str> = ["network", "tap"].iter().chain(options).chain([&container]).copied().collect();
    let child = berth.command(Client::Berth, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("our program");
    // The capture may begin at any moment; what happens goes on until it has ended.
    berth.run(&format!("exec -d {container} sh -c 'while true; do {doing}; sleep 0.05; done'")).succeeds();
    let output = child.wait_with_output().expect("our child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_back(&output.stdout)
}

#[test]
fn packets_of_a_container_are_written_as_a_capture_file() {
    let berth = start();
    berth.run("run -d --name peer busybox sleep 600").succeeds();
    berth.run("run -d --name one busybox sleep 600").succeeds();
    let address =
        |name| berth.run(&format!("inspect -f {{{{.NetworkSettings.Networks.bridge.IPAddress}}}} {name}")).succeeds();
    let (one, peer) = (address("one"), address("peer"));
    let text = tap(&berth, "one", &["--count", "40"], &format!("ping -c 1 -W 1 {peer}"));
    assert_eq!(text.lines().count(), 40, "{text}");
    assert!(text.contains(&format!("{one} > {peer}: ICMP echo request")), "{text}");
    assert!(text.contains(&format!("{peer} > {one}: ICMP echo reply")), "{text}");
}

#[test]
fn a_port_is_singled_out_and_loopback_is_seen_once() {
    let berth = start();
    berth.run("run -d --name one busybox sleep 600").succeeds();
    // Nobody listens: each is refused, which makes two packets.
    let doing = "nc -w 1 127.0.0.1 4000; nc -w 1 127.0.0.1 4001";
    let text = tap(&berth, "one", &["-c", "4", "-p", "4000"], doing);
    assert_eq!(text.lines().count(), 4, "{text}");
    let questions: Vec<_> = text.lines().filter(|line| line.contains("> 127.0.0.1.4000: Flags [S]")).collect();
    assert!(!questions.is_empty() && !text.contains(".4001:"), "{text}");
    let senders = questions.iter().map(|line| line.split(" IP ").nth(1)).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(senders.len(), questions.len(), "each packet once: {text}");
}

#[test]
fn a_capture_ends_with_its_container() {
    let berth = start();
    berth.run("run -d --name one busybox sleep 600").succeeds();
    let child = berth.command(Client::Berth, &["network", "tap", "one"]).stdout(Stdio::piped()).spawn();
    let child = child.expect("our program");
    std::thread::sleep(std::time::Duration::from_millis(100));
    berth.run("kill one").succeeds();
    let output = child.wait_with_output().expect("our child");
    assert!(output.status.success());
    // Whether it began before the end or not: a file it is, or nothing.
    assert!(output.stdout.is_empty() || !read_back(&output.stdout).contains("error"));
}

#[test]
fn what_cannot_be_captured_is_told() {
    let berth = start();
    berth.run("network tap nosuch").fails(1, "No such container: nosuch");
    berth.run("create --name one busybox true").succeeds();
    berth.run("network tap one").fails(1, "is not running");
    berth.run("run -d --name open --network host busybox sleep 600").succeeds();
    berth.run("network tap open").fails(1, "uses the host's network");
    berth.run("network tap --count 0 open").fails(1, "invalid count: 0");
}
