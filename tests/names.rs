//! The name service: what containers on named networks find at 127.0.0.11, and that it is always there.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use berth_testkit::Berth;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use crate::{eventually, start};

const SERVER: &str = "127.0.0.11:53";
const PATIENCE: Duration = Duration::from_secs(10);

/// An engine with a network `front`.
fn with_front() -> Berth {
    let berth = start();
    make_network(&berth, "front");
    berth
}

fn make_network(berth: &Berth, name: &str) {
    let (status, answer) = berth.api("POST", "/networks/create", Some(&json!({ "Name": name })));
    assert_eq!(status, 201, "{answer}");
}

fn address(berth: &Berth, container: &str, network: &str) -> String {
    berth
        .run(&format!("inspect -f '{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}' {container}"))
        .succeeds()
}

/// Does something on a thread inside the network of a process.
fn inside<T: Send + 'static>(pid: impl std::fmt::Display, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("the process runs");
    std::thread::spawn(move || {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
            .expect("these tests need root");
        work()
    })
}

fn pid(berth: &Berth, container: &str) -> String {
    berth.run(&format!("inspect -f {{{{.State.Pid}}}} {container}")).succeeds()
}

/// A question for the addresses of a name.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a short name"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// The answer of a server of others: the same address for every name.
fn reply(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    bytes.extend(address.octets());
    bytes
}

/// The last address in an answer, or its code if there is none.
fn outcome(answer: &[u8]) -> Result<Ipv4Addr, u8> {
    match answer[7] {
        0 => Err(answer[3] & 15),
        _ => {
            let last: [u8; 4] = answer[answer.len() - 4..].try_into().expect("four bytes");
            Ok(last.into())
        }
    }
}

fn ask(name: &str) -> Result<Ipv4Addr, u8> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(&question(7, name), SERVER).expect("sent");
    let mut room = [0; 512];
    let (count, from) = socket.recv_from(&mut room).expect("an answer");
    assert_eq!(from, SERVER.parse::<SocketAddr>().expect("an address"));
    outcome(&room[..count])
}

fn ask_by_tcp(name: &str) -> Result<Ipv4Addr, u8> {
    let mut stream = TcpStream::connect(SERVER).expect("connected");
    let question = question(8, name);
    stream.write_all(&(question.len() as u16).to_be_bytes()).and_then(|()| stream.write_all(&question)).expect("sent");
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("an answer");
    let mut answer = vec![0; u16::from_be_bytes(head).into()];
    stream.read_exact(&mut answer).expect("an answer");
    outcome(&answer)
}

/// Gives the host a resolver on its own loopback, as systemd-resolved is one, which answers every name.
fn give_host_a_resolver(berth: &Berth, address: Ipv4Addr) {
    inside(berth.daemon_pid(), move || {
        let (udp, tcp) = (UdpSocket::bind("127.0.0.53:53"), TcpListener::bind("127.0.0.53:53"));
        let (udp, tcp) = (udp.expect("a port"), tcp.expect("a port"));
        std::thread::spawn(move || {
            let mut room = [0; 512];
            while let Ok((count, peer)) = udp.recv_from(&mut room) {
                udp.send_to(&reply(&room[..count], address), peer).expect("sent");
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.expect("a client");
                let mut room = [0; 512];
                let count = stream.read(&mut room).expect("a question");
                let reply = reply(&room[2..count], address);
                stream.write_all(&(reply.len() as u16).to_be_bytes()).expect("sent");
                stream.write_all(&reply).expect("sent");
            }
        });
    })
    .join()
    .expect("a resolver");
    let file = berth.sandbox().path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.53\nsearch example.test\n").expect("written");
    assert_eq!(berth.sandbox().shell(&format!("mount --bind {} /etc/resolv.conf 2>&1", file.display())), "");
}

/// The resolver's process.
fn resolver(berth: &Berth) -> Option<i32> {
    let files = berth.sandbox().cgroups().into_iter().map(|cgroup| cgroup.join("dns/cgroup.procs"));
    files.filter_map(|file: PathBuf| std::fs::read_to_string(file).ok()?.lines().next()?.parse().ok()).next()
}

