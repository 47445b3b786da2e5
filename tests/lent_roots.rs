//! Roots that one container leaves to the next (docs/design/lent-roots.md): who gets one, and that nobody finds anything in it.

use berth_testkit::{Berth, Client};

use crate::{eventually, start};

/// A daemon, where kernel and file system can lend (docs/design/lent-roots.md says which do).
fn start_lender() -> Option<Berth> {
    const FINE_TIMES: [i64; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994];
    let berth = start();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let kind = rustix::fs::statfs(berth.sandbox().visible_root()).expect("there").f_type;
    let lends = version >= (6, 15) && FINE_TIMES.contains(&kind);
    if !lends {
        eprintln!("Linux {release} lends no roots on a file system of type {kind:#x}");
    }
    lends.then_some(berth)
}

/// Waits until nothing is left of the containers that have ended.
fn await_ends(berth: &Berth) {
    let layers = berth.sandbox().visible_root().join("snapshots/rw");
    eventually("the last one is gone", || std::fs::read_dir(&layers).is_ok_and(|mut left| left.next().is_none()));
}

/// Prints the options of the overlay that is the container's root; they name the container that it was made for.
const SHOW: &str = "sed -n \"s/.* \\/ \\/ .*upperdir=.*rw.\\([0-9a-f]*\\).upper.*/\\1/p\" /proc/self/mountinfo";

/// Runs a container that first shows whose root it has, then does `what`; gives what it showed.
fn run(berth: &Berth, options: &str, what: &str) -> String {
    let output = berth.run(&format!("run --rm {options} busybox sh -c '{SHOW}; {what}'")).succeeds();
    let maker = output.lines().next().unwrap_or_default().to_owned();
    assert_eq!(maker.len(), 64, "{output}");
    maker
}

/// Whether runs of the same come to have the same root.
fn is_lent(berth: &Berth, options: &str, what: &str) {
    // It waits for the next one a moment after the last one has gone.
    eventually("the root is lent", || {
        let first = run(berth, options, what);
        await_ends(berth);
        let second = run(berth, options, what);
        await_ends(berth);
        first == second
    });
}

/// Each run has its own.
fn is_not_lent(berth: &Berth, options: &str, what: &str) {
    let makers: std::collections::BTreeSet<String> = (0..4)
        .map(|_| {
            let maker = run(berth, options, what);
            await_ends(berth);
            maker
        })
        .collect();
    assert_eq!(makers.len(), 4, "{options} {what}");
}

#[test]
fn whoever_writes_nothing_leaves_its_root_to_the_next_of_the_same() {
    let Some(berth) = start_lender() else { return };
    is_lent(&berth, "", "true");
    is_lent(&berth, "--network none --read-only -e A=b", "ls /");
    let (other, one) = (run(&berth, "", "exit 0"), run(&berth, "", "true"));
    assert_ne!(other, one, "another command is another description");
    // No layer is held by a root that waits.
    berth.run("rmi -f busybox").succeeds();
}

#[test]
fn whoever_could_leave_something_behind_does_not() {
    let Some(berth) = start_lender() else { return };
    is_lent(&berth, "--label lent=yes", "true");
    for what in ["echo x > /tmp/x", "mkdir /d; rmdir /d", "chmod 711 /; chmod 755 /", "rm -r /etc/passwd /bin/wget"] {
        is_not_lent(&berth, "", what);
    }
    for options in [
        "-i",
        "-v vol:/v",
        "--privileged",
        "--cap-add SYS_ADMIN",
        "--network host",
        "--pid host",
        "--security-opt seccomp=unconfined",
    ] {
        is_not_lent(&berth, options, "true");
    }
}

#[test]
fn nothing_of_a_former_run_is_found() {
    let berth = start();
    let look =
        "ls -A / /tmp /root; stat -c %a,%u,%g /; echo secret > /tmp/kept; touch /new; chmod 700 /; rm -f /bin/vi";
    let first = berth.run(&format!("run --rm busybox sh -c '{look}'")).succeeds();
    for _ in 0..4 {
        berth.run(&format!("run --rm busybox sh -c '{look}'")).prints(&format!("{first}\n"));
    }
    // By the client that is not ours too, several at once.
    let words = ["run", "--rm", "busybox", "sh", "-c", look].map(str::to_owned);
    let started: Vec<_> = [Client::Berth, Client::Docker, Client::Berth, Client::Docker]
        .map(|client| berth.command(client, &words).stdout(std::process::Stdio::piped()).spawn().expect("it starts"))
        .into();
    for run in started {
        let output = run.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{first}\n"));
    }
}

#[test]
fn visitors_end_the_loan() {
    let Some(berth) = start_lender() else { return };
    let deed = "trap exit TERM; while ! test -e /go && ! test -e /dev/shm/go; do sleep 0.02; done";
    let run = || berth.run(&format!("run -d --rm --name one busybox sh -c '{SHOW}; {deed}'")).succeeds();
    let maker = || {
        run();
        let mut shown = String::new();
        eventually("it has shown its root", || {
            shown = berth.run("logs one").succeeds();
            !shown.is_empty()
        });
        shown
    };
    let end = || {
        berth.run("stop -t 1 one").succeeds();
        await_ends(&berth);
    };
    eventually("it is lent", || {
        let first = maker();
        end();
        let second = maker();
        end();
        first == second
    });
    let visits: [&str; 3] =
        ["exec one true", "run --rm --pid container:one busybox true", "run --rm --network container:one busybox true"];
    for visit in visits {
        let visited = maker();
        berth.run(visit).succeeds();
        end();
        let next = maker();
        end();
        assert_ne!(visited, next, "{visit}");
    }
}

#[test]
fn a_killed_daemon_leaves_none() {
    let Some(mut berth) = start_lender() else { return };
    is_lent(&berth, "", "true");
    let before = run(&berth, "", "true");
    berth.kill_daemon();
    berth.start_daemon();
    assert_ne!(run(&berth, "", "true"), before);
    is_lent(&berth, "", "true");
}

#[test]
fn what_is_copied_into_a_created_container_is_there() {
    let berth = start();
    let command = "busybox cat /copied";
    for round in 0..3 {
        let text = format!("round {round}");
        let source = berth.sandbox().path().join("copied");
        std::fs::write(&source, &text).expect("written");
        berth.run(&format!("create --rm --name copied {command}")).succeeds();
        berth.run(&format!("cp {} copied:/copied", source.display())).succeeds();
        berth.run("start -a copied").prints(&text);
        eventually("it is gone", || berth.run("ps -aq").stdout.is_empty());
        berth.run(&format!("run --rm {command}")).exits(1);
    }
}
