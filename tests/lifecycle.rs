//! start, stop, restart, kill, pause, wait, rename, rm, and restart policies.

use crate::{eventually, start};

#[test]
fn stop_kills_a_container_that_ignores_the_term_signal() {
    let berth = start();
    berth.run("run -d --name deaf busybox sh -c 'trap \"\" TERM; while true; do sleep 1; done'").succeeds();
    berth.run("stop -t 1 deaf").prints("deaf\n");
    berth.run("inspect -f {{.State.ExitCode}} deaf").prints("137\n");
}

#[test]
fn stop_sends_the_stop_signal_and_waits() {
    let berth = start();
    berth.run("run -d --name polite --stop-signal USR1 busybox sh -c 'trap \"exit 3\" USR1; while true; do sleep 0.1; done'").succeeds();
    eventually("the trap is set", || berth.run("stop polite").code == 0);
    let code = berth.run("inspect -f {{.State.ExitCode}} polite").succeeds();
    assert!(code == "3" || code == "138", "{code}");
    berth.run("stop polite").prints("polite\n");
}

#[test]
fn a_stopped_container_starts_again_with_its_files() {
    let berth = start();
    berth.run("run --name twice busybox sh -c 'echo x >> /count; wc -l < /count'").prints("1\n");
    berth.run("start -a twice").prints("2\n");
    berth.run("start -a twice").prints("3\n");
    berth.run("logs twice").prints("1\n2\n3\n");
}

#[test]
fn kill_needs_a_running_container_and_a_known_signal() {
    let berth = start();
    berth.run("run -d --name kk busybox sleep 600").succeeds();
    berth.run("kill -s NOPE kk").fails(1, "NOPE");
    berth.run("kill kk").prints("kk\n");
    berth.run("wait kk").prints("137\n");
    berth.run("kill kk").fails(1, "is not running");
    berth.run("kill nosuch").fails(1, "No such container: nosuch");
}

#[test]
fn pause_freezes_and_unpause_thaws() {
    let berth = start();
    berth.run("run -d --name pp busybox sh -c 'while true; do date +%N; sleep 0.01; done'").succeeds();
    berth.run("pause pp").prints("pp\n");
    berth.run("inspect -f '{{.State.Status}} {{.State.Running}}' pp").prints("paused true\n");
    let before = berth.run("logs pp").stdout;
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(berth.run("logs pp").stdout, before);
    berth.run("exec pp true").fails(1, "is paused");
    berth.run("pause pp").fails(1, "already paused");
    berth.run("unpause pp").prints("pp\n");
    berth.run("exec pp true").succeeds();
    berth.run("pause pp").succeeds();
    berth.run("stop -t 1 pp").prints("pp\n");
}

#[test]
fn wait_gives_the_exit_code_of_each() {
    let berth = start();
    berth.run("run -d --name aa busybox sh -c 'sleep 0.2; exit 4'").succeeds();
    berth.run("run -d --name bb busybox true").succeeds();
    berth.run("wait aa bb").prints("4\n0\n");
    berth.run("wait nosuch").fails(1, "No such container: nosuch");
}

#[test]
fn rename_moves_the_name() {
    let berth = start();
    berth.run("create --name old busybox").succeeds();
    berth.run("create --name other busybox").succeeds();
    berth.run("rename old other").fails(1, "already in use");
    berth.run("rename old new").succeeds();
    berth.run("inspect -f {{.Name}} new").prints("/new\n");
    berth.run("rm old").fails(1, "No such container: old");
    berth.run("create --name old busybox").succeeds();
}

#[test]
fn rm_goes_on_after_an_error() {
    let berth = start();
    berth.run("create --name one busybox").succeeds();
    berth.run("create --name two busybox").succeeds();
    let outcome = berth.run("rm one nosuch two");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, "one\ntwo\n"));
    assert!(outcome.stderr.contains("No such container: nosuch"));
}

#[test]
fn a_policy_starts_a_failed_container_again() {
    let berth = start();
    berth.run("run -d --name again --restart on-failure:2 busybox sh -c 'echo x; exit 1'").succeeds();
    eventually("two restarts", || {
        berth.run("inspect -f '{{.RestartCount}} {{.State.Status}}' again").stdout == "2 exited\n"
    });
    berth.run("logs again").prints("x\nx\nx\n");
    berth.run("run --rm --restart always busybox").fails(125, "");
}

#[test]
fn stop_ends_a_restarting_container() {
    let berth = start();
    berth.run("run -d --name loop --restart always busybox false").succeeds();
    eventually("it restarts", || {
        berth.run("inspect -f {{.RestartCount}} loop").stdout.trim().parse::<u32>().is_ok_and(|n| n > 2)
    });
    berth.run("stop loop").succeeds();
    let count = berth.run("inspect -f '{{.RestartCount}} {{.State.Status}}' loop").succeeds();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(berth.run("inspect -f '{{.RestartCount}} {{.State.Status}}' loop").succeeds(), count);
}

#[test]
fn restart_begins_anew() {
    let berth = start();
    berth.run("run -d --name rr busybox sleep 600").succeeds();
    let before = berth.run("inspect -f {{.State.Pid}} rr").succeeds();
    berth.run("restart -t 0 rr").prints("rr\n");
    let after = berth.run("inspect -f '{{.State.Pid}}' rr").succeeds();
    assert_ne!(before, after);
    berth.run("inspect -f '{{.State.Status}} {{.RestartCount}}' rr").prints("running 0\n");
}

#[test]
fn top_shows_the_processes() {
    let berth = start();
    berth.run("run -d --name tt busybox sleep 600").succeeds();
    let table = berth.run("top tt").succeeds();
    assert!(table.starts_with("UID") && table.contains("sleep 600"), "{table}");
    berth.run("top tt -o pid,comm").shows("sleep");
}
