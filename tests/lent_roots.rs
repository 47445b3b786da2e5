//! Roots that one container leaves to the next (docs/design/lent-roots.md): who gets one, and that nobody finds anything in it.

use berth_testkit::Berth;

use crate::{eventually, start};

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
    // What a run leaves is there a moment after its end.
    eventually("the root is lent", || run(berth, options, what) == run(berth, options, what));
}

/// Each run has its own.
fn is_not_lent(berth: &Berth, options: &str, what: &str) {
    let makers: std::collections::BTreeSet<String> = (0..4)
        .map(|_| {
            let maker = run(berth, options, what);
            eventually("the last one is gone", || berth.run("ps -aq").stdout.is_empty());
            std::thread::sleep(std::time::Duration::from_millis(20));
            maker
        })
        .collect();
    assert_eq!(makers.len(), 4, "{options} {what}");
}

#[test]
fn whoever_writes_nothing_leaves_its_root_to_the_next_of_the_same() {
    let berth = start();
    is_lent(&berth, "", "true");
    is_lent(&berth, "--network none --read-only -e A=b", "ls /");
    let (other, one) = (run(&berth, "", "exit 0"), run(&berth, "", "true"));
    assert_ne!(other, one, "another command is another description");
    // No layer is held by a root that waits.
    berth.run("rmi -f busybox").succeeds();
}

#[test]
fn whoever_could_leave_something_behind_does_not() {
    let berth = start();
    for what in ["echo x > /tmp/x", "mkdir /d; rmdir /d", "chmod 711 /; chmod 755 /", "rm -r /etc/passwd /bin/wget"] {
        is_not_lent(&berth, "", what);
    }
    for options in ["-i", "-v vol:/v", "--privileged", "--cap-add SYS_ADMIN", "--network host", "--pid host"] {
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
    let rounds: Vec<_> = (0..4).map(|_| berth.docker(&format!("run --rm busybox sh -c '{look}'")).succeeds()).collect();
    assert!(rounds.iter().all(|shown| *shown == first), "{rounds:?}");
}

#[test]
fn visitors_end_the_loan() {
    let berth = start();
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
        eventually("it is gone", || berth.run("ps -aq").stdout.is_empty());
        std::thread::sleep(std::time::Duration::from_millis(20));
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
    let mut berth = start();
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
