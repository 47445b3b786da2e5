//! New namespaces, joined ones, and what belongs to them.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::tests;

tests![
    all_namespaces_are_new,
    the_loopback_device_is_up,
    hostname_and_domainname_are_set,
    a_hostname_needs_a_namespace,
    sysctls_are_set_in_own_namespaces_only,
    a_user_namespace_maps_root,
    a_user_namespace_has_devices,
    clocks_are_moved,
    containers_join_each_others_namespaces,
    a_containers_user_namespace_is_joined,
    a_namespace_is_listed_once,
];

fn set_namespaces(bundle: &mut Bundle, kinds: &[&str]) {
    bundle.config["linux"]["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
}

fn all_namespaces_are_new() {
    let mut bundle = Bundle::new("for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; echo $$");
    set_namespaces(&mut bundle, &["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    let outcome = bundle.run().succeeds();
    for (line, name) in outcome.stdout.lines().zip(["mnt", "pid", "net", "ipc", "uts", "cgroup"]) {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(line, own.to_str().unwrap(), "{name}");
    }
    assert!(outcome.stdout.ends_with("\n1\n"), "{}", outcome.stdout);
}

fn the_loopback_device_is_up() {
    Bundle::new("cat /sys/class/net/lo/operstate; cat /sys/class/net/lo/flags").run().prints("unknown\n0x9\n");
}

fn hostname_and_domainname_are_set() {
    let mut bundle = Bundle::new("hostname; cat /proc/sys/kernel/domainname");
    bundle.config["domainname"] = "example.org".into();
    bundle.run().prints("box\nexample.org\n");
}

fn a_hostname_needs_a_namespace() {
    let mut bundle = Bundle::new("true");
    set_namespaces(&mut bundle, &["pid", "mount"]);
    bundle.run().exits(1).fails("hostname");
    set_namespaces(&mut bundle, &["pid", "uts"]);
    bundle.run().exits(1).fails("a new mount namespace is needed");
}

fn sysctls_are_set_in_own_namespaces_only() {
    let mut bundle = Bundle::new("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345"});
    bundle.run().prints("1\n12345\n");
    bundle.config["linux"]["sysctl"] = json!({"kernel.panic": "1"});
    bundle.run().exits(1).fails("is not in a namespace of the container");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.nosuch": "1"});
    bundle.run().exits(1).fails("opening \\\"/proc/sys/net/ipv4/nosuch\\\": no such file");
}

fn with_users(bundle: &mut Bundle) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let _ = std::process::Command::new("chown").args(["-hR", "100000:100000"]).arg(bundle.rootfs()).status();
    // Its own user must be able to reach the bundle.
    std::fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

fn a_user_namespace_maps_root() {
    let mut bundle = Bundle::new("id -u; cat /proc/self/uid_map | sed 's/  */ /g'; touch /made; hostname");
    with_users(&mut bundle);
    bundle.run().prints("0\n 0 100000 65536\nbox\n");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(bundle.rootfs().join("made")).unwrap().uid(), 100_000);
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.start();
    bundle.call(&["exec", "-u", "1000", bundle.id(), "id", "-u"]).prints("1000\n");
}

fn a_user_namespace_has_devices() {
    let mut bundle =
        Bundle::new("echo x >/dev/null && stat -c %t:%T /dev/null; cat /proc/keys | wc -c; cat /data/file");
    with_users(&mut bundle);
    // A directory that only the host's root may enter, and a volume in it.
    let closed = bundle.path().join("closed");
    std::fs::create_dir_all(closed.join("volume")).unwrap();
    std::fs::write(closed.join("volume/file"), "read\n").unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    bundle.mount(
        json!({"destination": "/data", "type": "bind", "source": closed.join("volume"), "options": ["rbind", "ro"]}),
    );
    bundle.run().prints("1:3\n0\nread\n");
}

fn clocks_are_moved() {
    let mut bundle = Bundle::new("read up rest </proc/uptime; [ ${up%.*} -gt 1000000000 ] && echo old");
    set_namespaces(&mut bundle, &["pid", "mount", "uts", "time"]);
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000_000}});
    bundle.run().prints("old\n");
}

fn pid_of(bundle: &Bundle) -> i64 {
    let state: Value = serde_json::from_str(&bundle.call(&["state", bundle.id()]).succeeds().stdout).unwrap();
    state["pid"].as_i64().unwrap()
}

fn containers_join_each_others_namespaces() {
    let first = Bundle::new("sleep 100");
    first.start();
    let pid = pid_of(&first);
    let mut second = Bundle::new(
        "ps | grep -c 'sleep 100$'; hostname; for n in pid net ipc uts; do readlink /proc/self/ns/$n; done",
    );
    second.config["hostname"] = "".into();
    let joined = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
    second.config["linux"]["namespaces"] = json!([
        joined("pid", "pid"), joined("network", "net"), joined("ipc", "ipc"), joined("uts", "uts"), {"type": "mount"},
    ]);
    let outcome = second.run().succeeds();
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), Some("1"));
    assert_eq!(lines.next(), Some("box"));
    for name in ["pid", "net", "ipc", "uts"] {
        let expected = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(lines.next(), expected.to_str(), "{name}");
    }
}

fn a_containers_user_namespace_is_joined() {
    let mut first = Bundle::new("sleep 100");
    with_users(&mut first);
    first.start();
    let pid = pid_of(&first);
    let mut second = Bundle::new("id -u; readlink /proc/self/ns/user; hostname");
    with_users(&mut second);
    second.config["linux"]["namespaces"] = json!([
        {"type": "user", "path": format!("/proc/{pid}/ns/user")},
        {"type": "network", "path": format!("/proc/{pid}/ns/net")},
        {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
    ]);
    let expected = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    second.run().prints(&format!("0\n{}\nbox\n", expected.display()));
}

fn a_namespace_is_listed_once() {
    let mut bundle = Bundle::new("true");
    set_namespaces(&mut bundle, &["pid", "mount", "pid"]);
    bundle.run().exits(1).fails("pid is listed twice");
    set_namespaces(&mut bundle, &["mount"]);
    bundle.config["hostname"] = "".into();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "ipc", "path": "/no/such/ns"}));
    bundle.run().exits(1).fails("opening namespace \\\"/no/such/ns\\\": no such file or directory");
}
