//! `berth exec`.

use crate::start;

#[test]
fn it_runs_beside_the_main_process() {
    let berth = start();
    berth.run("run -d --name box -e A=1 -w /tmp busybox sleep 600").succeeds();
    berth.run("exec box sh -c 'echo $A $B; pwd'").prints("1\n/tmp\n");
    berth.run("exec -e B=2 -w /etc -u www-data box sh -c 'echo $A $B; pwd; id -u'").prints("1 2\n/etc\n33\n");
    berth.run("exec box sh -c 'echo e >&2; exit 9'").fails(9, "e\n");
    let missing = berth.run("exec box nosuch");
    assert!(missing.code == 127 && missing.stdout.contains("executable file not found in $PATH"), "{missing:#?}");
    let forbidden = berth.run("exec box /etc/passwd");
    assert!(forbidden.code == 126 && forbidden.stdout.contains("permission denied"), "{forbidden:#?}");
    berth.run_with_input("exec -i box cat", b"in and out").prints("in and out");
    berth.run("exec -d box touch /made").succeeds();
    crate::eventually("it was made", || berth.run("exec box ls /made").code == 0);
}

#[test]
fn it_needs_a_running_container() {
    let berth = start();
    berth.run("create --name box busybox").succeeds();
    berth.run("exec box true").fails(1, "is not running");
    berth.run("exec nosuch true").fails(1, "No such container: nosuch");
}

#[test]
fn it_is_confined_as_the_container_is() {
    let berth = start();
    berth.run("run -d --name box --cap-drop ALL busybox sleep 600").succeeds();
    berth.run("exec box grep CapEff /proc/self/status").prints("CapEff:\t0000000000000000\n");
    berth.run("exec box grep Seccomp: /proc/self/status").prints("Seccomp:\t2\n");
    let same = berth.run("exec box sh -c 'for n in mnt pid net ipc uts; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done | sort -u | wc -l'");
    same.prints("5\n");
}
