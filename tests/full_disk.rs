//! The disk is full at each step: the error says where space is needed, what runs goes on, nothing is left half done, and with space again
//! everything works.

use berth_testkit::{Berth, Outcome};
use serde_json::json;

use crate::eventually;

/// Enough for the image, twice, and for the databases.
const MEBIBYTES: u32 = 64;

/// An engine on a small disk with the `busybox` image and a container that prints numbers.
fn start() -> Berth {
    let berth = Berth::start_on_small_disk(crate::BERTH, MEBIBYTES);
    let archive = berth.sandbox().path().join("busybox.tar");
    std::fs::write(&archive, berth_testkit::busybox_tar()).expect("room for 3 MB");
    berth.run(&format!("import -c 'CMD [\"sh\"]' {} busybox", archive.display())).succeeds();
    berth.run("run -d --name live busybox sh -c 'while true; do date +%s; sleep 0.05; done'").succeeds();
    berth
}

/// It must have failed with one line that says that this directory has no space left.
#[track_caller]
fn is_full(outcome: &Outcome, code: i32, directory: &std::path::Path) {
    outcome.fails(code, "no space left");
    let directory = directory.display().to_string();
    assert!(outcome.stderr.contains(&directory), "it does not say where, in {directory}: {outcome:#?}");
    assert_eq!(outcome.stderr.lines().filter(|line| line.contains("no space left")).count(), 1, "{outcome:#?}");
}

/// Everything works again, and what ran still runs.
#[track_caller]
fn goes_on(berth: &Berth) {
    berth.sandbox().leave_free(30_000);
    berth.run("exec live echo here").prints("here\n");
    berth.run("run --rm busybox echo well").prints("well\n");
}

#[test]
fn import_and_load() {
    let berth = start();
    let path = berth.sandbox().path().to_owned();
    berth.run(&format!("save -o {}/saved.tar busybox", path.display())).succeeds();
    let mut other = berth_testkit::busybox_tar();
    other.truncate(other.len() - 1024); // Less its end: another layer, so that none of it is here already.
    other.extend([0; 4096]);
    std::fs::write(path.join("other.tar"), other).expect("room for 3 MB");
    let before = berth.footprint();
    for free in [0, 300, 2600] {
        berth.sandbox().leave_free(free);
        let outcome = berth.run(&format!("import {}/other.tar other", path.display()));
        is_full(&outcome, 1, &berth.root());
        berth.footprint_is(&before);
    }
    goes_on(&berth);
    berth.run(&format!("import {}/other.tar other", path.display())).succeeds();
    berth.run("rmi other").succeeds();

    let empty = Berth::start_on_small_disk(crate::BERTH, MEBIBYTES);
    let before = empty.footprint();
    for free in [0, 300, 2600] {
        empty.sandbox().leave_free(free);
        let outcome = empty.run(&format!("load -i {}/saved.tar", path.display()));
        is_full(&outcome, 1, &empty.root());
        empty.footprint_is(&before);
    }
    empty.sandbox().leave_free(30_000);
    empty.run(&format!("load -i {}/saved.tar", path.display())).prints("Loaded image: busybox:latest\n");
    empty.run("run --rm busybox echo well").prints("well\n");
}

