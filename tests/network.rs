//! The first networks: none, host, container, and the default bridge.

use crate::start;

#[test]
fn the_default_bridge_gives_an_address_and_a_way_out() {
    let berth = start();
    berth.run("run -d --name one busybox sleep 600").succeeds();
    let address = berth.run("inspect -f {{.NetworkSettings.Networks.bridge.IPAddress}} one").succeeds();
    assert!(address.starts_with("172."), "{address}");
    berth.run("exec one ip -o -4 addr show eth0").shows(&address);
    let gateway = berth.run("inspect -f {{.NetworkSettings.Networks.bridge.Gateway}} one").succeeds();
    berth.run("exec one ip route").shows(&format!("default via {gateway} dev eth0"));
    berth.run(&format!("run --rm busybox ping -c 1 -W 2 {gateway}")).shows("1 packets received");
    berth.run(&format!("run --rm busybox ping -c 1 -W 2 {address}")).shows("1 packets received");
    berth.run("exec one cat /etc/hosts").shows(&address);
    let ping =
        berth.sandbox().shell(&format!("ping -c 1 -W 2 {address} >/dev/null 2>&1 || busybox ping -c 1 -W 2 {address}"));
    assert!(ping.is_empty() || ping.contains("1 packets received"), "{ping}");
}

#[test]
fn none_has_only_loopback_and_host_has_the_host_s() {
    let berth = start();
    berth
        .run("run --rm --network none busybox sh -c 'ls /sys/class/net; cat /sys/class/net/lo/operstate'")
        .prints("lo\nunknown\n");
    let host = berth.sandbox().shell("readlink /proc/self/ns/net");
    berth.run("run --rm --network host busybox readlink /proc/self/ns/net").prints(&host);
}

#[test]
fn containers_share_a_network() {
    let berth = start();
    berth.run("run -d --name owner busybox sleep 600").succeeds();
    let same = berth.run("exec owner readlink /proc/self/ns/net").succeeds();
    berth.run("run --rm --network container:owner busybox readlink /proc/self/ns/net").prints(&format!("{same}\n"));
    berth.run("run --rm --network container:nosuch busybox true").fails(125, "No such container: nosuch");
}

#[test]
fn names_files_are_made() {
    let berth = start();
    berth.run("run --rm -h box --add-host db:10.1.2.3 busybox cat /etc/hosts").shows("10.1.2.3\tdb").shows("\tbox");
    berth.run("run --rm -h box busybox cat /etc/hostname").prints("box\n");
    berth
        .run("run --rm --dns 9.9.9.9 --dns-search example.org busybox cat /etc/resolv.conf")
        .shows("nameserver 9.9.9.9")
        .shows("search example.org");
    berth.run("run --rm --network nosuch busybox true").fails(125, "nosuch not found");
}
