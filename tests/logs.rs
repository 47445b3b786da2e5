//! `berth logs`, and the log files.

use crate::{eventually, start};

#[test]
fn both_streams_are_kept_apart_and_in_order() {
    let berth = start();
    berth.run("run --name ll busybox sh -c 'echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three'").exits(0);
    let outcome = berth.run("logs ll");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("one\nthree\n", "two\n"));
    berth.run("logs -n 1 ll").prints("three\n");
    let stamped = berth.run("logs -t -n 1 ll").succeeds();
    assert!(stamped.ends_with(" three") && stamped.len() == "2006-01-02T15:04:05.000000000Z three".len(), "{stamped}");
    berth.run("logs --since 1h ll").shows("one");
    berth.run("logs --until 1h ll").prints("");
    berth.run("logs nosuch").fails(1, "No such container: nosuch");
}

#[test]
fn follow_ends_with_the_container() {
    let berth = start();
    berth.run("run -d --name ff busybox sh -c 'for i in 1 2 3; do echo $i; sleep 0.1; done'").succeeds();
    berth.run("logs -f ff").prints("1\n2\n3\n");
}

#[test]
fn files_are_rotated() {
    let berth = start();
    let id = berth
        .run("run -d --name rr --log-opt max-size=10k --log-opt max-file=3 busybox sh -c 'i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done'")
        .succeeds();
    berth.run("wait rr").prints("0\n");
    let directory = berth.root().join("containers").join(&id);
    let files = std::fs::read_dir(directory).expect("readable").flatten();
    let logs = files.filter(|file| file.file_name().to_string_lossy().contains("-json.log")).count();
    assert_eq!(logs, 3);
    berth.run("logs -n 2 rr").prints("line 998\nline 999\n");
}

#[test]
fn no_log_is_no_log() {
    let berth = start();
    berth.run("run --name nn --log-driver none busybox echo x").prints("x\n");
    berth.run("logs nn").fails(1, "configured logging driver does not support reading");
    berth.run("run --log-driver nosuch busybox").fails(125, "nosuch");
}

#[test]
fn the_log_goes_on_without_the_daemon() {
    let mut berth = start();
    berth.run("run -d --name on busybox sh -c 'i=0; while true; do echo $i; i=$((i+1)); sleep 0.01; done'").succeeds();
    berth.kill_daemon();
    std::thread::sleep(std::time::Duration::from_millis(300));
    berth.start_daemon();
    let lines: Vec<u32> = berth.run("logs on").succeeds().lines().map(|line| line.parse().expect("a number")).collect();
    assert!(lines.len() > 20 && lines.iter().copied().eq(0..lines.len() as u32), "{lines:?}");
    eventually("it goes on", || berth.run("logs on").stdout.lines().count() > lines.len());
}