#[test]
fn pull() {
    let berth = start();
    let registry = berth_testkit::Registry::start(crate::BERTH, berth.sandbox(), 5000, &[]);
    let path = berth.sandbox().path().display().to_string();
    // A layer of 6 MiB that cannot be compressed.
    assert_eq!(
        berth.sandbox().shell(&format!("cd {path} && head -c 6291456 /dev/urandom > noise && tar -cf noise.tar noise")),
        ""
    );
    berth.run(&format!("import {path}/noise.tar localhost:5000/noise:1")).succeeds();
    berth.run("push localhost:5000/noise:1").succeeds();
    berth.run("rmi localhost:5000/noise:1").succeeds();
    let layers = || std::fs::read_dir(berth.sandbox().visible_root().join("snapshots/layers")).expect("layers").count();
    let before = layers();
    // While the blob comes, and while it is unpacked.
    for free in [0, 2_000, 9_000] {
        berth.sandbox().leave_free(free);
        is_full(&berth.run("pull -q localhost:5000/noise:1"), 1, &berth.root());
        berth.run("images -q localhost:5000/noise").prints("");
        assert_eq!(layers(), before, "no layer is half there");
        berth.run("exec live echo here").prints("here\n");
    }
    berth.sandbox().leave_free(40_000);
    let sent = || {
        let metrics = registry.request("GET", "/metrics", &[], b"").text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("berth_registry_response_bytes_total{route=\"blob\",class=\"2xx\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = sent();
    berth.run("pull -q localhost:5000/noise:1").prints("localhost:5000/noise:1\n");
    assert!(sent() - before < 5 << 20, "what came before is not fetched again: {}", sent() - before);
    berth.run("fsck").shows("all good");
    berth.run("rmi localhost:5000/noise:1").succeeds();
    goes_on(&berth);
}

#[test]
fn create_and_the_databases() {
    let berth = start();
    let before = berth.footprint();
    berth.sandbox().leave_free(0);
    // The journal of a database may have room for some records more.
    let names: Vec<String> = (0..200).map(|number| format!("n{number}")).collect();
    let failed = names.iter().map(|name| berth.run(&format!("create --name {name} busybox"))).find(|o| o.code != 0);
    is_full(&failed.expect("no disk is endless"), 1, &berth.root());
    let (status, body) = berth.api("POST", "/containers/create?name=more", Some(&json!({"Image": "busybox"})));
    assert!(status == 500 && body["message"].as_str().is_some_and(|text| text.contains("no space left")), "{body}");
    is_full(&berth.run("volume create more"), 1, &berth.root());
    is_full(&berth.run("tag busybox more"), 1, &berth.root());
    is_full(&berth.run("rename live more"), 1, &berth.root());
    berth.run("inspect more").fails(1, "No such");
    berth.run("exec live echo here").prints("here\n");
    goes_on(&berth);
    for name in names.iter().take_while(|name| berth.run(&format!("inspect {name}")).code == 0) {
        berth.run(&format!("rm {name}")).succeeds();
    }
    berth.footprint_is(&before);
}

#[test]
fn an_exit_is_not_lost() {
    let mut berth = start();
    berth.run("run -d -i --name ends busybox sh -c 'sleep 1; exit 9'").succeeds();
    berth.sandbox().leave_free(0);
    // Until the journal has no room either.
    while berth.run("volume create").code == 0 {}
    berth.run("wait ends").prints("9\n");
    berth.run("inspect -f '{{.State.Status}} {{.State.ExitCode}}' ends").prints("exited 9\n");
    berth.kill_daemon();
    berth.sandbox().leave_free(30_000);
    berth.start_daemon();
    berth.run("inspect -f '{{.State.Status}} {{.State.ExitCode}}' ends").prints("exited 9\n");
    goes_on(&berth);
}

#[test]
fn the_daemon_says_so_when_it_cannot_start() {
    let mut berth = start();
    berth.stop_daemon();
    berth.sandbox().leave_free(0);
    berth.start_daemon();
    berth.run("exec live echo here").prints("here\n");
    goes_on(&berth);
}

#[test]
fn start_() {
    let berth = start();
    berth.run("create --name cc busybox echo started").succeeds();
    let bundles = berth.sandbox().run().join("bundles");
    let over = bundles.display();
    assert_eq!(berth.sandbox().shell(&format!("mount -t tmpfs -o size=4k,nr_inodes=3 full {over} 2>&1")), "");
    let before = berth.footprint();
    for _ in 0..2 {
        is_full(&berth.run("start -a cc"), 1, &bundles);
    }
    berth.run("inspect -f '{{.State.Status}} {{.State.ExitCode}}' cc").prints("created 128\n");
    // The shim that was to be its own ends by itself.
    berth.footprint_is(&before);
    berth.run("run --rm busybox true").fails(125, "no space left");
    berth.run("run --rm --network none busybox true").fails(125, "no space left");
    berth.footprint_is(&before);
    assert_eq!(berth.sandbox().shell(&format!("umount -l {over} 2>&1")), "");
    berth.run("start -a cc").prints("started\n");
    goes_on(&berth);
}

#[test]
fn a_log_goes_on_after_a_line_that_says_what_was_dropped() {
    let berth = start();
    berth
        .run("run -d --name talks busybox sh -c 'while true; do head -c 3000 /dev/zero | tr \"\\0\" x; echo; done'")
        .succeeds();
    eventually("the log is there", || berth.run("logs -n 1 talks").stdout.len() > 3000);
    berth.sandbox().leave_free(100);
    std::thread::sleep(std::time::Duration::from_millis(300));
    berth.run("exec talks echo here").prints("here\n");
    berth.run("exec live echo here").prints("here\n");
    berth.sandbox().leave_free(20_000);
    berth.run("stop -t 0 talks").succeeds();
    let log = berth.run("logs talks");
    let told = format!("{}{}", log.stdout, log.stderr);
    let notice = told.lines().find(|line| line.contains("no space left"));
    assert!(notice.is_some_and(|line| line.contains("dropped")), "no line tells of it");
    berth.run("rm talks").succeeds();
    goes_on(&berth);
}

#[test]
fn the_files_for_a_new_volume() {
    let berth = start();
    let before = berth.footprint();
    berth.sandbox().leave_free(1200);
    is_full(&berth.run("run --rm -v /bin busybox true"), 125, &berth.root().join("volumes"));
    berth.footprint_is(&before);
    is_full(&berth.run("run --rm -v tools:/bin busybox true"), 125, &berth.root().join("volumes"));
    berth.run("ps -aq --filter status=created").prints("");
    goes_on(&berth);
    // A volume that was filled half would count as one with content, and never be filled up.
    berth.run("run --rm -v tools:/bin busybox ls /bin/busybox").prints("/bin/busybox\n");
    berth.run("volume rm tools").succeeds();
}

#[test]
fn what_a_container_writes() {
    let berth = start();
    berth.sandbox().leave_free(1000);
    berth.run("run --name ww busybox dd if=/dev/zero of=/big bs=1M count=20").fails(1, "No space left on device");
    berth.run("exec live echo here").prints("here\n");
    berth.run("rm ww").prints("ww\n");
    goes_on(&berth);
}
