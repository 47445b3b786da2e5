//! The daemon dies at any time; nothing is lost, nothing is left.

use crate::{eventually, start};

#[test]
fn a_container_does_not_notice_that_the_daemon_died() {
    let mut berth = start();
    berth.run("run -d --name live busybox sleep 600").succeeds();
    let pid = berth.run("inspect -f {{.State.Pid}} live").succeeds();
    berth.kill_daemon();
    berth.start_daemon();
    berth.run("inspect -f '{{.State.Pid}} {{.State.Status}}' live").prints(&format!("{pid} running\n"));
    berth.run("exec live echo here").prints("here\n");
    berth.run("stop -t 0 live").prints("live\n");
    berth.run("inspect -f {{.State.ExitCode}} live").prints("137\n");
}

#[test]
fn exits_without_a_daemon_are_kept() {
    let mut berth = start();
    berth.run("run -d --name short busybox sh -c 'sleep 0.3; exit 5'").succeeds();
    berth.run("run -d --rm --name gone busybox sleep 0.3").succeeds();
    berth.kill_daemon();
    std::thread::sleep(std::time::Duration::from_millis(800));
    berth.start_daemon();
    berth.run("inspect -f '{{.State.Status}} {{.State.ExitCode}}' short").prints("exited 5\n");
    eventually("--rm is done", || berth.run("inspect gone").code == 1);
    let times = berth.run("inspect -f '{{.State.StartedAt}} {{.State.FinishedAt}}' short").succeeds();
    let (started, finished) = times.split_once(' ').expect("two");
    assert!(started < finished);
}

#[test]
fn a_daemon_killed_while_containers_come_and_go_leaves_nothing() {
    let mut berth = start();
    for round in 0..6 {
        let commands: Vec<_> = (0..3)
            .map(|number| {
                let name = format!("c{round}-{number}");
                let words = ["run", "--rm", "--name", &name, "busybox", "sleep", "0.05"].map(str::to_owned);
                let mut command = berth.command(berth_testkit::Client::Berth, &words);
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                command.spawn().expect("the client starts")
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(7 * round));
        berth.kill_daemon();
        for mut command in commands {
            let _ = command.wait();
        }
        berth.start_daemon();
    }
    eventually("all are gone", || berth.run("ps -q").stdout.is_empty());
    for id in berth.run("ps -aq").succeeds().lines() {
        berth.run(&format!("rm {id}")).succeeds();
    }
}

#[test]
fn a_shim_that_was_killed_ends_its_container() {
    let berth = start();
    berth.run("run -d --name orphan busybox sleep 600").succeeds();
    let pid: i32 = berth.run("inspect -f {{.State.Pid}} orphan").succeeds().parse().expect("a pid");
    let shim = parent_of(pid);
    kill(shim);
    eventually("it ended", || berth.run("inspect -f {{.State.Running}} orphan").stdout == "false\n");
    eventually("its process is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_start_whose_daemon_and_shim_are_killed_is_settled() {
    let mut berth = start();
    for (rm, point, noted) in [
        ("--rm", "start:launched", false),
        ("--rm", "start:submitted", false),
        ("--rm", "start:submitted", true),
        ("", "start:launched", true),
        ("", "start:launched", false),
    ] {
        let id = berth.run(&format!("create --name cc {rm} busybox sleep 600")).succeeds();
        berth.start_daemon_to_die(point);
        assert_ne!(berth.run("start cc").code, 0, "{point}");
        berth.await_death();
        let note = berth.sandbox().run().join("shims").join(&id).join("shim.json");
        if noted {
            eventually("the shim has noted the start", || note.exists());
        }
        let shim = pid_with(&id).expect("a shim is there");
        kill(shim);
        eventually("it has gone", || pid_with(&id).is_none());
        berth.start_daemon();
        if rm.is_empty() {
            berth.run("inspect -f '{{.State.Status}} {{.State.ExitCode}}' cc").prints("exited 255\n");
            berth.run("rm cc").succeeds();
        }
        eventually(point, || berth.run("ps -aq").succeeds().is_empty());
        // The name is free again.
        berth.run("run --rm --name cc busybox true").succeeds();
    }
}

#[test]
fn a_start_of_which_nobody_could_tell_any_more_counts_as_a_run() {
    let mut berth = start();
    // Again: of the run before, an exit is on record.
    let runs = [("ran", "--restart no", true), ("fresh", "--restart on-failure", false)];
    for (name, policy, before) in runs {
        let id = berth.run(&format!("create --name {name} {policy} busybox sleep 600")).succeeds();
        if before {
            berth.run(&format!("start {name}")).succeeds();
            berth.run(&format!("stop -t 0 {name}")).succeeds();
        }
        let first = berth.run(&format!("inspect -f {{{{.State.FinishedAt}}}} {name}")).succeeds();
        berth.start_daemon_to_die("start:launched");
        assert_ne!(berth.run(&format!("start {name}")).code, 0);
        berth.await_death();
        kill(pid_with(&id).expect("a shim is there"));
        eventually("it has gone", || pid_with(&id).is_none());
        berth.start_daemon();
        let shown = |field: &str| berth.run(&format!("inspect -f {{{{.State.{field}}}}} {name}")).succeeds();
        if before {
            assert_eq!(shown("ExitCode"), "255");
            assert_ne!(shown("FinishedAt"), first, "the second run has ended since");
        } else {
            eventually("its policy has it started again", || shown("Status") == "running");
        }
    }
    // What is over and on record is not told a second time.
    let ended = berth.run("inspect -f '{{.State.FinishedAt}} {{.RestartCount}}' ran").succeeds();
    berth.kill_daemon();
    berth.start_daemon();
    berth.run("inspect -f '{{.State.FinishedAt}} {{.RestartCount}}' ran").prints(&format!("{ended}\n"));
}

#[test]
fn a_daemon_waits_for_one_that_is_still_dying_and_for_no_other() {
    let mut berth = start();
    let second = || {
        let mut command = berth.sandbox().command(std::path::Path::new(crate::BERTH));
        command.args(["daemon", "--data-root"]).arg(berth.sandbox().root());
        command.arg("--exec-root").arg(berth.sandbox().run().join("second"));
        berth_testkit::Outcome::of(&mut command, b"")
    };
    let taken = format!("another berthd (pid {}) uses {}", berth.daemon_pid(), berth.sandbox().root().display());
    second().fails(1, &taken);
    berth.kill_daemon();
    // A thread of the dead daemon that has not left the kernel would hold the lock just so.
    let lock = std::fs::File::open(berth.sandbox().root().join("berthd.lock")).expect("a lock");
    lock.lock().expect("it is dead");
    let left = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(lock);
    });
    berth.start_daemon();
    left.join().expect("it left");
}

/// The process that has that word among those it was started with.
fn pid_with(word: &str) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").expect("mounted").flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ours");
}

fn parent_of(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    line.trim().parse().expect("a number")
}

#[test]
fn no_daemon_is_said_in_one_line() {
    let nowhere = "unix:///nonexistent/nowhere.sock";
    let mut command = std::process::Command::new(crate::BERTH);
    let outcome = berth_testkit::Outcome::of(command.args(["-H", nowhere, "ps"]), b"");
    outcome.fails(1, nowhere);
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
}
