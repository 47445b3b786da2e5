//! Networks that people make: create, ls, inspect, connect, disconnect, rm, prune; and what can go wrong with each.

use berth_testkit::Berth;
use serde_json::{Value, json};

use crate::start;

/// One field of a container's place on a network.
#[track_caller]
fn on(berth: &Berth, container: &str, network: &str, field: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").{field}}}}}");
    berth.run(&format!("inspect -f '{format}' {container}")).succeeds()
}

#[test]
fn a_network_is_made_listed_inspected_and_removed() {
    let berth = start();
    let id = berth.run("network create --subnet 10.88.0.0/24 --label a=b --internal blue").succeeds();
    assert_eq!(id.len(), 64);
    let listed =
        berth.run("network ls --filter label=a --no-trunc --format '{{.ID}} {{.Name}} {{.Driver}} {{.Scope}}'");
    listed.prints(&format!("{id} blue bridge local\n"));
    let both = ["{{.Id}} {{.Internal}} {{(index .IPAM.Config 0).Gateway}}", "{{json .Containers}}"];
    berth.run(&format!("network inspect -f '{}' blue", both[0])).prints(&format!("{id} true 10.88.0.1\n"));
    berth.docker(&format!("network inspect -f '{}' blue", both[1])).prints("{}\n");
    berth.run("network create blue").fails(1, "network with name blue already exists");
    berth.run(&format!("network rm {}", &id[..12])).prints(&format!("{}\n", &id[..12]));
    berth.run("network inspect blue").fails(1, "network blue not found");
    berth.run("network rm -f blue").prints("");
}

#[test]
fn a_container_joins_several_networks_in_the_order_given() {
    let berth = start();
    berth.run("network create --subnet 10.88.1.0/24 zoo").succeeds();
    berth.run("network create --ipv6 --subnet 10.88.2.0/24 --subnet fd00:88::/64 ant").succeeds();
    berth
        .run("run -d --name box --network zoo --network name=ant,ip=10.88.2.9,ip6=fd00:88::9,mac-address=02:42:0a:00:00:09,gw-priority=1 busybox sleep 600")
        .succeeds();
    berth.run("exec box ip -o -4 addr show eth0").shows("10.88.1.2/24");
    berth.run("exec box ip -o addr show eth1").shows("10.88.2.9/24").shows("fd00:88::9/64");
    berth.run("exec box cat /sys/class/net/eth1/address").prints("02:42:0a:00:00:09\n");
    berth.run("exec box ip route").shows("default via 10.88.2.1 dev eth1");
    berth.run("exec box ip -6 route").shows("default via fd00:88::1 dev eth1");
    berth.run("exec box cat /etc/hosts").shows("10.88.1.2\t").shows("10.88.2.9\t").shows("fd00:88::9\t");
    assert_eq!(on(&berth, "box", "ant", "GlobalIPv6Address"), "fd00:88::9");
    berth.run("exec box ping -c 1 -W 3 fd00:88::1").shows("1 packets received");
    let members =
        berth.run("network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}}{{end}}' ant");
    members.prints("box 10.88.2.9/24 fd00:88::9/64\n");
    // Names of interfaces can be chosen; without gw-priority the first by name leads out.
    let named = "name=zoo,driver-opt=com.docker.network.endpoint.ifname=lan";
    berth
        .run(&format!("run --rm --network {named} --network ant busybox ip route"))
        .shows("default via 10.88.2.1 dev eth0");
}

