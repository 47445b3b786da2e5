//! The name service's sockets in a container: found at port 53 of 127.0.0.11, and in nobody's way.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::host::{Host, bare, container, run_in, within};
use berth_net::{NAME_SERVER, NameSockets};

const PATIENCE: Duration = Duration::from_secs(3);

/// Asks by UDP, from within a namespace; the answer must come from where it was asked.
fn ask_udp(server: (std::net::Ipv4Addr, u16)) -> String {
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"who?", server).unwrap();
    let mut room = [0; 64];
    let (count, from) = client.recv_from(&mut room).unwrap();
    assert_eq!(from, server.into());
    String::from_utf8_lossy(&room[..count]).into_owned()
}

fn ask_tcp(server: (std::net::Ipv4Addr, u16)) -> String {
    let mut text = String::new();
    TcpStream::connect(server).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn serve(udp: UdpSocket, tcp: TcpListener, name: &'static str) {
    udp.set_nonblocking(false).unwrap();
    tcp.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let mut room = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut room) {
            udp.send_to(name.as_bytes(), peer).unwrap();
        }
    });
    std::thread::spawn(move || tcp.incoming().for_each(|stream| stream.unwrap().write_all(name.as_bytes()).unwrap()));
}

#[test]
fn a_server_of_the_container_s_own_has_port_53_for_itself() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    let ours: NameSockets = networks.name_sockets(endpoint.netns().try_clone_to_owned().unwrap()).unwrap();
    serve(ours.udp.into(), ours.tcp.into(), "names");
    within(endpoint.netns(), || {
        assert_eq!((ask_udp((NAME_SERVER, 53)), ask_tcp((NAME_SERVER, 53))), ("names".into(), "names".into()));
        let own = (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap());
        serve(own.0, own.1, "own");
        let here = std::net::Ipv4Addr::LOCALHOST;
        assert_eq!((ask_udp((here, 53)), ask_tcp((here, 53))), ("own".into(), "own".into()));
        assert_eq!((ask_udp((NAME_SERVER, 53)), ask_tcp((NAME_SERVER, 53))), ("names".into(), "names".into()));
    });
    let tracked = || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default();
    assert_eq!(within(endpoint.netns(), tracked), "", "nothing is tracked");
}

#[test]
fn who_tracks_connections_sees_an_ordinary_conversation() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    let rules = "nft add table ip own\n\
                 nft add chain ip own in { type filter hook input priority 0 ; policy drop ; }\n\
                 nft add rule ip own in ct state new accept\n\
                 nft add rule ip own in ct state established accept";
    run_in(endpoint.netns(), rules);
    let ours = networks.name_sockets(endpoint.netns().try_clone_to_owned().unwrap()).unwrap();
    serve(ours.udp.into(), ours.tcp.into(), "names");
    within(endpoint.netns(), || {
        assert_eq!((ask_udp((NAME_SERVER, 53)), ask_tcp((NAME_SERVER, 53))), ("names".into(), "names".into()));
        let tracked = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default();
        let questions: Vec<_> = tracked.lines().filter(|line| line.contains("dport=53 ")).collect();
        let answered = |line: &&str| line.contains("sport=53 ") && !line.contains("UNREPLIED");
        assert!(tracked.is_empty() || (questions.len() == 2 && questions.iter().all(answered)), "{tracked}");
    });
}

#[test]
fn new_sockets_take_the_place_of_old_ones() {
    let Some(host) = Host::new() else { return };
    let networks = host.networks(bare());
    let endpoint = networks.attach(&container(1)).unwrap();
    for name in ["first", "second"] {
        let ours = networks.name_sockets(endpoint.netns().try_clone_to_owned().unwrap()).unwrap();
        serve(ours.udp.into(), ours.tcp.into(), name);
        assert_eq!(within(endpoint.netns(), || ask_udp((NAME_SERVER, 53))), name);
    }
    let isolated = networks.isolated().unwrap();
    assert!(networks.name_sockets(isolated.as_fd().try_clone_to_owned().unwrap()).is_ok());
}
