//! Debian's containerd and its `ctr` drive the shim, in network, mount and pid namespaces of their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::path::Path;
use std::process::Command;

/// What is done, and what it prints, line by line. `$R` runs a container in the shim.
const STEPS: &[(&str, &str)] = &[
    // `ctr` copies the two streams side by side: which comes first is chance. It drops a stream whose opening it has not noticed when it hears of
    // the end (containerd's pull request 1940): where output counts, the program lives a moment longer.
    (
        "(ctr run --rm $R $ROOT t1 /bin/sh -c 'echo out; echo err >&2; sleep 0.5; exit 3' 2>&1; echo $?) | sort",
        "3\nerr\nout\n",
    ),
    // The pause keeps `ctr` from reading the end of its input before it knows whom to tell.
    ("(echo typed; sleep 1) | ctr run --rm $R $ROOT t2 /bin/cat; echo $?", "typed\n0\n"),
    ("ctr run -d $R $ROOT t3 /bin/sleep 100; ctr task ls | tail -n +2 | awk '{print $1, $3}'", "t3 RUNNING\n"),
    ("ctr task exec --exec-id e1 t3 /bin/sh -c 'echo exec; sleep 0.5; exit 5'; echo $?", "exec\n5\n"),
    ("ctr task ps t3 | tail -n +2 | wc -l", "1\n"),
    ("ctr task metrics t3 | awk '/pids.current/ {print $2}'", "1\n"),
    ("ctr task pause t3; ctr task ls | awk '/t3/ {print $3}'; ctr task resume t3", "PAUSED\n"),
    ("stop_containerd; start_containerd; ctr task ls | awk '/t3/ {print $3}'", "RUNNING\n"),
    (
        "script -qec \"ctr task exec -t --exec-id e2 t3 /bin/sh -c 'tty; sleep 0.5; exit 4'\" /dev/null < /dev/null | grep -o '/dev/pts/0'",
        "/dev/pts/0\n",
    ),
    ("ctr task kill -s 9 t3; sleep 0.5; ctr task ls | awk '/t3/ {print $3}'", "STOPPED\n"),
    ("ctr task rm t3 2>&1 | grep -o 'code 137'; ctr container rm t3; ctr task ls | wc -l", "code 137\n1\n"),
    (
        "ctr run -d $R $ROOT t4 /bin/sleep 100; kill -9 $(shim_of t4); sleep 1; ctr task ls | wc -l; ctr container rm t4",
        "1\n",
    ),
    ("ctr run --rm $R $ROOT t5 /no/such 2>&1 | grep -o 'no such file or directory'", "no such file or directory\n"),
    // A shim answers before it ends.
    ("timeout 10 sh -c 'while pgrep -x berth-shim; do sleep 0.05; done' > /dev/null; echo $?", "0\n"),
    ("ls /run/containerd/s | wc -l; ps | grep -c '[b]erth-shim'; pgrep -x sleep | wc -l", "0\n0\n0\n"),
    (
        "sort -u /run/events",
        "/tasks/create\n/tasks/delete\n/tasks/exec-added\n/tasks/exec-started\n/tasks/exit\n/tasks/paused\n/tasks/resumed\n/tasks/start\n",
    ),
];

const PRELUDE: &str = r#"
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/c/root $ROOT/bin $ROOT/proc $ROOT/dev $ROOT/sys $ROOT/tmp $ROOT/etc $ROOT/run /run/bin
cp /bin/busybox $ROOT/bin/; for applet in sh echo sleep cat tty; do ln -s busybox $ROOT/bin/$applet; done
ln -s "$SHIM" /run/bin/containerd-shim-berth-v2
export PATH=/run/bin:$PATH CONTAINERD_ADDRESS=/run/c/c.sock
cat > /run/c/config.toml <<CONFIG
version = 2
root = "/run/c/root"
state = "/run/c/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/c/c.sock"
[ttrpc]
  address = "/run/c/c.sock.ttrpc"
CONFIG
R="--runtime io.containerd.berth.v2 --rootfs --cgroup /$GROUP/x"
ctr() { timeout -k 1 15 /usr/bin/ctr "$@"; }
shim_of() { pgrep -f "berth-shim.*-id $1"; }
start_containerd() {
  containerd -c /run/c/config.toml > /run/c/log 2>&1 & CONTAINERD=$!
  for i in $(seq 100); do ctr version > /dev/null 2>&1 && break; sleep 0.1; done
  ctr_events & EVENTS=$!
  sleep 0.3
}
ctr_events() { /usr/bin/ctr events 2> /dev/null | grep --line-buffered -o '/tasks/[a-z-]*' >> /run/events; }
stop_containerd() { kill -9 $CONTAINERD; wait $CONTAINERD 2> /dev/null; sleep 0.3; }
start_containerd
"#;

#[test]
fn containerd_runs_containers_in_the_shim() {
    let installed = ["/usr/bin/containerd", "/usr/bin/ctr", "/bin/busybox"].iter().all(|path| Path::new(path).exists());
    if !installed || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: containerd is not installed, or we are not root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let group = format!("berth-test-ctr-{}", std::process::id());
    let mut script = PRELUDE.to_owned();
    for (number, (step, _)) in STEPS.iter().enumerate() {
        script.push_str(&format!("{{ {step}\n}} > \"$OUT/{number}\" 2>> \"$OUT/errors\"\n"));
    }
    let path = directory.path().join("script");
    std::fs::write(&path, script).unwrap();
    let status = Command::new("timeout")
        .args(["-k", "5", "120", "unshare", "-n", "-m", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"])
        .arg(&path)
        .env("SHIM", env!("CARGO_BIN_EXE_berth-shim"))
        .env("ROOT", "/run/rootfs")
        .env("OUT", directory.path())
        .env("GROUP", &group)
        .status()
        .unwrap();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(&group).join("x"));
        let _ = std::fs::remove_dir(hierarchy.path().join(&group));
    }
    let errors = std::fs::read_to_string(directory.path().join("errors")).unwrap_or_default();
    for (number, (step, expected)) in STEPS.iter().enumerate() {
        let printed = std::fs::read_to_string(directory.path().join(number.to_string())).unwrap_or_default();
        assert_eq!(printed, *expected, "{step}\n{errors}");
    }
    assert!(status.success(), "{status}\n{errors}");
}
