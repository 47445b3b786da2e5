//! Ports of both families, and those that a process carries where no rule can.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};

use berth_net::{NetConfig, Networks};

use crate::host::{Host, bare, container, id, run_in, within};
use crate::{connect, refused, serve, serve_at, shown, tcp};

/// Networks whose ports are held, and carried, by what is a process elsewhere and a thread here.
fn held_by_process(host: &Host, directory: &tempfile::TempDir) -> Networks {
    held_by_process_of(host, directory, bare())
}

fn held_by_process_of(host: &Host, directory: &tempfile::TempDir, config: NetConfig) -> Networks {
    let networks = host.networks(config);
    let home = host.netns.try_clone().unwrap();
    networks.hold_ports_by(berth_ports::Client::new(directory.path().join("ports.sock"), move |listener| {
        let home = home.try_clone()?;
        std::thread::spawn(move || within(home.as_fd(), || berth_ports::serve(listener)));
        Ok(())
    }));
    networks
}

#[test]
fn ipv6_ports_are_reached_like_the_others() {
    let Some(host) = Host::new() else { return };
    let outside = host.neighbour("198.51.100");
    if host.inside(|| TcpListener::bind("[::1]:0")).is_err() {
        return;
    }
    host.run("ip -6 addr add 2001:db8::1/64 dev to19851100 nodad");
    run_in(outside.as_fd(), "ip -6 addr add 2001:db8::2/64 dev wire nodad");
    let directory = tempfile::tempdir().unwrap();
    let networks = held_by_process(&host, &directory);
    let request = berth_net::NetworkRequest { name: "six".to_owned(), ipv6: true, ..Default::default() };
    networks.create(&request).unwrap();
    let server = networks.attach(&berth_net::EndpointRequest::on("six", id(1), "c1")).unwrap();
    let other = networks.attach(&berth_net::EndpointRequest::on("six", id(2), "c2")).unwrap();
    let gateway = server.record().gateway_v6.unwrap();
    serve_in_both(server.netns(), 80);
    let _ports = networks.publish(server.record(), &[tcp(80, "", 8080), tcp(80, "2001:db8::1", 9090)]).unwrap();
    assert_eq!(connect(outside.as_fd(), "[2001:db8::1]:8080").as_deref(), Ok("2001:db8::2"));
    assert_eq!(connect(outside.as_fd(), "[2001:db8::1]:9090").as_deref(), Ok("2001:db8::2"));
    assert_eq!(connect(host.netns.as_fd(), "[::1]:8080"), Ok(gateway.to_string()));
    assert_eq!(connect(host.netns.as_fd(), "[2001:db8::1]:8080").as_deref(), Ok("2001:db8::1"));
    assert_eq!(connect(other.netns(), "[2001:db8::1]:8080"), Ok(gateway.to_string()));
    refused(host.netns.as_fd(), "[::1]:9090");
}

#[test]
fn without_ipv6_in_the_container_a_process_carries() {
    let Some(host) = Host::new() else { return };
    if host.inside(|| TcpListener::bind("[::1]:0")).is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let networks = held_by_process(&host, &directory);
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 80);
    let ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    assert_eq!(shown(ports.ports()), ["0.0.0.0:8080-8080>80", ":::8080-8080>80"]);
    assert_eq!(connect(host.netns.as_fd(), "[::1]:8080").as_deref(), Ok("172.17.0.1"));
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:8080").as_deref(), Ok("172.17.0.1"));
    drop(ports);
    refused(host.netns.as_fd(), "[::1]:8080");
}

#[test]
fn without_rules_for_ipv6_a_process_carries_its_ports() {
    let Some(host) = Host::new() else { return };
    if host.inside(|| TcpListener::bind("[::1]:0")).is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let networks = held_by_process_of(&host, &directory, NetConfig { ipv6: true, rules_v6: false, ..bare() });
    let server = networks.attach(&container(1)).unwrap();
    serve_in_both(server.netns(), 80);
    let ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    let ways: Vec<_> = ports.ports().iter().map(|port| port.way).collect();
    assert_eq!(ways, [berth_net::Way::Translated, berth_net::Way::Relayed]);
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:8080").as_deref(), Ok("172.17.0.1"));
    let gateway = server.record().gateway_v6.unwrap();
    assert_eq!(connect(host.netns.as_fd(), "[::1]:8080"), Ok(gateway.to_string()));
    let rules = host.run("nft list ruleset");
    assert!(!rules.contains("ip6 saddr"), "{rules}");
    // What is not published is for others to keep apart: they were told so.
    serve_in_both(server.netns(), 81);
    let outside = host.neighbour("198.51.100");
    let inside = server.record().ipv6.unwrap().addr();
    host.run("ip -6 addr add 2001:db8::1/64 dev to19851100 nodad");
    run_in(outside.as_fd(), "ip -6 addr add 2001:db8::2/64 dev wire nodad\nip -6 route add fc00::/7 via 2001:db8::1");
    assert_eq!(connect(outside.as_fd(), &format!("[{inside}]:81")).as_deref(), Ok("2001:db8::2"));
    drop(ports);
    refused(host.netns.as_fd(), "[::1]:8080");
}

#[test]
fn where_no_process_may_carry_only_rules_lead_to_containers() {
    let Some(host) = Host::new() else { return };
    if host.inside(|| TcpListener::bind("[::1]:0")).is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let networks = held_by_process_of(&host, &directory, NetConfig { carries: false, ..bare() });
    let server = networks.attach(&container(1)).unwrap();
    serve(server.netns(), 80);
    let ports = networks.publish(server.record(), &[tcp(80, "", 8080)]).unwrap();
    assert_eq!(shown(ports.ports()), ["0.0.0.0:8080-8080>80"]);
    assert_eq!(connect(host.netns.as_fd(), "127.0.0.1:8080").as_deref(), Ok("172.17.0.1"));
    refused(host.netns.as_fd(), "[::1]:8080");
    let refusal = networks.publish(server.record(), &[tcp(80, "::1", 8081)]).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "ports of ::1 cannot be published: no firewall rule leads from there to the container, and --userland-proxy is off"
    );
}

/// Answers TCP clients of both families in a namespace with the address they come from.
fn serve_in_both(netns: BorrowedFd<'_>, port: u16) {
    serve_at(netns, ("::", port));
}
