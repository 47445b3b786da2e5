//! What a container shares with the host and with others, and what it is refused.

use crate::start;

#[test]
fn a_joined_ipc_namespace_brings_its_shared_memory() {
    let berth = start();
    berth.run("run -d --name owner --ipc shareable busybox sh -c 'echo told >/dev/shm/note && sleep 600'").succeeds();
    berth.run("exec owner sh -c 'until [ -s /dev/shm/note ]; do sleep 0.01; done'").succeeds();
    berth.run("run --rm --ipc container:owner busybox cat /dev/shm/note").prints("told\n");
    berth.run("run --rm --ipc container:owner busybox sh -c 'echo back >/dev/shm/answer'").succeeds();
    berth.run("exec owner cat /dev/shm/answer").prints("back\n");
    berth.run("run --rm busybox ls /dev/shm").prints("");
    berth.run("run -d --name closed busybox sleep 600").succeeds();
    berth.run("run --rm --ipc container:closed busybox true").fails(125, "non-shareable IPC");
}

#[test]
fn the_host_s_ipc_namespace_needs_no_queues_to_be_mounted() {
    let berth = start();
    berth.run("run --rm --ipc host busybox readlink /proc/self/ns/ipc").prints(
        &std::fs::read_link("/proc/self/ns/ipc").map(|link| format!("{}\n", link.display())).unwrap_or_default(),
    );
}

#[test]
fn a_directory_of_devices_is_searched_without_following_links() {
    let berth = start();
    let directory = berth.sandbox().path().join("devices");
    std::fs::create_dir(&directory).expect("a new directory");
    std::os::unix::fs::symlink(".", directory.join("again")).expect("a link");
    let path = directory.display();
    berth.run(&format!("run --rm --device {path} busybox true")).fails(125, "not a device node");
    let made = berth.sandbox().command("mknod").arg(directory.join("zero")).args(["c", "1", "5"]).status();
    assert!(made.is_ok_and(|status| status.success()));
    berth.run(&format!("run --rm --device {path}:/dev/mine busybox sh -c 'cd /dev/mine && echo *'")).prints("zero\n");
}

#[test]
fn a_mount_that_passes_nothing_on_is_not_bound_as_if_it_did() {
    let berth = start();
    let directory = berth.sandbox().path().join("tree");
    std::fs::create_dir(&directory).expect("a new directory");
    let path = directory.display();
    let _ = berth.sandbox().shell(&format!("mount -t tmpfs -o mode=755 tree {path} && mount --make-private {path}"));
    for (word, demanded) in [("rshared", "a shared mount"), ("rslave", "a shared or slave mount")] {
        let reason = format!("path {path} is mounted on {path} but it is not {demanded}");
        berth.run(&format!("run --rm -v {path}:/t:{word} busybox true")).fails(125, &reason);
    }
    let _ = berth.sandbox().shell(&format!("mount --make-shared {path} && mkdir {path}/late"));
    berth.run(&format!("run -d --name watcher -v {path}:/t:rslave busybox sleep 600")).succeeds();
    let _ = berth.sandbox().shell(&format!("mount -t tmpfs late {path}/late && touch {path}/late/arrived"));
    berth.run("exec watcher ls /t/late").prints("arrived\n");
    berth.run("rm -f watcher").succeeds();
    let _ = berth.sandbox().shell(&format!("umount {path}/late {path}"));
}

#[test]
fn a_hardware_address_is_used_by_either_client() {
    let berth = start();
    let words = "run --rm --mac-address 02:42:aa:bb:cc:dd busybox cat /sys/class/net/eth0/address";
    berth.run(words).prints("02:42:aa:bb:cc:dd\n");
    berth.docker(words).prints("02:42:aa:bb:cc:dd\n");
}

#[test]
fn reasons_are_told_in_plain_words() {
    let berth = start();
    let profile = berth.sandbox().path().join("profile.json");
    std::fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_BOGUS"}"#).expect("room");
    let words = format!("run --rm --security-opt seccomp={} busybox true", profile.display());
    berth.run(&words).fails(125, "SCMP_ACT_BOGUS");
    berth.run("inspect nosuch").fails(1, "nosuch");
    let words = "run --rm --mount type=volume,src=vv,dst=/v,volume-subpath=nope busybox true";
    let outcome = berth.run(words);
    outcome.fails(125, "no such file or directory");
    assert!(!outcome.stderr.contains("os error"), "{}", outcome.stderr);
    berth.run("volume rm vv").succeeds();
}

#[test]
fn a_wrong_option_of_a_tmpfs_is_named() {
    let berth = start();
    for bad in ["foo=bar", "size=zz", "quota", "mode=9"] {
        let reason = format!("invalid tmpfs option \"{bad}\" of /scratch");
        berth.run(&format!("run --rm --tmpfs /scratch:rw,{bad} busybox true")).fails(125, &reason);
    }
    berth
        .run("run --rm --tmpfs /scratch:size=50%,mode=1700,exec,noatime busybox sh -c 'grep -c \" /scratch tmpfs rw,nosuid,nodev,noatime\" /proc/mounts'")
        .prints("1\n");
    berth.run("run --rm -v '' busybox true").fails(125, "invalid empty volume spec");
}
