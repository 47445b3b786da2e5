//! What networks do on hosts that lack something: the permission, IPv6, a resolver, room for another network.

use std::os::unix::fs::PermissionsExt;

use berth_testkit::Berth;

use crate::{BERTH, start};

/// The text of a host's resolv.conf, as its containers find it; `None` takes the file away.
fn with_resolv_conf(berth: &Berth, text: Option<&str>) {
    let directory = berth.sandbox().path().join("etc");
    let mounted = directory.is_dir();
    let line = |line: &str| assert_eq!(berth.sandbox().shell(&format!("{{ {line}; }} 2>&1")), "");
    if !mounted {
        std::fs::create_dir_all(directory.join("work")).expect("a directory");
        std::fs::create_dir_all(directory.join("upper")).expect("a directory");
        let d = directory.display();
        // Others use the host's own. The layers stay as long as what is made of them.
        line(&format!(
            "mount -t tmpfs layers {d} && mkdir {d}/upper {d}/work && mount -t overlay etc -o lowerdir=/etc,upperdir={d}/upper,workdir={d}/work /etc && umount -l {d}"
        ));
    }
    line("rm -f /etc/resolv.conf");
    if let Some(text) = text {
        line(&format!("printf '{text}' > /etc/resolv.conf"));
    }
}

#[test]
fn without_the_permission_for_networks_the_refusal_names_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("berth");
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-net_admin --inh-caps=-net_admin {BERTH} \"$@\"\n");
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let berth = Berth::start(&program.display().to_string());
    let words =
        "network bridge: making the bridge: operation not permitted: the daemon needs the capability CAP_NET_ADMIN";
    berth.run("run --rm busybox true").fails(125, words);
    berth.run("run --rm -p 8080:80 busybox true").fails(125, words);
    berth.run("run --rm --network none busybox true").fails(
        125,
        "switching the loopback device on: operation not permitted: the daemon needs the capability CAP_NET_ADMIN",
    );
    // The host's own network needs no permission.
    berth.run("run --rm --network host busybox true").succeeds();
    berth.run("ps -aq").prints("");
}

#[test]
fn with_ipv6_switched_off_on_the_host_both_families_of_networks_work() {
    let berth = start();
    let off = "for file in all default; do echo 1 > /proc/sys/net/ipv6/conf/$file/disable_ipv6 || echo none; done 2>&1";
    if !berth.sandbox().shell(off).is_empty() {
        // The kernel has no IPv6 at all.
        berth.run("network create --ipv6 six").succeeds();
        berth.run("run --rm --network six busybox true").fails(125, "IPv6 is off in this host's kernel");
        return;
    }
    berth.run("run --rm busybox cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6").prints("1\n");
    // Whoever asks for it has it, on that network's bridge alone.
    berth.run("network create --ipv6 --subnet fd00:5::/64 six").succeeds();
    berth.run("run -d --name web --network six --ip6 fd00:5::9 busybox sleep 600").succeeds();
    berth.run("run --rm --network six busybox ping -c 1 -W 3 fd00:5::9").shows("1 packets received");
    assert_eq!(berth.sandbox().shell("cat /proc/sys/net/ipv6/conf/berth0/disable_ipv6").trim(), "1");
    // Ports are published where there are addresses.
    berth.run("run -d --name box -p 8080:80 busybox sleep 600").succeeds();
    berth.run("port box").shows("80/tcp -> 0.0.0.0:8080");
}

#[test]
fn a_host_without_room_for_another_network_says_so() {
    let berth = Berth::start_empty(BERTH, &["--default-address-pool", "base=10.91.0.0/23,size=24"]);
    berth.run("network create one").succeeds();
    let words = "all predefined address pools have been fully subnetted or overlap with routes of this host";
    berth.run("network create two").fails(1, words);
    berth.run("network ls --filter type=custom --format {{.Name}}").prints("one\n");
    berth.run("network create --subnet 10.92.0.0/24 two").succeeds();
    berth.run("network rm one").succeeds();
    berth.run("network create three").succeeds();
}

#[test]
fn a_host_without_resolvers_leaves_containers_the_names_of_each_other() {
    let berth = start();
    berth.run("network create front").succeeds();
    berth.run("run -d --name web --network front busybox sleep 600").succeeds();
    let in_container = |options: &str| berth.run(&format!("run --rm {options} busybox cat /etc/resolv.conf"));
    for text in [None, Some(""), Some("# nothing\\nnameserver\\nnameserver nobody\\n")] {
        with_resolv_conf(&berth, text);
        // As with docker: on the default bridge somebody has to be asked.
        in_container("").shows("nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        in_container("--network front").shows("nameserver 127.0.0.11\n");
        berth.run("run --rm --network front busybox nslookup web").shows("Name:\tweb");
        berth.run("run --rm --network front busybox nslookup example.com").fails(1, "");
        berth.run("run --rm --network host busybox true").succeeds();
        // Whoever names one has that.
        in_container("--dns 192.0.2.53").prints("nameserver 192.0.2.53\n");
    }
    // A resolver on the host's loopback is none of a container's own.
    with_resolv_conf(&berth, Some("nameserver 127.0.0.53\\nnameserver 192.0.2.54\\nsearch example.test\\n"));
    in_container("").prints("nameserver 192.0.2.54\nsearch example.test\n");
    in_container("--network front").shows("host(127.0.0.53)");
}
