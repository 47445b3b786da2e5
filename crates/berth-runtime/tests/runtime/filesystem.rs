//! The root file system, mounts, devices, and what an image or a volume may try.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::bundle::Bundle;
use crate::tests;

tests![
    the_default_devices_are_there,
    configured_devices_are_made,
    masked_and_read_only_paths_hold,
    masking_covers_an_ordinary_file_named_null,
    a_read_only_root_cannot_be_written,
    a_read_only_tmpfs_gets_its_mount_points_first,
    binds_take_files_and_directories,
    binds_have_attributes_of_their_own,
    recursive_attributes_reach_mounts_below,
    tmpfs_takes_options_and_copies_up,
    mount_targets_never_leave_the_root,
    proc_is_not_covered,
    proc_must_be_an_ordinary_directory,
    volumes_receive_mounts_as_their_propagation_says,
    a_shared_volume_shows_mounts_to_the_host,
    ids_are_mapped,
    cgroups_are_shown,
    the_host_cannot_be_reached,
    chroot_takes_the_place_of_pivot_root,
    wrong_mounts_are_refused,
    a_missing_source_is_named,
];

fn the_default_devices_are_there() {
    let script = "for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done
        for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done
        echo x >/dev/null; head -c 3 /dev/zero | wc -c; stat -c '%a %t:%T' /dev/null";
    let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    Bundle::new(script).run().prints(&format!("{links}3\n666 1:3\n"));
}

fn configured_devices_are_made() {
    let mut bundle = Bundle::new("stat -c '%F %a %u:%g %t:%T' /dev/deep/mem /dev/pipe");
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/deep/mem", "type": "c", "major": 1, "minor": 1, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/pipe", "type": "p"},
    ]);
    bundle.run().prints("character special file 640 7:8 1:1\nfifo 666 0:0 0:0\n");
}

