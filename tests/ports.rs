//! Published ports: asked for in every form, shown, refused, given back, and served while no daemon is there.

use std::net::SocketAddr;

use berth_testkit::Berth;

use crate::{eventually, start};

/// What a client on the host gets from a port.
fn get(berth: &Berth, address: &str) -> String {
    let address: SocketAddr = address.parse().expect("an address");
    let (ip, port) = (address.ip(), address.port());
    berth.sandbox().shell(&format!("busybox nc -w 3 {ip} {port} < /dev/null"))
}

/// A container that says hello on port 80.
fn serve(berth: &Berth, name: &str, options: &str) {
    let server = "while true; do echo hello | nc -l -p 80; done";
    berth.run(&format!("run -d --name {name} {options} busybox sh -c '{server}'")).succeeds();
    eventually("the server listens", || berth.run(&format!("exec {name} netstat -ltn")).succeeds().contains(":80 "));
}

#[test]
fn a_published_port_is_served_and_shown() {
    let berth = start();
    serve(&berth, "web", "-p 8080:80 -p 127.0.0.1:9090:90/udp");
    assert_eq!(get(&berth, "127.0.0.1:8080"), "hello\n");
    berth.run("port web").prints("80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n90/udp -> 127.0.0.1:9090\n");
    berth.run("port web 80").prints("0.0.0.0:8080\n[::]:8080\n");
    berth.docker("ps --format {{.Ports}}").prints("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:9090->90/udp\n");
    berth
        .run("inspect -f '{{json .NetworkSettings.Ports}}' web")
        .shows(r#""90/udp":[{"HostIp":"127.0.0.1","HostPort":"9090"}]"#);
    berth.run("stop -t 0 web").succeeds();
    berth.run("inspect -f '{{json .NetworkSettings.Ports}}' web").prints("{}\n");
    assert_eq!(get(&berth, "127.0.0.1:8080"), "");
    // Whoever hears of the end can have the port.
    berth.run("run -d --name next -p 8080:80 busybox sleep 60").succeeds();
    berth.run("start web").fails(1, "Bind for 0.0.0.0:8080 failed: port is already allocated");
    berth.run("inspect -f {{.State.Status}} web").prints("exited\n");
}

#[test]
fn ranges_and_every_exposed_port() {
    let berth = start();
    berth.run("run -d --name some -p 7000-7002:7000-7002 -p 6000-6010:60 busybox sleep 60").succeeds();
    berth.run("run -d --name more -p 6000-6010:60 busybox sleep 60").succeeds();
    berth.run("port some 60").shows("0.0.0.0:6000");
    berth.run("port more 60").shows("0.0.0.0:6001");
    berth.run("ps --filter name=some --format {{.Ports}}").shows("0.0.0.0:7000-7002->7000-7002/tcp");
    berth.run("run -d --name all -P --expose 70-71 --expose 72/udp busybox sleep 60").succeeds();
    let ports = berth.run("port all").succeeds();
    assert_eq!(ports.matches("0.0.0.0:").count(), 3, "{ports}");
    berth.run("run -d --name none --expose 70 busybox sleep 60").succeeds();
    berth.run("port none").prints("");
}

#[test]
fn a_port_of_another_program_is_refused_with_its_name() {
    let berth = start();
    let mut other = berth.sandbox().command("busybox").args(["nc", "-l", "-p", "8181"]).spawn().expect("busybox");
    eventually("it listens", || berth.sandbox().shell("cat /proc/net/tcp /proc/net/tcp6").contains(":1FF5 "));
    berth
        .run("run --rm -p 8181:80 busybox true")
        .fails(125, "failed to bind host port 0.0.0.0:8181/tcp: address already in use (busybox, pid ");
    other.kill().and_then(|()| other.wait().map(drop)).expect("ended");
    berth.run("run --rm -p 8181:80 busybox true").succeeds();
}

#[test]
fn a_killed_daemon_is_not_missed_by_clients() {
    let mut berth = start();
    serve(&berth, "web", "-p 8080:80");
    serve(&berth, "gone", "--rm -p 8081:80");
    berth.kill_daemon();
    assert_eq!(get(&berth, "127.0.0.1:8080"), "hello\n");
    // The port is held: nobody can take it.
    let taken = berth.sandbox().shell("timeout 1 busybox nc -l -p 8080 2>&1");
    assert!(taken.contains("in use"), "{taken}");
    let rules = berth.sandbox().shell("nft list table inet berth");
    berth.start_daemon();
    assert_eq!(get(&berth, "127.0.0.1:8080"), "hello\n");
    berth.run("port web").shows("0.0.0.0:8080");
    let again = berth.sandbox().shell("nft list map inet berth ports4any");
    assert!(rules.contains("tcp . 8080 : 172."), "{rules}");
    assert_eq!(again.matches("tcp . 80").count(), 2, "{again}");
    berth.run("rm -f gone").succeeds();
    berth.run("run --rm -p 8081:80 busybox true").succeeds();
    assert_eq!(berth.sandbox().shell("nft list map inet berth ports4any").matches("tcp . 80").count(), 1);
}

#[test]
fn published_ports_follow_the_way_out() {
    let berth = start();
    for (name, subnet) in [("aaa", 61), ("zzz", 62)] {
        berth.run(&format!("network create --subnet 10.{subnet}.0.0/24 {name}")).succeeds();
    }
    serve(&berth, "web", "--network aaa -p 8080:80 -p 81");
    let mapped = |berth: &Berth| berth.sandbox().shell("nft list map inet berth ports4any");
    let chosen = berth.run("port web 81").succeeds();
    let check = |berth: &Berth, target: &str| {
        assert_eq!(get(berth, "127.0.0.1:8080"), "hello\n", "by {target}");
        assert!(mapped(berth).contains(&format!("tcp . 8080 : {target}.")), "{target}: {}", mapped(berth));
        // What was given by chance stays, and is shown.
        assert_eq!(berth.run("port web 81").succeeds(), chosen);
        berth.run("port web 80").shows("0.0.0.0:8080");
    };
    check(&berth, "10.61.0");
    // A network behind in the order changes nothing, one before does.
    berth.run("network connect zzz web").succeeds();
    check(&berth, "10.61.0");
    berth.run("network disconnect aaa web").succeeds();
    check(&berth, "10.62.0");
    berth.run("network connect aaa web").succeeds();
    check(&berth, "10.61.0");
    berth.run("network disconnect zzz web").succeeds();
    berth.run("network connect --gw-priority 1 zzz web").succeeds();
    check(&berth, "10.62.0");
    // Without a way out nothing is published; with one it is again.
    berth.run("network disconnect zzz web").succeeds();
    berth.run("network create --internal inner").succeeds();
    berth.run("network connect inner web").succeeds();
    berth.run("network disconnect aaa web").succeeds();
    berth.run("port web").prints("");
    assert_eq!(mapped(&berth).matches("8080").count(), 0);
    berth.run("network connect aaa web").succeeds();
    assert_eq!(get(&berth, "127.0.0.1:8080"), "hello\n");
    // A port that somebody has meanwhile is named, and nothing is changed.
    berth.run("network disconnect aaa web").succeeds();
    berth.run("run -d --name thief -p 8080:80 busybox sleep 600").succeeds();
    berth.run("network connect aaa web").fails(1, "Bind for 0.0.0.0:8080 failed: port is already allocated");
    berth.run("exec web ls /sys/class/net").shows("eth");
    assert!(!berth.run("inspect -f '{{json .NetworkSettings.Networks}}' web").succeeds().contains("\"aaa\""));
}

#[test]
fn ports_of_a_routed_network_are_shown_without_a_port_of_the_host() {
    let berth = start();
    let mode = "-o com.docker.network.bridge.gateway_mode_ipv4=routed";
    berth.run(&format!("network create --subnet 10.63.0.0/24 {mode} routed")).succeeds();
    berth.run("run -d --name web --network routed -p 8080:80 busybox sleep 600").succeeds();
    let shown = berth.run("inspect -f '{{json .NetworkSettings.Ports}}' web").succeeds();
    assert!(shown.contains(r#"{"HostIp":"0.0.0.0","HostPort":""}"#), "{shown}");
    let open = berth.sandbox().shell("nft list set inet berth exposed4");
    assert!(open.contains("tcp . 10.63.0.") && open.contains(" . 80 "), "{open}");
    // The host's port is free; that of IPv6 is carried to the container, which has none.
    berth.run("run --rm -p 0.0.0.0:8080:80 busybox true").succeeds();
    berth.run("rm -f web").succeeds();
    assert!(!berth.sandbox().shell("nft list set inet berth exposed4").contains("10.63.0."));
}

#[test]
fn what_is_not_a_port_is_refused() {
    let berth = start();
    for (option, words) in [
        ("-p 80:80:80:80", "invalid IP address: 80:80"),
        ("-p 1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("-p 70000:80", "invalid hostPort: 70000"),
        ("-p 80:70000", "invalid containerPort: 70000"),
        ("-p 80-82:80-81", "invalid ranges specified for container and host Ports: 80-81 and 80-82"),
        ("-p 80:80/icmp", "invalid proto: icmp"),
    ] {
        berth.run(&format!("run --rm {option} busybox true")).fails(125, words);
    }
    berth
        .run("run --rm -p 192.0.2.1:80:80 busybox true")
        .fails(125, "failed to bind host port 192.0.2.1:80/tcp: cannot assign requested address");
}

#[test]
fn ipv6_clients_reach_a_container_without_ipv6() {
    let berth = start();
    serve(&berth, "web", "-p 8080:80");
    let inside = std::net::TcpListener::bind("[::1]:0").is_ok();
    if !inside {
        return;
    }
    assert_eq!(get(&berth, "[::1]:8080"), "hello\n");
}