#[test]
fn addresses_of_others_are_left_out_and_those_of_the_link_added() {
    let berth = start();
    let others = "--aux-address printer=10.89.1.2 --aux-address dev=10.89.1.3 --ip-range 10.89.1.0/29";
    berth.run(&format!("network create --subnet 10.89.1.0/24 {others} office")).succeeds();
    let link = "--link-local-ip 169.254.9.9 --link-local-ip fe80::99";
    for client in [berth_testkit::Client::Berth, berth_testkit::Client::Docker] {
        let run = format!("run --rm --network office {link} busybox ip -o addr show eth0");
        let shown = berth.run_as(client, &run).succeeds();
        // Which one depends on how many sandboxes are made ahead by now.
        assert!(
            (4..=7).any(|last| shown.contains(&format!(" 10.89.1.{last}/24"))),
            "an address outside of the range in {shown}"
        );
        for address in ["169.254.9.9/16", "fe80::99/64"] {
            assert!(shown.contains(address), "no {address} in {shown}");
        }
    }
    berth.run("run -d --name box --network office busybox sleep 600").succeeds();
    let shown = berth.run("network inspect -f '{{json (index .IPAM.Config 0).AuxiliaryAddresses}}' office").succeeds();
    assert_eq!(shown, r#"{"dev":"10.89.1.3","printer":"10.89.1.2"}"#);
    berth.run("network connect --link-local-ip 169.254.9.10 bridge box").fails(1, "");
    berth.run("network create two").succeeds();
    berth.run("network connect --link-local-ip 169.254.9.10 two box").succeeds();
    berth.run("exec box ip -o addr show eth1").shows("169.254.9.10/16");
}

#[test]
fn a_running_container_is_connected_and_taken_off() {
    let berth = start();
    berth.run("network create --subnet 10.88.3.0/24 red").succeeds();
    berth.run("run -d --name other --network red busybox sleep 600").succeeds();
    berth.run("run -d --name box busybox sleep 600").succeeds();
    berth.run("network connect --ip 10.88.3.77 --alias db --gw-priority 5 red box").prints("");
    berth.run("exec box ip route").shows("default via 10.88.3.1 dev eth1");
    berth.run("exec box cat /etc/hosts").shows("10.88.3.77");
    berth.run("exec other ping -c 1 -W 3 10.88.3.77").shows("1 packets received");
    assert_eq!(on(&berth, "box", "red", "Aliases"), "[db]");
    berth.run("network connect red box").fails(1, "endpoint with name box already exists in network red");
    berth.run("network rm red").fails(1, "network red has active endpoints (name:\"");
    berth.run("network disconnect red box").prints("");
    berth.run("exec box ip -o link").shows("eth0");
    berth.run("exec box ip route").shows("default via 172.17.0.1 dev eth0");
    assert!(!berth.run("exec box cat /etc/hosts").succeeds().contains("10.88.3.77"));
    berth.run("network disconnect red box").fails(1, "is not connected to network red");
    // Taken off its last network it keeps its loopback, and can come back.
    berth.run("network disconnect bridge box").prints("");
    berth.run("exec box ls /sys/class/net").prints("lo\n");
    berth.run("network connect red box").prints("");
    berth.run("exec box ip route").shows("default via 10.88.3.1 dev eth0");
}

#[test]
fn a_container_that_does_not_run_takes_its_networks_into_its_next_start() {
    let berth = start();
    berth.run("network create --subnet 10.88.4.0/24 red").succeeds();
    berth.run("create --name box busybox sleep 600").succeeds();
    berth.run("network connect --ip 10.88.4.9 red box").succeeds();
    berth.run("network disconnect bridge box").succeeds();
    berth.run("start box").succeeds();
    berth.run("exec box ip -o -4 addr show eth0").shows("10.88.4.9/24");
    berth.run("stop -t 0 box").succeeds();
    berth.run("network connect bridge box").succeeds();
    berth.run("start box").succeeds();
    berth.run("exec box ip -o -4 addr show eth0").shows("10.88.4.9/24");
    berth.run("exec box ip -o -4 addr show eth1").shows("172.17.0.");
}

#[test]
fn a_restart_and_a_killed_daemon_change_no_address() {
    let mut berth = start();
    berth.run("network create --ipv6 red").succeeds();
    berth.run("run -d --name box --network red busybox sleep 600").succeeds();
    berth.run("network connect bridge box").succeeds();
    let look =
        |berth: &Berth| ["IPAddress", "GlobalIPv6Address", "MacAddress"].map(|field| on(berth, "box", "red", field));
    let before = look(&berth);
    berth.kill_daemon();
    berth.start_daemon();
    assert_eq!(look(&berth), before);
    berth.run("exec box ip -o -4 addr show eth1").shows("172.17.0.");
    berth.run("network disconnect bridge box").succeeds();
    berth.run("restart -t 0 box").succeeds();
    assert_eq!(look(&berth), before);
    berth.run("exec box ip -o addr show eth0").shows(&before[0]).shows(&before[1]);
}

#[test]
fn what_happens_to_networks_is_told() {
    let berth = start();
    berth.run("network create ev").succeeds();
    berth.run("run -d --name box busybox sleep 600").succeeds();
    for words in ["network connect ev box", "network disconnect ev box", "network rm ev"] {
        berth.run(words).succeeds();
    }
    let until = berth.sandbox().shell("date +%s.%N");
    let format = "'{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}'";
    let told = berth.run(&format!(
        "events --since 0 --until {} --filter type=network --filter network=ev --format {format}",
        until.trim()
    ));
    told.prints("create ev bridge\nconnect ev bridge\ndisconnect ev bridge\ndestroy ev bridge\n");
}

#[test]
fn only_networks_that_nobody_uses_are_pruned() {
    let berth = start();
    for words in ["create idle", "create --label keep=1 kept", "create busy"] {
        berth.run(&format!("network {words}")).succeeds();
    }
    berth.run("run -d --name box --network busy busybox sleep 600").succeeds();
    berth.run("network prune -f --filter label!=keep").prints("Deleted Networks:\nidle\n\n");
    berth.run("network ls --filter type=custom --format {{.Name}}").prints("busy\nkept\n");
    berth.run("network ls --filter dangling=true --format {{.Name}}").prints("kept\n");
    berth.docker("network prune -f").prints("Deleted Networks:\nkept\n\n");
    berth.run("network prune -f").prints("");
}

#[test]
fn containers_kept_apart_reach_the_gateway_only() {
    let berth = start();
    let option = "-o com.docker.network.bridge.enable_icc=false";
    berth.run(&format!("network create --subnet 10.88.5.0/24 {option} apart")).succeeds();
    berth.run("run -d --network apart --ip 10.88.5.9 busybox sleep 600").succeeds();
    berth.run("run --rm --network apart busybox ping -c 1 -W 3 10.88.5.1").shows("1 packets received");
    berth.run("run --rm --network apart busybox ping -c 1 -W 1 10.88.5.9").exits(1);
}

#[test]
fn options_of_a_bridge_have_their_effect() {
    let berth = start();
    let options = "-o com.docker.network.bridge.name=mine0 -o com.docker.network.driver.mtu=1400 \
                   -o com.docker.network.container_iface_prefix=net";
    berth.run(&format!("network create {options} opts")).succeeds();
    berth.run("run --rm --network opts busybox cat /sys/class/net/net0/mtu").prints("1400\n");
    assert!(berth.sandbox().shell("ip -o link show mine0").contains("mtu 1400"));
    let inhibited =
        "-o com.docker.network.bridge.inhibit_ipv4=true --subnet 10.88.6.0/24 -o com.docker.network.bridge.name=quiet0";
    berth.run(&format!("network create {inhibited} quiet")).succeeds();
    berth.run("run --rm --network quiet busybox ip route").shows("default via 10.88.6.1");
    assert!(!berth.sandbox().shell("ip -4 -o addr show quiet0").contains("10.88.6.1"));
    let isolated = "-o com.docker.network.bridge.gateway_mode_ipv4=isolated --subnet 10.88.7.0/24 -o com.docker.network.bridge.name=alone0";
    berth.run(&format!("network create {isolated} alone")).fails(1, "can only be used for an internal bridge network");
    berth.run(&format!("network create --internal {isolated} alone")).succeeds();
    assert!(!berth.run("run --rm --network alone busybox ip route").succeeds().contains("default"));
    assert_eq!(berth.sandbox().shell("ip -4 -o addr show alone0"), "");
    let sysctl = "name=opts,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1";
    berth
        .run(&format!("run --rm --network {sysctl} busybox cat /proc/sys/net/ipv4/conf/net0/log_martians"))
        .prints("1\n");
    let unknown = berth.run("network create -o com.docker.network.bridge.nmae=x typo");
    assert!(unknown.code == 0 && unknown.stderr.contains("does not know the options com.docker.network.bridge.nmae"));
}

#[test]
fn subnets_come_from_the_pools_that_were_configured_and_avoid_the_hosts_routes() {
    let berth = Berth::start_empty(
        crate::BERTH,
        &["--default-address-pool", "base=10.91.0.0/16,size=24", "--default-address-pool", "base=fd00:91::/48,size=64"],
    );
    let _ = berth
        .sandbox()
        .shell("ip link add vpn0 type bridge && ip link set vpn0 up && ip route add 10.91.1.0/24 dev vpn0");
    let subnets = |name: &str| {
        berth
            .run(&format!("network inspect -f '{{{{range .IPAM.Config}}}}{{{{.Subnet}}}} {{{{end}}}}' {name}"))
            .succeeds()
    };
    berth.run("network create one").succeeds();
    assert_eq!(subnets("one").trim(), "10.91.2.0/24", "the default bridge has the first, the VPN the second");
    berth.run("network create --ipv6 two").succeeds();
    assert_eq!(subnets("two").trim(), "10.91.3.0/24 fd00:91::/64");
    berth.run("network create --ipv6 --ipv4=false three").succeeds();
    assert_eq!(subnets("three").trim(), "fd00:91:0:1::/64");
}

#[test]
fn the_default_bridge_follows_the_daemons_options() {
    let berth = Berth::start_with(
        crate::BERTH,
        &[
            "--bip=10.92.0.1/16",
            "--fixed-cidr=10.92.4.0/24",
            "--default-gateway=10.92.0.254",
            "--ipv6",
            "--fixed-cidr-v6=fd00:92::/64",
            "--ip=127.0.0.1",
        ],
    );
    let format = "{{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{.Gateway}};{{end}} {{.EnableIPv6}}";
    berth
        .run(&format!("network inspect -f '{format}' bridge"))
        .prints("10.92.0.0/16 10.92.4.0/24 10.92.0.1;fd00:92::/64 fd00:92::/64 fd00:92::1; true\n");
    berth.run("run -d --name box -p 8080:80 busybox sleep 600").succeeds();
    assert_eq!(on(&berth, "box", "bridge", "IPAddress"), "10.92.4.0");
    assert_eq!(on(&berth, "box", "bridge", "Gateway"), "10.92.0.254");
    assert_eq!(on(&berth, "box", "bridge", "GlobalIPv6Address"), "fd00:92::2");
    berth.run("exec box ip route").shows("default via 10.92.0.254 dev eth0");
    berth.run("exec box ip -6 route").shows("default via fd00:92::1 dev eth0");
    berth.run("exec box ping -c 1 -W 3 fd00:92::1").shows("1 packets received");
    // `--ip` is about the default bridge alone.
    berth.run("port box").prints("80/tcp -> 127.0.0.1:8080\n");
    berth.run("network create other").succeeds();
    berth.run("run -d --name far --network other -p 8081:80 busybox sleep 600").succeeds();
    berth.run("port far 80").shows("0.0.0.0:8081");
}

/// What is wrong with requests for networks: the body, the status, the words.
#[test]
fn the_daemons_options_decide_where_nobody_else_does() {
    let berth = Berth::start_with(
        crate::BERTH,
        &[
            "--mtu=1300",
            "--icc=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--ip6tables=false",
            "--userland-proxy=false",
            "--host-gateway-ip=192.0.2.9",
            "--host-gateway-ip=2001:db8::9",
            "--default-network-opt=bridge=com.docker.network.driver.mtu=1400",
        ],
    );
    assert_eq!(berth.sandbox().shell("echo 0 > /proc/sys/net/ipv4/ip_forward"), "");
    berth.run("run -d --name one -p 8080:80 busybox sleep 600").succeeds();
    berth.run("exec one cat /sys/class/net/eth0/mtu").prints("1300\n");
    let address = berth.run("inspect -f {{.NetworkSettings.Networks.bridge.IPAddress}} one").succeeds();
    berth.run(&format!("run --rm busybox ping -c 1 -W 1 {address}")).fails(1, "");
    assert_eq!(berth.sandbox().shell("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
    let rules = berth.sandbox().shell("nft list ruleset");
    assert!(rules.contains("IPv6 is left to others") && !rules.contains("outbound traffic"), "{rules}");
    // Nothing carries from IPv6 to a container without it.
    berth.run("port one").prints("80/tcp -> 0.0.0.0:8080\n");
    let hosts = berth.run("run --rm --add-host gate:host-gateway busybox grep gate /etc/hosts");
    hosts.prints("192.0.2.9\tgate\n2001:db8::9\tgate\n");
    berth.run("network create usual").succeeds();
    berth.run("run --rm --network usual busybox cat /sys/class/net/eth0/mtu").prints("1400\n");
    berth.run("network create -o com.docker.network.driver.mtu=1350 own").succeeds();
    berth.run("run --rm --network own busybox cat /sys/class/net/eth0/mtu").prints("1350\n");
}

#[test]
fn wrong_requests_for_networks_are_refused_with_dockers_words() {
    let berth = start();
    berth.run("network create --subnet 10.77.0.0/24 taken").succeeds();
    let check = |path: &str, body: Value, status: u16, words: &str| {
        let (found, answer) = berth.api("POST", path, Some(&body));
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(words), "{path} {body}: {found} {answer}");
    };
    let create = |more: Value, status: u16, words: &str| {
        let mut body = json!({"Name": "x"});
        body.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
        check("/networks/create", body, status, words);
    };
    let ipam = |config: Value| json!({"IPAM": {"Config": [config]}});
    create(ipam(json!({"Subnet": "10.77.0.128/25"})), 403, "Pool overlaps with other one on this address space");
    create(json!({"Driver": "bogus"}), 404, "plugin \"bogus\" not found");
    create(json!({"Driver": "host"}), 403, "only one instance of \"host\" network is allowed");
    create(json!({"EnableIPv4": false}), 400, "IPv4 or IPv6 must be enabled");
    let two = json!({"IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}, {"Subnet": "10.2.0.0/24"}]}});
    create(two, 403, "bridge driver does not support multiple subnets");
    let parent = json!({"Driver": "macvlan", "Options": {"parent": "nosuch0"}});
    create(parent, 400, "the parent interface nosuch0 does not exist on this host");
    let mode = json!({"Driver": "ipvlan", "Options": {"ipvlan_mode": "l4"}});
    create(mode, 400, "requested ipvlan mode 'l4' is not valid");
    let icc = json!({"Options": {"com.docker.network.bridge.enable_icc": "perhaps"}});
    create(icc, 400, "failed to parse com.docker.network.bridge.enable_icc value: perhaps");
    berth.run("run -d --name box busybox sleep 600").succeeds();
    let connect = |settings: Value, status: u16, words: &str| {
        check("/networks/taken/connect", json!({"Container": "box", "EndpointConfig": settings}), status, words);
    };
    connect(
        json!({"IPAMConfig": {"IPv4Address": "10.78.0.1"}}),
        400,
        "no configured subnet contains IP address 10.78.0.1",
    );
    connect(json!({"IPAMConfig": {"IPv4Address": "10.77.0.1"}}), 403, "Address already in use");
    connect(json!({"IPAMConfig": {"IPv4Address": "x"}}), 400, "invalid JSON: ParseAddr(\"x\"): unable to parse IP");
    let ifname = json!({"DriverOpts": {"com.docker.network.endpoint.ifname": "a/b"}});
    connect(ifname, 400, "invalid interface name");
    let sysctls = json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "kernel.x=1"}});
    connect(sysctls, 400, "unrecognised network interface sysctl");
    check("/networks/nosuch/connect", json!({"Container": "box"}), 404, "network nosuch not found");
    check("/networks/taken/connect", json!({"Container": "nosuch"}), 404, "No such container: nosuch");
    check(
        "/networks/taken/disconnect",
        json!({"Container": "nosuch", "Force": true}),
        404,
        "endpoint nosuch not found",
    );
    let links = berth.run("exec box ls /sys/class/net").succeeds();
    assert_eq!(links, "eth0\nlo", "nothing is left of what was refused");
    // A full network says so, and a place on it is free again when a container ends.
    berth.run("network create --subnet 10.76.0.0/30 tiny").succeeds();
    berth.run("run -d --name first --network tiny busybox sleep 600").succeeds();
    berth
        .run("run --rm --network tiny busybox true")
        .fails(125, "no available IPv4 addresses on this network's address pools: tiny");
    berth.run("rm -f first").succeeds();
    berth.run("run --rm --network tiny busybox true").succeeds();
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let berth = start();
    // Without a parent a dummy is made for it. Not every kernel has dummies, or ipvlan.
    let made = berth.run("network create -d ipvlan --subnet 10.75.0.0/24 lan");
    if made.code == 0 {
        berth.run("network rm lan").succeeds();
    } else {
        assert!(made.stderr.contains("operation not supported: the kernel of this host has no dummy"), "{made:?}");
        berth.run("network ls --filter type=custom -q").prints("");
    }
}