fn masked_and_read_only_paths_hold() {
    let script = "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; touch /sys/firmware/x 2>&1
        echo 1 >/proc/sys/kernel/printk";
    let outcome = Bundle::new(script).run();
    assert!(outcome.stdout.starts_with("0\n0\ntouch: /sys/firmware/x: Read-only file system\n"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
}

/// CVE-2025-31133: a `/dev/null` of the image's own making must not be what lies over masked files.
fn masking_covers_an_ordinary_file_named_null() {
    let mut bundle = Bundle::new("cat /proc/keys");
    let evil = bundle.path().join("dev");
    std::fs::create_dir(&evil).unwrap();
    std::fs::write(evil.join("null"), "evil").unwrap();
    bundle.config["mounts"][1] = json!({"destination": "/dev", "type": "bind", "source": evil, "options": ["rbind"]});
    bundle.config["mounts"].as_array_mut().unwrap().remove(2);
    bundle.run().exits(1).fails("opening device \\\"/dev/null\\\"");
    std::fs::remove_file(evil.join("null")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", evil.join("null")).unwrap();
    bundle.run().exits(1).fails("\\\"/dev/null\\\"");
}

fn a_read_only_root_cannot_be_written() {
    let mut bundle = Bundle::new("touch /x 2>&1; touch /tmp/y 2>&1; touch /dev/z && echo dev");
    bundle.config["root"]["readonly"] = true.into();
    bundle.run().prints("touch: /x: Read-only file system\ntouch: /tmp/y: Read-only file system\ndev\n");
}

fn a_read_only_tmpfs_gets_its_mount_points_first() {
    let mut bundle = Bundle::new("touch /ro/x 2>&1; ls /ro; touch /ro/inner/y && echo written");
    bundle.mount(json!({"destination": "/ro", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    bundle.mount(json!({"destination": "/ro/inner", "type": "tmpfs", "source": "tmpfs"}));
    bundle.run().prints("touch: /ro/x: Read-only file system\ninner\nwritten\n");
}

fn binds_take_files_and_directories() {
    let mut bundle = Bundle::new("cat /etc/hosts /data/deep/file; echo new >/data/made");
    std::fs::write(bundle.path().join("hosts"), "a host\n").unwrap();
    let volume = bundle.path().join("volume");
    std::fs::create_dir_all(volume.join("deep")).unwrap();
    std::fs::write(volume.join("deep/file"), "content\n").unwrap();
    bundle.mount(
        json!({"destination": "/etc/hosts", "type": "bind", "source": "hosts", "options": ["rbind", "rprivate"]}),
    );
    bundle.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rprivate"]}));
    bundle.run().prints("a host\ncontent\n");
    assert_eq!(std::fs::read_to_string(volume.join("made")).unwrap(), "new\n");
}

fn binds_have_attributes_of_their_own() {
    let mut bundle = Bundle::new(
        "grep ' /data ' /proc/self/mounts | sed 's/.* ext4 \\|.* [a-z0-9]* \\(r[ow],\\)/\\1/'; touch /data/x 2>&1",
    );
    std::fs::create_dir(bundle.path().join("volume")).unwrap();
    let options = json!(["bind", "ro", "nosuid", "nodev", "noexec", "noatime"]);
    bundle.mount(json!({"destination": "/data", "type": "bind", "source": "volume", "options": options}));
    let outcome = bundle.run();
    assert!(outcome.stdout.contains("ro,nosuid,nodev,noexec,noatime"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("Read-only file system"), "{}", outcome.stdout);
}

fn recursive_attributes_reach_mounts_below() {
    let mut bundle = Bundle::new("touch /data/x 2>&1; touch /data/below/y 2>&1");
    let volume = bundle.path().join("volume");
    std::fs::create_dir_all(volume.join("below")).unwrap();
    rustix::mount::mount("tmpfs", volume.join("below"), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    bundle.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rro"]}));
    bundle.run().exits(1).stdout.lines().for_each(|line| assert!(line.contains("Read-only"), "{line}"));
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.config["mounts"][last]["options"] = json!(["rbind", "ro"]);
    bundle.run().prints("touch: /data/x: Read-only file system\n");
}

fn tmpfs_takes_options_and_copies_up() {
    let mut bundle = Bundle::new(
        "stat -c '%a %u' /data; stat -c '%a %u:%g' /data/sub/file; cat /data/sub/file; readlink /data/link",
    );
    let below = bundle.rootfs().join("data/sub");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(below.join("file"), "copied\n").unwrap();
    std::os::unix::fs::chown(below.join("file"), Some(3), Some(4)).unwrap();
    std::fs::set_permissions(below.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o604)).unwrap();
    symlink("sub/file", bundle.rootfs().join("data/link")).unwrap();
    let options = json!(["tmpcopyup", "mode=1750", "uid=9", "size=1m"]);
    bundle.mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options}));
    bundle.run().prints("1750 9\n604 3:4\ncopied\nsub/file\n");
}

/// CVE-2019-16884, 2021-30465, 2023-27561 and their kin: a link in the image where a mount should go.
fn mount_targets_never_leave_the_root() {
    let mut bundle = Bundle::new("cat /escape/file; ls /");
    let outside = bundle.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(bundle.path().join("volume")).unwrap();
    std::fs::write(bundle.path().join("volume/file"), "inside\n").unwrap();
    symlink(format!("../../../../../../../../{}", outside.display()), bundle.rootfs().join("escape")).unwrap();
    bundle.mount(json!({"destination": "/escape", "type": "bind", "source": "volume", "options": ["bind"]}));
    bundle.mount(json!({"destination": "/dev/../made/./here", "type": "tmpfs", "source": "tmpfs"}));
    bundle.mount(json!({"destination": "/../../../up", "type": "tmpfs", "source": "tmpfs"}));
    let outcome = bundle.run().succeeds();
    assert!(outcome.stdout.starts_with("inside\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("made\n") && outcome.stdout.contains("up\n"), "{}", outcome.stdout);
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
}

fn proc_is_not_covered() {
    let mut bundle = Bundle::new("cat /proc/uptime");
    std::fs::write(bundle.path().join("uptime"), "long\n").unwrap();
    bundle.mount(json!({"destination": "/proc/uptime", "type": "bind", "source": "uptime", "options": ["bind"]}));
    bundle.run().prints("long\n");
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    for destination in ["/proc/self/attr", "/proc/sys/kernel/hostname", "/proc/1/../version"] {
        bundle.config["mounts"][last]["destination"] = destination.into();
        let outcome = bundle.run();
        assert_ne!(outcome.status, 0, "{destination}: {}", outcome.stdout);
    }
    bundle.config["mounts"][last] = json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"});
    bundle.config["mounts"].as_array_mut().unwrap().remove(0);
    symlink("/proc", bundle.rootfs().join("link")).unwrap();
    bundle.mount(json!({"destination": "/link/sys", "type": "tmpfs", "source": "tmpfs"}));
    let outcome = bundle.run();
    assert!(outcome.status != 0 || !outcome.stdout.contains("long"), "{}", outcome.stdout);
}

fn proc_must_be_an_ordinary_directory() {
    let bundle = Bundle::new("true");
    std::fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
    symlink("/elsewhere", bundle.rootfs().join("proc")).unwrap();
    bundle.run().exits(1).fails("must be mounted on an ordinary directory");
}

fn shared_volume(bundle: &Bundle) -> std::path::PathBuf {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    let volume = bundle.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    rustix::mount::mount("tmpfs", &volume, "tmpfs", MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&volume, MountPropagationFlags::SHARED).unwrap();
    std::fs::create_dir(volume.join("below")).unwrap();
    volume
}

fn volumes_receive_mounts_as_their_propagation_says() {
    for (word, expected) in [("rslave", "seen"), ("rprivate", "")] {
        let mut bundle = Bundle::new("sleep 100");
        let volume = shared_volume(&bundle);
        bundle.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", word]}));
        bundle.start();
        let below = volume.join("below");
        rustix::mount::mount("tmpfs", &below, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        std::fs::write(below.join("seen"), "").unwrap();
        let listed = bundle.call(&["exec", bundle.id(), "ls", "/data/below"]).succeeds().stdout;
        assert_eq!(listed.trim(), expected, "{word}");
    }
}

fn a_shared_volume_shows_mounts_to_the_host() {
    let mut bundle = Bundle::new("mount -t tmpfs tmpfs /data/below && touch /data/below/shown; sleep 100");
    let volume = shared_volume(&bundle);
    bundle.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rshared"]}));
    bundle.config["linux"]["rootfsPropagation"] = "rshared".into();
    let sets = json!(["CAP_SYS_ADMIN"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": sets, "permitted": sets, "effective": sets});
    bundle.start();
    for _ in 0..200 {
        if volume.join("below/shown").exists() {
            let own = std::fs::read_to_string("/proc/self/mounts").unwrap();
            assert!(!own.contains("/dev/pts") || !own.contains(&format!("{}/dev", bundle.rootfs().display())), "{own}");
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the mount is not seen outside");
}

fn ids_are_mapped() {
    let mut bundle = Bundle::new("stat -c %u /data/file; touch /data/new");
    let volume = bundle.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "").unwrap();
    std::os::unix::fs::chown(volume.join("file"), Some(5), Some(5)).unwrap();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    bundle.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["bind", "idmap"],
                        "uidMappings": map, "gidMappings": map}));
    let outcome = bundle.run();
    assert!(outcome.stdout.starts_with("1005\n"), "{}{}", outcome.stdout, outcome.stderr);
}

fn cgroups_are_shown() {
    let mut bundle = Bundle::new(
        "ls /sys/fs/cgroup | wc -l; cat /sys/fs/cgroup/pids/pids.current /sys/fs/cgroup/pids.current 2>/dev/null; mkdir /sys/fs/cgroup/x 2>&1",
    );
    let options = json!(["nosuid", "noexec", "nodev", "relatime", "ro"]);
    bundle.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    let outcome = bundle.run();
    assert!(outcome.stdout.contains("Read-only file system"), "{}{}", outcome.stdout, outcome.stderr);
    assert!(!outcome.stdout.starts_with("0\n"), "{}", outcome.stdout);
}

fn the_host_cannot_be_reached() {
    let bundle = Bundle::new("ls -d /../../work /../usr 2>/dev/null; cat /proc/self/mounts | grep -c ' / '");
    assert_eq!(bundle.run().stdout, "1\n");
}

fn chroot_takes_the_place_of_pivot_root() {
    let bundle = Bundle::new("ls /etc");
    bundle.write_config();
    bundle.call(&["run", "--no-pivot", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]).prints("passwd\n");
}

fn wrong_mounts_are_refused() {
    let mut bundle = Bundle::new("true");
    bundle.mount(json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["nosuchoption=1"]}));
    bundle.run().exits(1).fails("mounting tmpfs at \\\"/x\\\": invalid argument");
    let mut bundle = Bundle::new("true");
    std::fs::write(bundle.path().join("file"), "").unwrap();
    bundle.mount(json!({"destination": "/etc", "type": "bind", "source": "file", "options": ["bind"]}));
    bundle
        .run()
        .exits(1)
        .fails("at /etc: not a directory: Are you trying to mount a directory onto a file (or vice-versa)?");
}

fn a_missing_source_is_named() {
    let mut bundle = Bundle::new("true");
    bundle.mount(json!({"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}));
    bundle.run().exits(1).fails("opening bind source \\\"/no/such/source\\\": no such file or directory");
    let mut bundle = Bundle::new("true");
    bundle.config["root"]["path"] = "nosuchroot".into();
    bundle.run().exits(1).fails("nosuchroot\\\": no such file or directory");
}