#[test]
fn containers_find_each_other_by_name_alias_and_id() {
    let berth = with_front();
    let id = berth.run("run -d --name web --network front --network-alias www -h box busybox sleep 600").succeeds();
    berth.run("run -d --name other busybox sleep 600").succeeds();
    let web = address(&berth, "web", "front");
    for name in ["web", "WEB", "web.front", "www", "www.front", "box", &id[..12]] {
        berth.run(&format!("run --rm --network front busybox nslookup {name}")).shows(&format!("Address: {web}"));
    }
    berth.docker(&format!("run --rm --network front busybox nslookup {web}")).shows("name = web.front");
    berth.run("run --rm --network front busybox ping -c 1 -W 2 web").shows("1 packets received");
    berth.run("run --rm --network front busybox nslookup other").fails(1, "");
    let gateway = berth.run("inspect -f '{{.NetworkSettings.Networks.front.Gateway}}' web").succeeds();
    berth.run("exec web nslookup host.docker.internal").shows(&format!("Address: {gateway}"));
    berth.run("exec other cat /etc/hosts").shows("\thost.docker.internal\n");
}

#[test]
fn several_containers_of_one_alias_take_turns() {
    let berth = with_front();
    let make = |name| {
        berth.run(&format!("run -d --name {name} --network front --network-alias app busybox sleep 600")).succeeds();
        address(&berth, name, "front").parse().expect("an address")
    };
    let mut all: Vec<Ipv4Addr> = ["one", "two", "three"].into_iter().map(make).collect();
    let asking = inside(pid(&berth, "one"), || (0..3).map(|_| ask("app").expect("an address")).collect::<Vec<_>>());
    let mut answers = asking.join().expect("answers");
    answers.sort();
    all.sort();
    assert_eq!(answers, all);
}

#[test]
fn names_follow_the_container() {
    let berth = with_front();
    make_network(&berth, "back");
    berth.run("run -d --name watcher --network front busybox sleep 600").succeeds();
    berth.run("run -d --name web --network back busybox sleep 600").succeeds();
    let watcher = pid(&berth, "watcher");
    let ask = |name: &'static str| inside(&watcher, move || ask(name)).join().expect("an answer");
    assert_eq!(ask("web"), Err(2), "another network");
    let connect = json!({ "Container": "web", "EndpointConfig": { "Aliases": ["www"] } });
    assert_eq!(berth.api("POST", "/networks/front/connect", Some(&connect)).0, 200);
    let web: Ipv4Addr = address(&berth, "web", "front").parse().expect("an address");
    assert_eq!((ask("web"), ask("www")), (Ok(web), Ok(web)));
    berth.run("rename web shop").succeeds();
    assert_eq!((ask("web"), ask("shop")), (Err(2), Ok(web)));
    assert_eq!(berth.api("POST", "/networks/front/disconnect", Some(&json!({ "Container": "shop" }))).0, 200);
    assert_eq!(ask("shop"), Err(2));
    berth.run("run -d --name short --network front busybox sleep 600").succeeds();
    assert!(ask("short").is_ok());
    berth.run("kill short").succeeds();
    eventually("the name is gone", || ask("short") == Err(2));
}

#[test]
fn a_container_of_the_default_bridge_gets_names_when_it_is_connected() {
    let berth = with_front();
    berth.run("run -d --name web --network front busybox sleep 600").succeeds();
    berth.run("run -d --name late busybox sleep 600").succeeds();
    berth.run("exec late nslookup web").fails(1, "");
    assert_eq!(berth.api("POST", "/networks/front/connect", Some(&json!({ "Container": "late" }))).0, 200);
    berth.run("exec late nslookup web").shows(&format!("Address: {}", address(&berth, "web", "front")));
    berth.run("exec web nslookup late").shows(&format!("Address: {}", address(&berth, "late", "front")));
}

#[test]
fn everything_else_is_asked_of_the_host_s_resolver() {
    let berth = with_front();
    give_host_a_resolver(&berth, Ipv4Addr::new(192, 0, 2, 53));
    berth.run("run -d --name web --network front busybox sleep 600").succeeds();
    let both = inside(pid(&berth, "web"), || (ask("example.org"), ask_by_tcp("example.com"), ask_by_tcp("web")));
    let (udp, tcp, own) = both.join().expect("answers");
    let far = Ok(Ipv4Addr::new(192, 0, 2, 53));
    assert_eq!((udp, tcp), (far, far));
    assert_eq!(own, address(&berth, "web", "front").parse().map_err(|_| 0));
    let text = berth.run("exec web cat /etc/resolv.conf").succeeds();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["nameserver 127.0.0.11", "search example.test", "options ndots:0"]);
}

#[test]
fn from_an_internal_network_nobody_is_asked() {
    // CVE-2024-29018: names carried out what the network would not.
    let berth = start();
    give_host_a_resolver(&berth, Ipv4Addr::new(192, 0, 2, 53));
    let internal = json!({ "Name": "closed", "Internal": true });
    assert_eq!(berth.api("POST", "/networks/create", Some(&internal)).0, 201);
    berth.run("run -d --name web --network closed busybox sleep 600").succeeds();
    let answers = inside(pid(&berth, "web"), || (ask("secret.example.org"), ask("web").is_ok()));
    assert_eq!(answers.join().expect("answers"), (Err(2), true));
}

