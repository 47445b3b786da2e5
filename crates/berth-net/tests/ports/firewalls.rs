//! Published ports behind the rules that ufw and firewalld write. The rules were recorded by `scripts/record-firewalls`; the judge of what they mean
//! is the kernel: a host with the same rules and ordinary servers, to which the same clients connect.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_net::{Endpoint, FirewallMode, NetConfig, Networks};

use super::host::{Host, ask, bare, container, not_tested, run_in};
use super::{IMPATIENCE, serve, tcp};

/// As long as a busy machine may need for what is certain to happen.
const CERTAINLY: Duration = Duration::from_secs(20);
const PORTS: [u16; 6] = [8080, 8081, 8082, 8083, 8084, 9090];

/// A host with two links, `eth0` and `eth1`, and a neighbour on each.
struct Site {
    host: Host,
    first: OwnedFd,
    second: OwnedFd,
}

/// Who connects: by which link, from which address.
#[derive(Clone, Copy, Debug)]
enum Client {
    First(&'static str),
    Second,
}

fn data(name: &str) -> String {
    format!("{}/tests/ports/firewalls/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Site {
    fn new(firewall: &str) -> Option<Site> {
        let host = Host::new()?;
        let neighbour = |prefix: &str, name: &str| {
            let neighbour = host.neighbour(prefix);
            let link = format!("to{}", prefix.replace('.', ""));
            host.run(&format!("ip link set {link} down\nip link set {link} name {name}\nip link set {name} up"));
            neighbour
        };
        let first = neighbour("198.51.100", "eth0");
        let second = neighbour("203.0.113", "eth1");
        for address in ["198.51.100.166", "198.51.100.200"] {
            run_in(first.as_fd(), &format!("ip addr add {address}/24 dev wire"));
        }
        firewall.lines().for_each(|line| drop(host.run(line)));
        Some(Site { host, first, second })
    }

    /// The same with servers on the host itself.
    fn with_servers(firewall: &str) -> Option<Site> {
        let site = Site::new(firewall)?;
        PORTS.into_iter().for_each(|port| serve(site.host.netns.as_fd(), port));
        Some(site)
    }

    /// The same with a container that is published on these ports.
    fn with_container(firewall: &str, mode: FirewallMode) -> Option<(Site, Networks, Endpoint)> {
        let site = Site::new(firewall)?;
        let networks = site.host.networks(NetConfig { firewall: mode, ..bare() });
        let server = networks.attach(&container(1)).unwrap();
        serve(server.netns(), 80);
        let requests = PORTS.map(|port| tcp(80, "0.0.0.0", port));
        networks.publish(server.record(), &requests).unwrap().keep();
        Some((site, networks, server))
    }

    fn ask(&self, client: Client, port: u16, patience: Duration) -> Option<String> {
        self.become_(client);
        self.ask_again(client, port, patience)
    }

    /// Has the neighbour's next connections come from the client's address.
    fn become_(&self, client: Client) {
        if let Client::First(source) = client {
            run_in(self.first.as_fd(), &format!("ip route replace 198.51.100.1 dev wire src {source}"));
        }
    }

    fn ask_again(&self, client: Client, port: u16, patience: Duration) -> Option<String> {
        let (netns, address) = match client {
            Client::First(_) => (&self.first, "198.51.100.1"),
            Client::Second => (&self.second, "203.0.113.1"),
        };
        ask(netns.as_fd(), &format!("{address}:{port}"), patience).ok()
    }

    /// Waits until a port is open to a client, and says by which address the server knows him.
    #[track_caller]
    fn is_open(&self, client: Client, port: u16) {
        let since = Instant::now();
        let known_as = loop {
            if let Some(answer) = self.ask(client, port, Duration::from_secs(3)) {
                break answer;
            }
            assert!(since.elapsed() < CERTAINLY, "{client:?} does not reach {port}");
        };
        assert_eq!(known_as, if let Client::First(source) = client { source } else { "203.0.113.2" });
    }

    #[track_caller]
    fn is_shut(&self, client: Client, port: u16) {
        self.are_shut(client, &[port]);
    }

    /// Waits until a port is shut for a client.
    #[track_caller]
    fn becomes_shut(&self, client: Client, port: u16) {
        let since = Instant::now();
        while self.ask(client, port, IMPATIENCE).is_some() {
            assert!(since.elapsed() < CERTAINLY, "{client:?} still reaches {port}");
        }
    }

    /// Which ports each client reaches, and no others.
    #[track_caller]
    fn reached(&self, clients: &[(Client, &[u16])]) {
        for (client, open) in clients {
            open.iter().for_each(|port| self.is_open(*client, *port));
            let shut: Vec<_> = PORTS.into_iter().filter(|port| !open.contains(port)).collect();
            self.are_shut(*client, &shut);
        }
    }

    /// That a port is shut takes a while to see: all of them are tried at once.
    #[track_caller]
    fn are_shut(&self, client: Client, ports: &[u16]) {
        self.become_(client);
        let reached: Vec<_> = std::thread::scope(|scope| {
            let ask = |port: &u16| (*port, self.ask_again(client, *port, IMPATIENCE));
            let threads: Vec<_> = ports.iter().map(|port| scope.spawn(move || ask(port))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|(_, answer)| answer.is_some()).collect()
        });
        assert_eq!(reached, [], "{client:?}");
    }
}

fn explained(networks: &Networks, server: &Endpoint, client: &str) -> String {
    let client = Some(client).filter(|client| !client.is_empty()).map(|client| client.parse().unwrap());
    networks.firewall().unwrap().explain(&[server.record().id.clone()], client).join("\n")
}

#[track_caller]
fn shows(text: &str, words: &str) {
    assert!(text.contains(words), "no {words:?} in\n{text}");
}

/// As the host's own servers are reached behind ufw; the last but for the rate limit of 8083.
const UFW: [(Client, &[u16]); 3] = [
    (Client::First("198.51.100.2"), &[8080, 8081]),
    (Client::First("198.51.100.166"), &[8080]),
    (Client::Second, &[8080, 8082]),
];

pub fn ufw() -> String {
    format!("iptables-restore {}\nip6tables-restore {}", data("ufw.rules"), data("ufw6.rules"))
}

#[test]
fn published_ports_are_reached_as_the_hosts_own_servers_behind_ufw() {
    let Some(judge) = Site::with_servers(&ufw()) else { return };
    judge.is_open(UFW[0].0, 8083);
    for (client, open) in UFW {
        open.iter().for_each(|port| judge.is_open(client, *port));
        let shut: Vec<_> = PORTS.into_iter().filter(|port| *port != 8083 && !open.contains(port)).collect();
        judge.are_shut(client, &shut);
    }
    let (site, networks, server) = Site::with_container(&ufw(), FirewallMode::Respect).unwrap();
    site.reached(&UFW);
    let lines = explained(&networks, &server, "");
    shows(&lines, "0.0.0.0:8080 -> 80/tcp: reached: translated to 172.17.0.2");
    shows(
        &lines,
        "0.0.0.0:8081 -> 80/tcp: perhaps reached: translated to 172.17.0.2, which sees the client's address; chain INPUT of table ip filter (rule ",
    );
    shows(
        &lines,
        "0.0.0.0:8083 -> 80/tcp: not reached: kept closed, because it cannot be told whether chain INPUT of table ip filter (rule ",
    );
    shows(&lines, "asks for recent) accepts every client");
    shows(
        &lines,
        "0.0.0.0:9090 -> 80/tcp: not reached: chain INPUT of table ip filter drops it: let the host's firewall accept 9090/tcp",
    );
    shows(&explained(&networks, &server, "198.51.100.2"), "0.0.0.0:8081 -> 80/tcp: reached: ");
    shows(
        &explained(&networks, &server, "198.51.100.166"),
        "0.0.0.0:8081 -> 80/tcp: not reached: chain INPUT of table ip filter",
    );
    // ufw drops what is forwarded: containers were let through, and what they ask for outside comes back.
    shows(&networks.firewall().unwrap().lines().join("\n"), "rules that let containers pass were added to FORWARD");
    // Another rule for a client, and a reload: all of it flushed and written again.
    let open = "iptables -A ufw-user-input -s 198.51.100.166 -p tcp --dport 9090 -j ACCEPT";
    site.host.run(open);
    site.is_open(Client::First("198.51.100.166"), 9090);
    site.is_shut(Client::First("198.51.100.2"), 9090);
    site.host.run(&format!("iptables -F\niptables -X\n{}", ufw()));
    site.becomes_shut(Client::First("198.51.100.166"), 9090);
    site.reached(&UFW);
    site.host.run(&format!("nft flush ruleset\n{}", ufw()));
    site.is_open(Client::First("198.51.100.2"), 8081);
    site.becomes_shut(Client::First("198.51.100.166"), 8081);
    site.reached(&UFW[..1]);
}

const FIREWALLD: [(Client, &[u16]); 4] = [
    // Of the zone `work` by its address, of `public` by its link, with and without a rule of its own, of `dmz`.
    (Client::First("198.51.100.2"), &[8083]),
    (Client::First("198.51.100.200"), &[8080, 8081]),
    (Client::First("198.51.100.166"), &[8081]),
    (Client::Second, &[8082]),
];

#[test]
fn published_ports_are_reached_as_the_hosts_own_servers_behind_firewalld() {
    let firewall = format!("nft -f {}", data("firewalld.nft"));
    let Some(judge) = Site::with_servers(&firewall) else { return };
    judge.reached(&FIREWALLD);
    let (site, networks, server) = Site::with_container(&firewall, FirewallMode::Respect).unwrap();
    site.reached(&FIREWALLD);
    let lines = explained(&networks, &server, "");
    shows(&lines, "0.0.0.0:8080 -> 80/tcp: perhaps reached: ");
    shows(&lines, "0.0.0.0:9090 -> 80/tcp: not reached: chain filter_INPUT of table inet firewalld drops it");
    // The zone of the one is known, that of the other depends on the link.
    shows(&explained(&networks, &server, "198.51.100.2"), "0.0.0.0:8083 -> 80/tcp: reached: ");
    shows(&explained(&networks, &server, "198.51.100.200"), "0.0.0.0:8083 -> 80/tcp: not reached: ");
    site.host.run("nft add rule inet firewalld filter_IN_work_allow tcp dport 9090 accept");
    site.is_open(Client::First("198.51.100.2"), 9090);
    site.is_shut(Client::First("198.51.100.200"), 9090);
    site.host.run(&format!("nft flush ruleset\n{firewall}"));
    site.becomes_shut(Client::First("198.51.100.2"), 9090);
    site.is_open(Client::First("198.51.100.2"), 8083);
    site.reached(&FIREWALLD);
}

#[test]
fn without_respect_whoever_publishes_a_port_opens_it() {
    for firewall in [ufw(), format!("nft -f {}", data("firewalld.nft"))] {
        let Some((site, networks, server)) = Site::with_container(&firewall, FirewallMode::Docker) else { return };
        for client in [Client::First("198.51.100.2"), Client::Second] {
            site.is_open(client, 9090);
        }
        shows(&explained(&networks, &server, ""), "0.0.0.0:9090 -> 80/tcp: reached: translated to 172.17.0.2");
        shows(&explained(&networks, &server, ""), "the host's input rules would not open it, but are not asked");
        site.host.run(&format!("nft flush ruleset\n{firewall}"));
        site.is_open(Client::Second, 9090);
    }
}

/// Sets and maps of plain nft, as its users write them: by client, link, both, in ranges.
const NFT: &str = "
table inet fw {
    set friends { type ipv4_addr; flags interval; elements = { 198.51.100.0/26, 198.51.100.160-198.51.100.170 } }
    set enemies { type ipv4_addr; elements = { 198.51.100.166 } }
    set pairs { type ifname . inet_service; elements = { \"eth1\" . 8082 } }
    set passing { type ipv4_addr; flags timeout; elements = { 198.51.100.200 timeout 1h } }
    chain friendly { ip saddr @enemies return; tcp dport 8081 accept; }
    chain inner { tcp dport 8083 accept; }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        meta mark set 0x7
        iif lo accept
        ip protocol icmp accept
        tcp dport 8080 ip daddr 198.51.100.1 accept
        ip saddr @friends jump friendly
        iifname . tcp dport @pairs accept
        iifname vmap { \"lo\" : accept, \"eth1\" : jump inner }
        ip saddr vmap { 198.51.100.2 : continue, 198.51.100.192-198.51.100.255 : drop }
        ip saddr != 203.0.113.0/24 tcp dport 8084 accept
        ip saddr @passing tcp dport 9090 accept
    }
}
table ip more {
    chain input { type filter hook input priority 10; policy accept; ip saddr 198.51.100.166 tcp dport 8080 reject; }
}
";

const PLAIN: [(Client, &[u16]); 4] = [
    (Client::First("198.51.100.2"), &[8080, 8081, 8084]),
    (Client::First("198.51.100.166"), &[8084]),
    (Client::First("198.51.100.200"), &[8080]),
    (Client::Second, &[8082, 8083]),
];

#[test]
fn published_ports_are_reached_as_the_hosts_own_servers_behind_sets_and_maps_of_nft() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules");
    std::fs::write(&file, NFT).unwrap();
    let firewall = format!("nft -f {}", file.display());
    let Some(judge) = Site::with_servers(&firewall) else { return };
    // Elements of a set that end by themselves are known to the kernel only.
    judge.is_shut(Client::First("198.51.100.200"), 9090);
    judge.reached(&PLAIN);
    let (site, _networks, _server) = Site::with_container(&firewall, FirewallMode::Respect).unwrap();
    site.reached(&PLAIN);
    // A friend more, and one less.
    site.host.run("nft add element inet fw friends { 198.51.100.200 }");
    site.is_open(Client::First("198.51.100.200"), 8081);
    site.host.run("nft delete element inet fw friends { 198.51.100.200 }");
    site.becomes_shut(Client::First("198.51.100.200"), 8081);
}

#[test]
fn rules_of_legacy_iptables_are_noticed_and_reported() {
    let firewall = "iptables-legacy -P INPUT DROP\niptables-legacy -A INPUT -p tcp --dport 8080 -j ACCEPT";
    let Some(site) = Site::new("") else { return };
    let probe = site.host.inside(|| {
        let listed = std::process::Command::new("iptables-legacy").args(["-t", "filter", "-S"]).output();
        listed.is_ok_and(|listed| listed.status.success())
    });
    if !probe {
        // Neither the program nor the kernel's tables are everywhere any more.
        return not_tested("there is no legacy iptables, or its tables are not in the kernel");
    }
    let (site, networks, server) = Site::with_container(firewall, FirewallMode::Respect).unwrap();
    site.is_shut(Client::Second, 8080);
    shows(
        &explained(&networks, &server, ""),
        "8080 -> 80/tcp: not reached: kept closed, because it cannot be told whether legacy iptables has rules",
    );
    shows(&networks.firewall().unwrap().lines().join("\n"), "obstacle  legacy iptables is in use");
    let (site, networks, server) = Site::with_container(firewall, FirewallMode::Docker).unwrap();
    site.is_open(Client::Second, 9090);
    shows(&explained(&networks, &server, ""), "9090 -> 80/tcp: perhaps reached: ");
    shows(&networks.firewall().unwrap().lines().join("\n"), "obstacle  legacy iptables is in use");
}

#[test]
fn a_chain_that_rejects_containers_is_named_with_the_way_out() {
    let firewall = format!("nft -f {}\nnft flush chain inet firewalld filter_FWD_public_allow", data("firewalld.nft"));
    let Some((site, networks, _server)) = Site::with_container(&firewall, FirewallMode::Docker) else { return };
    let told = networks.firewall().unwrap().lines().join("\n");
    shows(
        &told,
        "obstacle  chain filter_FORWARD of table inet firewalld drops whatever comes from berth0: let it pass (firewall-cmd --permanent --zone=trusted --add-interface=berth0",
    );
    // What firewalld writes then.
    site.host.run("nft insert rule inet firewalld filter_FORWARD_ZONES iifname berth0 accept");
    let since = Instant::now();
    while networks.firewall().unwrap().lines().iter().any(|line| line.starts_with("obstacle")) {
        assert!(since.elapsed() < CERTAINLY, "{:?}", networks.firewall().unwrap().lines());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn whoever_changes_rules_all_the_time_does_not_keep_others_waiting() {
    let setup = "nft add table inet busy\nnft add chain inet busy input { type filter hook input priority 0 ; policy drop ; }\nnft add chain inet busy other\nnft add rule inet busy input ct state established accept";
    let Some((site, _networks, _server)) = Site::with_container(setup, FirewallMode::Respect) else { return };
    site.is_shut(Client::Second, 8080);
    let (end, over) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // It ends with this scope, however that ends.
        let _end = end;
        let site = &site;
        scope.spawn(move || {
            while over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                site.host.run("nft add rule inet busy other accept\nnft flush chain inet busy other");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        site.host.run("nft add rule inet busy input tcp dport 8080 accept");
        site.is_open(Client::Second, 8080);
    });
}
