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

/// Files of a container's `local` log, in order of their names.
fn local_files(berth: &berth_testkit::Berth, id: &str) -> Vec<String> {
    let entries = std::fs::read_dir(berth.root().join("containers").join(id).join("local-logs")).expect("readable");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_local_log_is_read_like_any_other() {
    let berth = start();
    let script = "echo one; echo two >&2; printf \"\\377\\n\"; printf torn";
    let id = berth
        .run(&format!(
            "run -d --name ll --log-driver local --log-opt labels=who --label who=me busybox sh -c '{script}'"
        ))
        .succeeds();
    berth.run("wait ll").prints("0\n");
    assert_eq!(local_files(&berth, &id), ["container.log"]);
    berth.run("inspect -f '{{.HostConfig.LogConfig.Type}} [{{.LogPath}}]' ll").prints("local []\n");
    for client in [berth_testkit::Client::Berth, berth_testkit::Client::Docker] {
        let outcome = berth.run_as(client, "logs ll");
        assert_eq!(outcome.stderr, "two\n");
        assert!(outcome.stdout.starts_with("one\n") && outcome.stdout.ends_with("\ntorn"), "{outcome:?}");
        berth.run_as(client, "logs -n 1 ll").prints("torn");
        berth.run_as(client, "logs --until 1h ll").prints("");
        assert!(berth.run_as(client, "logs --details --since 1h ll").stdout.starts_with("who=me one\n"));
    }
    // What the container wrote comes as it was, also where it is no text.
    let (words, log) = (["logs", "ll"], b"one\n\xff\ntorn");
    let mut command = berth.command(berth_testkit::Client::Berth, &words);
    assert_eq!(command.output().expect("it runs").stdout, log);
    assert!(berth.run("start -a ll").stdout.ends_with("torn"));
    assert_eq!(berth.run("logs ll").stderr, "two\ntwo\n");
}

#[test]
fn labels_and_variables_of_a_log_are_chosen_by_patterns() {
    let berth = start();
    for driver in ["json-file", "local"] {
        let options = "--log-opt labels-regex=^com[.] --log-opt env-regex=^(A|B)$ --log-opt env=C";
        let given = "--label com.x=1 --label other=2 -e A=3 -e AB=4 -e C=5";
        let run = format!("run --name pp --log-driver {driver} {options} {given} busybox echo line");
        berth.run(&run).prints("line\n");
        berth.run("logs --details pp").prints("A=3,C=5,com.x=1 line\n");
        berth.run("rm pp").succeeds();
    }
    let refused = "env-regex is no regular expression: (: unclosed group";
    berth.run("run --log-opt env-regex=( busybox true").fails(125, refused);
}

#[test]
fn a_local_log_is_rotated_compressed_and_followed() {
    let berth = start();
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; sleep 0.2; echo end";
    let options = "--log-driver local --log-opt max-size=10k --log-opt max-file=3";
    let id = berth.run(&format!("run -d --name rr {options} busybox sh -c '{script}'")).succeeds();
    let followed = berth.run("logs -f -n 3 rr").succeeds();
    assert!(followed.ends_with("end"), "{followed}");
    berth.run("wait rr").prints("0\n");
    eventually("rotated files are compressed", || {
        local_files(&berth, &id) == ["container.log", "container.log.1.gz", "container.log.2.gz"]
    });
    berth.run("logs -n 3 rr").prints("line 1998\nline 1999\nend\n");
    let kept = berth.run("logs rr").succeeds();
    let first = kept.lines().next().expect("a line");
    let number: usize = first.trim_start_matches("line ").parse().expect("a whole line");
    // The oldest are gone, and of the others none is missing.
    assert!(number > 0 && kept.lines().count() == 2001 - number, "{first}");
    berth
        .run("run --log-driver local --log-opt nope=1 busybox")
        .fails(125, "unknown log opt 'nope' for log driver local");
    let one = "run --log-driver local --log-opt max-file=1 busybox";
    berth.run(one).fails(125, "compression cannot be enabled when max file count is 1");
}

#[test]
fn a_daemon_has_a_log_driver_of_its_choice() {
    let berth = berth_testkit::Berth::start_empty(crate::BERTH, &["--log-driver", "local", "--log-opt", "max-file=7"]);
    berth.run("info -f {{.LoggingDriver}}").prints("local\n");
    berth.run("create --name cc --log-opt max-size=1m hello-world").succeeds();
    let format = "'{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}}'";
    berth.run(&format!("inspect -f {format} cc")).prints("local map[max-file:7 max-size:1m]\n");
}