#[test]
fn servers_and_options_somebody_chose_are_used() {
    let berth = with_front();
    give_host_a_resolver(&berth, Ipv4Addr::new(192, 0, 2, 53));
    // Its own loopback, not the host's: that is where its network would find it.
    berth.run("run -d --name web --network front --dns 127.0.0.53 --dns-search a.test --dns-option ndots:2 busybox sleep 600").succeeds();
    let text = berth.run("exec web cat /etc/resolv.conf").succeeds();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["nameserver 127.0.0.11", "search a.test", "options ndots:2"]);
    let answers = inside(pid(&berth, "web"), || {
        let nobody = ask("example.org");
        let udp = UdpSocket::bind("127.0.0.53:53").expect("a port");
        let server = std::thread::spawn(move || {
            let mut room = [0; 512];
            let (count, peer) = udp.recv_from(&mut room).expect("a question");
            udp.send_to(&reply(&room[..count], Ipv4Addr::new(192, 0, 2, 1)), peer).expect("sent");
        });
        let answers = (nobody, ask("example.net"), ask("single"));
        server.join().expect("a question");
        answers
    });
    // A single word is left to the search domains, as the client has `ndots`.
    let expected = (Err(2), Ok(Ipv4Addr::new(192, 0, 2, 1)), Err(0));
    assert_eq!(answers.join().expect("answers"), expected);
}

#[test]
fn a_container_s_own_server_on_port_53_is_not_disturbed() {
    let berth = with_front();
    berth
        .run("run -d --name web --network front busybox sh -c 'while true; do echo mine | nc -l -p 53; done'")
        .succeeds();
    let web: Ipv4Addr = address(&berth, "web", "front").parse().expect("an address");
    let pid = pid(&berth, "web");
    eventually("it listens", || {
        let mut text = String::new();
        let asked = inside(&pid, move || {
            let mut stream = TcpStream::connect((web, 53))?;
            stream.read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        });
        asked.join().expect("a thread").is_ok_and(|text| text == "mine\n")
    });
    let answers = inside(&pid, || (ask("web"), ask_by_tcp("web"))).join().expect("answers");
    assert_eq!(answers, (Ok(web), Ok(web)));
}

#[test]
fn no_question_is_lost_while_the_daemon_is_killed_and_started() {
    let mut berth = with_front();
    berth.run("run -d --name web --network front busybox sleep 600").succeeds();
    let web: Ipv4Addr = address(&berth, "web", "front").parse().expect("an address");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let asking = inside(pid(&berth, "web"), move || {
        let mut count = 0;
        while !stopped.load(Ordering::Relaxed) {
            assert_eq!(ask("web"), Ok(web));
            count += 1;
        }
        count
    });
    let before = resolver(&berth);
    for _ in 0..5 {
        berth.kill_daemon();
        berth.start_daemon();
    }
    stop.store(true, Ordering::Relaxed);
    assert!(asking.join().expect("every question was answered") > 5);
    assert_eq!(resolver(&berth), before, "the same process all the time");
    berth.run("run --rm --network front busybox nslookup web").shows(&format!("Address: {web}"));
}

#[test]
fn a_lost_resolver_is_replaced() {
    let berth = with_front();
    berth.run("run -d --name web --network front busybox sleep 600").succeeds();
    berth.run("run -d --name db --network front busybox sleep 600").succeeds();
    let (web, db) = (pid(&berth, "web"), address(&berth, "db", "front"));
    let first = resolver(&berth).expect("a resolver");
    let process = rustix::process::Pid::from_raw(first).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("ours");
    eventually("another one has come", || resolver(&berth).is_some_and(|pid| pid != first));
    let db = db.parse().map_err(|_| 0);
    // Until it has the container's new sockets a question finds nobody there.
    let asked = || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mut room = [0; 512];
        let sent = socket.connect(SERVER).and_then(|()| socket.send(&question(9, "db")));
        sent.and_then(|_| socket.recv(&mut room)).map(|count| outcome(&room[..count]))
    };
    eventually("names are answered again", || {
        inside(&web, asked).join().expect("a thread").is_ok_and(|answer| answer == db)
    });
}

#[test]
fn with_nobody_left_the_resolver_leaves() {
    let mut berth = with_front();
    assert_eq!(resolver(&berth), None, "nobody needs it yet");
    berth.run("run --rm --network front busybox true").succeeds();
    assert!(resolver(&berth).is_some());
    berth.stop_daemon();
    eventually("it has left", || resolver(&berth).is_none());
}
