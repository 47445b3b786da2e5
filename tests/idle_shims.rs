//! A shim whose container is gone serves the next one; whatever becomes of it while it waits, nobody notices.

use std::{os::unix::fs::FileExt, process::Stdio};

use berth_testkit::{Berth, Client};
use rustix::process::{Pid, Signal};

use crate::{eventually, start};

/// The shims of an engine, as process numbers with their words.
fn shims(berth: &Berth) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for cgroup in berth.sandbox().cgroups() {
        let list = std::fs::read_to_string(cgroup.join("shims/cgroup.procs")).unwrap_or_default();
        for pid in list.lines().filter_map(|line| line.parse::<u32>().ok()) {
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            found.push((pid, words.replace('\0', " ").trim_end().to_owned()));
        }
    }
    found.sort();
    found.dedup();
    found.retain(|(_, words)| !words.contains("--zygote"));
    found
}

fn idle(berth: &Berth) -> Vec<u32> {
    shims(berth).into_iter().filter(|(_, words)| words == "berth-shim --idle").map(|(pid, _)| pid).collect()
}

/// The shim of a container that runs.
fn shim_of(berth: &Berth, name: &str) -> u32 {
    let id = berth.run(&format!("inspect -f {{{{.Id}}}} {name}")).succeeds();
    let words = format!("berth-shim -id {id}");
    let mut found = None;
    eventually("the shim has its words", || {
        found = shims(berth).into_iter().find(|(_, shown)| *shown == words).map(|(pid, _)| pid);
        found.is_some()
    });
    found.expect("just found")
}

/// Has a container come and go, so that one shim waits, and only one.
fn one_idle(berth: &Berth) -> u32 {
    berth.run("run --rm busybox true").succeeds();
    eventually("a shim waits, and all that were there", || {
        let idle = idle(berth).len();
        idle > 0 && shims(berth).len() == idle
    });
    let waiting = idle(berth);
    // There are more where one was not back yet when the next container came.
    for more in &waiting[1..] {
        signal(*more, Signal::KILL);
        eventually("it is gone", || is_gone(*more));
    }
    waiting[0]
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
    let _ = rustix::process::kill_process(pid, signal);
}

fn is_gone(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn the_shim_of_a_container_that_is_gone_serves_the_next() {
    let berth = start();
    let waiting = one_idle(&berth);
    berth.run("run -d --name second busybox sleep 600").succeeds();
    assert_eq!(shim_of(&berth, "second"), waiting);
    assert!(idle(&berth).is_empty());
    // All that one has of a shim.
    berth.run("exec second echo here").prints("here\n");
    berth.run("pause second").succeeds();
    berth.run("unpause second").succeeds();
    berth.run("run -d --name third busybox sh -c 'echo out; exec sleep 600'").succeeds();
    assert_ne!(shim_of(&berth, "third"), waiting);
    berth.run("stop -t 0 second").prints("second\n");
    berth.run("inspect -f {{.State.ExitCode}} second").prints("137\n");
    eventually("it waits again", || idle(&berth) == [waiting]);
    berth.run("start second").succeeds();
    assert_eq!(shim_of(&berth, "second"), waiting);
    berth.run("logs third").prints("out\n");
    berth.run("rm -f second third").succeeds();
}

#[test]
fn an_idle_shim_that_is_killed_is_not_missed() {
    let berth = start();
    for how in [Signal::KILL, Signal::TERM, Signal::KILL] {
        let waiting = one_idle(&berth);
        // Perhaps it is found dead, perhaps it dies on the way.
        signal(waiting, how);
        berth.run("run --rm busybox echo here").prints("here\n");
        eventually("it is gone", || is_gone(waiting));
    }
    let waiting = one_idle(&berth);
    signal(waiting, Signal::KILL);
    eventually("it is gone", || is_gone(waiting));
    berth.run("run --rm busybox echo here").prints("here\n");
}

#[test]
fn an_idle_shim_that_dies_before_it_reads_what_to_launch_is_replaced() {
    let berth = start();
    let waiting = one_idle(&berth);
    // It is chosen, for it lives, but cannot read any more.
    signal(waiting, Signal::STOP);
    let words = ["run", "--rm", "busybox", "echo", "here"].map(str::to_owned);
    let mut command = berth.command(Client::Berth, &words);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts");
    let bundles = berth.sandbox().run().join("bundles");
    eventually("it was chosen", || {
        let mut entries = std::fs::read_dir(&bundles).expect("made").flatten();
        entries.any(|entry| entry.path().join("config.json").exists())
    });
    signal(waiting, Signal::KILL);
    let output = command.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"here\n"[..]), "{output:?}");
}

#[test]
fn a_shim_that_is_killed_with_its_second_container_ends_that_one() {
    let berth = start();
    let waiting = one_idle(&berth);
    berth.run("run -d --name second busybox sleep 600").succeeds();
    assert_eq!(shim_of(&berth, "second"), waiting);
    let pid: u32 = berth.run("inspect -f {{.State.Pid}} second").succeeds().parse().expect("a pid");
    signal(waiting, Signal::KILL);
    eventually("it ended", || berth.run("inspect -f {{.State.Running}} second").stdout == "false\n");
    eventually("its process is gone", || is_gone(pid));
    berth.run("inspect -f {{.State.ExitCode}} second").prints("255\n");
    berth.run("rm second").succeeds();
    berth.run("run --rm busybox echo here").prints("here\n");
}

