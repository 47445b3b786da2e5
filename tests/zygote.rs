//! What shims are forked from: it may go at any time, and nobody's container notices.

use std::path::PathBuf;

use berth_testkit::{Berth, Client};

use crate::{eventually, start};

/// The words and the parent of a process.
fn process(pid: u32) -> Option<(String, u32)> {
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
    Some((words, parent))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("mounted").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The zygote of a daemon that runs.
fn zygote(berth: &Berth) -> Option<u32> {
    let daemon = berth.daemon_pid();
    processes().find(|pid| {
        process(*pid).is_some_and(|(words, parent)| parent == daemon && words.contains("berth-shim --zygote"))
    })
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn is_gone(pid: u32) -> bool {
    !PathBuf::from(format!("/proc/{pid}")).exists()
}

#[test]
fn a_shim_is_shown_with_its_container() {
    let berth = start();
    let id = berth.run("run -d busybox sleep 600").succeeds();
    let words = format!("berth-shim -id {} ", id.trim());
    eventually("the shim has its words", || {
        processes().filter_map(process).any(|(shown, _)| shown.starts_with(&words))
    });
    berth.run(&format!("rm -f {id}")).succeeds();
}

#[test]
fn when_it_is_killed_containers_run_on_and_others_start() {
    let berth = start();
    berth.run("run -d --name live busybox sleep 600").succeeds();
    for _ in 0..2 {
        let zygote = zygote(&berth).expect("the daemon has one");
        kill(zygote);
        eventually("it leaves no zombie", || is_gone(zygote));
        berth.run("exec live echo here").prints("here\n");
        berth.run("run --rm busybox echo another").prints("another\n");
    }
    berth.run("stop -t 0 live").prints("live\n");
    berth.run("inspect -f {{.State.ExitCode}} live").prints("137\n");
    berth.run("rm live").succeeds();
}

#[test]
fn when_it_is_killed_among_starts_each_works_or_leaves_nothing() {
    let berth = start();
    for round in 0..4 {
        let commands: Vec<_> = (0..3)
            .map(|_| {
                let words = ["run", "--rm", "busybox", "echo", "done"].map(str::to_owned);
                let mut command = berth.command(Client::Berth, &words);
                command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                command.spawn().expect("the client starts")
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(5 * round));
        zygote(&berth).into_iter().for_each(kill);
        for command in commands {
            let output = command.wait_with_output().expect("it ends");
            let errors = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => assert_eq!(output.stdout, b"done\n"),
                code => assert!(code == Some(125) && errors.starts_with("berth: "), "{code:?} {errors}"),
            }
        }
    }
    berth.run("run --rm busybox echo again").prints("again\n");
    eventually("all are gone", || berth.run("ps -aq").stdout.is_empty());
}

#[test]
fn it_ends_with_its_daemon_and_the_next_one_has_its_own() {
    let mut berth = start();
    berth.run("run -d --name live busybox sleep 600").succeeds();
    let first = zygote(&berth).expect("the daemon has one");
    berth.kill_daemon();
    eventually("it has ended", || is_gone(first));
    berth.start_daemon();
    assert_ne!(zygote(&berth).expect("the daemon has one"), first);
    berth.run("exec live echo here").prints("here\n");
    berth.run("rm -f live").succeeds();
}