#[test]
fn idle_shims_end_with_their_daemon_and_serve_no_other() {
    let mut berth = start();
    let waiting = one_idle(&berth);
    berth.run("run -d --name live busybox sleep 600").succeeds();
    assert_eq!(shim_of(&berth, "live"), waiting);
    let other = {
        berth.run("run --rm busybox true").succeeds();
        eventually("another one waits", || idle(&berth).len() == 1);
        idle(&berth)[0]
    };
    berth.kill_daemon();
    eventually("it has ended", || is_gone(other));
    berth.start_daemon();
    // Found again, it serves its container to the end, and no more: it may be of an older program.
    assert_eq!(shim_of(&berth, "live"), waiting);
    berth.run("rm -f live").succeeds();
    eventually("it has ended", || is_gone(waiting));
    let waiting = one_idle(&berth);
    berth.stop_daemon();
    eventually("it has ended", || is_gone(waiting));
    berth.start_daemon();
}

#[test]
fn only_a_few_wait() {
    let berth = start();
    let names: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    for name in &names {
        berth.run(&format!("run -d --name {name} busybox sleep 600")).succeeds();
    }
    berth.run(&format!("rm -f {}", names.join(" "))).succeeds();
    eventually("four are left", || shims(&berth).len() == 4 && idle(&berth).len() == 4);
}

#[test]
fn shims_of_containers_that_could_reach_them_serve_nobody_else() {
    let berth = start();
    berth.run("run -d --name other --ipc shareable busybox sleep 600").succeeds();
    for options in ["--privileged", "--pid host", "--ipc container:other"] {
        berth.run(&format!("run -d --name one {options} busybox sleep 600")).succeeds();
        let shim = shim_of(&berth, "one");
        berth.run("rm -f one").succeeds();
        eventually(options, || is_gone(shim));
    }
    berth.run("rm -f other").succeeds();
}

#[test]
fn what_one_container_was_given_the_next_has_not() {
    let berth = start();
    let look = "sh -c 'ulimit -n; cat /proc/self/oom_score_adj; grep -e Cap -e NoNew -e Seccomp: /proc/self/status; umask; env'";
    let plain = berth.run(&format!("run --rm --hostname same busybox {look}")).succeeds();
    for options in [
        "--oom-score-adj 500 --ulimit nofile=77:99 -e SECRET=one",
        "--cap-add ALL --security-opt seccomp=unconfined --security-opt no-new-privileges",
        "--privileged",
        "--user 5:6 --read-only --memory 64m --pids-limit 20 --init",
    ] {
        assert_ne!(berth.run(&format!("run --rm --hostname same {options} busybox {look}")).stdout.trim_end(), plain);
        assert_eq!(berth.run(&format!("run --rm --hostname same busybox {look}")).succeeds(), plain, "{options}");
    }
}

#[test]
fn starts_at_the_same_time_get_a_shim_each() {
    let berth = start();
    for round in 0..4 {
        let commands: Vec<_> = (0..6)
            .map(|number| {
                let text = format!("{round}-{number}");
                let words = ["run", "--rm", "busybox", "echo", &text].map(str::to_owned);
                let mut command = berth.command(Client::Berth, &words);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                (text, command.spawn().expect("the client starts"))
            })
            .collect();
        for (text, command) in commands {
            let output = command.wait_with_output().expect("it ends");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), text, "{output:?}");
        }
    }
    eventually("some wait, and nobody is left", || {
        let idle = idle(&berth).len();
        (1..=4).contains(&idle) && shims(&berth).len() == idle
    });
}

#[test]
fn nothing_of_a_container_is_in_the_memory_of_the_shim_that_waits() {
    let berth = start();
    let secret = |place: &str| format!("{place}-zq{}", std::process::id());
    let options = format!("-e PASSWORD={} --label note={}", secret("environment"), secret("label"));
    let command = format!("sh -c 'cat; echo {}'", secret("printed"));
    let typed = format!("{}\n", secret("typed"));
    let outcome = berth.run_with_input(&format!("run -i --name one {options} busybox {command}"), typed.as_bytes());
    outcome.prints(&format!("{typed}{}\n", secret("printed")));
    eventually("the shim waits", || idle(&berth).len() == 1);
    let shim = idle(&berth)[0];
    for place in ["environment", "label", "printed", "typed"] {
        assert!(!remembers(shim, &secret(place)), "{place}");
    }
    // The search finds what is there.
    assert!(remembers(shim, "berth-shim"));
    berth.run("rm one").succeeds();
}

/// Whether a text is anywhere in the memory that a process can write.
fn remembers(pid: u32, text: &str) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("we may");
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains('w'))).any(|line| {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("a number"));
        let mut bytes = vec![0; usize::try_from(end - start).expect("it fits")];
        memory.read_exact_at(&mut bytes, start).expect("readable");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
