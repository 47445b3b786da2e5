//! The resolver as its clients see it: over sockets, on this machine's loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::server::Server;
use crate::{Member, Membership, Resolver, Sockets, Upstream};

/// A resolver on a thread, as the daemon would have it as a process.
fn start(resolv_conf: &Path) -> (Resolver, JoinHandle<std::io::Result<()>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let file = resolv_conf.to_owned();
    let thread = std::thread::spawn(move || {
        let mut server = Server::new(file)?;
        server.adopt(theirs.into())?;
        server.run()
    });
    (Resolver::on(ours).unwrap(), thread)
}

/// The sockets of a container, and where its clients find them.
struct Place {
    sockets: Sockets,
    udp: SocketAddr,
    tcp: SocketAddr,
}

fn place() -> Place {
    let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let addresses = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let namespace: OwnedFd = berth_sys::netns::current().unwrap();
    let sockets = Sockets { udp: udp.into(), tcp: tcp.into(), namespace: Some(namespace) };
    Place { sockets, udp: addresses.0, tcp: addresses.1 }
}

fn member(id: &str, name: &str, address: &str, upstream: Upstream) -> Member {
    let on = Membership {
        network: "n1".into(),
        network_name: "front".into(),
        names: vec![name.into(), id.into()],
        addresses: vec![address.parse().unwrap()],
        host: vec!["10.0.0.1".parse().unwrap()],
        links: Vec::new(),
    };
    Member { id: id.into(), networks: vec![on], upstream, keeps_single_labels: false }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(server: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(server).unwrap();
    socket.send(&question.to_vec().unwrap()).unwrap();
    let mut room = [0; 4096];
    let count = socket.recv(&mut room).unwrap();
    let answer = Message::from_vec(&room[..count]).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

fn send_stream(stream: &mut TcpStream, question: &Message) {
    let bytes = question.to_vec().unwrap();
    stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
}

fn read_stream(stream: &mut TcpStream) -> Option<Message> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut bytes = vec![0; u16::from_be_bytes(head).into()];
    stream.read_exact(&mut bytes).ok()?;
    Message::from_vec(&bytes).ok()
}

fn texts(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// A server of others: answers each question by a function, over UDP and TCP, until the test ends.
fn upstream(answer: impl Fn(Message, bool) -> Option<Message> + Clone + Send + 'static) -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let by_tcp = answer.clone();
    std::thread::spawn(move || {
        let mut room = [0; 4096];
        while let Ok((count, peer)) = udp.recv_from(&mut room) {
            let question = Message::from_vec(&room[..count]).unwrap();
            if let Some(answer) = answer(question, false) {
                udp.send_to(&answer.to_vec().unwrap(), peer).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            while let Some(question) = read_stream(&mut stream) {
                let Some(answer) = by_tcp(question, true) else { break };
                send_stream(&mut stream, &answer);
            }
        }
    });
    address
}

fn with_address(question: Message, address: &str) -> Message {
    let name = question.queries[0].name().clone();
    let mut answer = question.into_response();
    answer.add_answer(Record::from_rdata(name, 60, RData::A(address.parse().unwrap())));
    answer
}

/// A host whose resolv.conf names these servers.
fn host(servers: &[SocketAddr]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write(file.path(), lines).unwrap();
    file
}

#[test]
fn containers_are_found_by_their_names() {
    let file = host(&[]);
    let (mut resolver, thread) = start(file.path());
    let (web, db) = (place(), place());
    resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host), &web.sockets).unwrap();
    resolver.join(&member("bbbbbbbbbbbb", "db", "10.0.0.3", Upstream::Host), &db.sockets).unwrap();
    for name in ["db.", "DB.front.", "bbbbbbbbbbbb."] {
        assert_eq!(texts(&ask(web.udp, &question(name, RecordType::A))), ["10.0.0.3"], "{name}");
    }
    assert_eq!(texts(&ask(db.udp, &question("2.0.0.10.in-addr.arpa.", RecordType::PTR))), ["web.front."]);
    assert_eq!(texts(&ask(db.udp, &question("host.docker.internal.", RecordType::A))), ["10.0.0.1"]);
    let none = ask(web.udp, &question("db.", RecordType::AAAA));
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    assert!(none.metadata.authoritative);
    let unknown = ask(web.udp, &question("nowhere.", RecordType::A));
    assert_eq!(unknown.metadata.response_code, ResponseCode::ServFail);
    resolver.update(&member("bbbbbbbbbbbb", "data", "10.0.0.9", Upstream::Host)).unwrap();
    assert_eq!(texts(&ask(web.udp, &question("data.", RecordType::A))), ["10.0.0.9"]);
    assert_eq!(resolver.members().unwrap().len(), 2);
    resolver.leave("bbbbbbbbbbbb").unwrap();
    assert_eq!(ask(web.udp, &question("data.", RecordType::A)).metadata.response_code, ResponseCode::ServFail);
    assert!(resolver.update(&member("bbbbbbbbbbbb", "x", "10.0.0.9", Upstream::Host)).is_err());
    resolver.leave("aaaaaaaaaaaa").unwrap();
    drop(resolver);
    thread.join().unwrap().unwrap();
}

#[test]
fn questions_by_tcp_are_answered_in_one_connection() {
    let server = upstream(|question, _| Some(with_address(question, "192.0.2.7")));
    let file = host(&[server]);
    let (mut resolver, _thread) = start(file.path());
    let web = place();
    resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host), &web.sockets).unwrap();
    let mut stream = TcpStream::connect(web.tcp).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let questions = [question("web.", RecordType::A), question("example.org.", RecordType::A)];
    questions.iter().for_each(|question| send_stream(&mut stream, question));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers: Vec<_> = std::iter::from_fn(|| read_stream(&mut stream)).map(|answer| texts(&answer)).collect();
    answers.sort();
    assert_eq!(answers, [["10.0.0.2"], ["192.0.2.7"]]);
}

#[test]
fn others_are_asked_as_it_came_and_their_answers_are_kept() {
    let (tell, asked) = std::sync::mpsc::channel();
    let server = upstream(move |question, _| {
        tell.send(question.clone()).unwrap();
        Some(with_address(question, "192.0.2.1"))
    });
    let file = host(&[server]);
    let (mut resolver, _thread) = start(file.path());
    let web = place();
    resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host), &web.sockets).unwrap();
    let mut unusual = question("Example.org.", RecordType::Unknown(65_280));
    unusual.set_edns(Edns::new());
    let answer = ask(web.udp, &unusual);
    assert_eq!(texts(&answer), ["192.0.2.1"]);
    let seen = asked.recv().unwrap();
    assert_eq!(seen.queries, unusual.queries);
    assert!(seen.edns.is_some());
    unusual.metadata.id = 4711;
    assert_eq!(texts(&ask(web.udp, &unusual)), ["192.0.2.1"]);
    assert!(asked.try_recv().is_err(), "the second answer came from memory");
    // The file changes: others are asked, and nothing is remembered.
    let other = upstream(|question, _| Some(with_address(question, "192.0.2.2")));
    std::thread::sleep(Duration::from_millis(1100));
    std::fs::write(file.path(), format!("nameserver {other}\n")).unwrap();
    assert_eq!(texts(&ask(web.udp, &unusual)), ["192.0.2.2"]);
}

#[test]
fn a_silent_or_failing_server_does_not_keep_another_from_answering() {
    let (tell, asked) = std::sync::mpsc::channel();
    let silent = upstream(move |question, _| {
        tell.send(question.queries[0].name().to_string()).unwrap();
        None
    });
    let failing = upstream(|question, _| {
        let mut answer = question.into_response();
        answer.metadata.response_code = ResponseCode::ServFail;
        Some(answer)
    });
    let good = upstream(|question, _| Some(with_address(question, "192.0.2.3")));
    let file = host(&[silent, failing, good]);
    let (mut resolver, _thread) = start(file.path());
    let web = place();
    resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host), &web.sockets).unwrap();
    assert_eq!(texts(&ask(web.udp, &question("one.example.", RecordType::A))), ["192.0.2.3"]);
    assert_eq!(texts(&ask(web.udp, &question("two.example.", RecordType::A))), ["192.0.2.3"]);
    // The silent one is asked last now, and so not at all.
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["one.example."]);
}

#[test]
fn when_nobody_answers_that_is_said() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = upstream(|_, _| None);
    let web = place();
    for servers in [vec![closed], vec![closed, silent]] {
        let file = host(&servers);
        let (mut resolver, _thread) = start(file.path());
        resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host), &web.sockets).unwrap();
        let answer = ask(web.udp, &question("nowhere.example.", RecordType::A));
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
}

#[test]
fn a_cut_answer_is_passed_on_and_asked_again_by_tcp() {
    let server = upstream(|question, by_tcp| {
        let mut answer = with_address(question, "192.0.2.4");
        if !by_tcp {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        Some(answer)
    });
    let file = host(&[server]);
    let (mut resolver, _thread) = start(file.path());
    let web = place();
    resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host), &web.sockets).unwrap();
    let question = question("large.example.", RecordType::A);
    assert!(ask(web.udp, &question).metadata.truncation);
    let mut stream = TcpStream::connect(web.tcp).unwrap();
    send_stream(&mut stream, &question);
    assert_eq!(texts(&read_stream(&mut stream).unwrap()), ["192.0.2.4"]);
}

#[test]
fn named_servers_are_asked_and_nobody_means_nobody() {
    let file = host(&[upstream(|question, _| Some(with_address(question, "192.0.2.5")))]);
    let (mut resolver, _thread) = start(file.path());
    let (inside, alone) = (place(), place());
    let ourselves: IpAddr = "127.0.0.11".parse().unwrap();
    let named = Upstream::Named(vec![ourselves]);
    resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", named), &inside.sockets).unwrap();
    resolver.join(&member("bbbbbbbbbbbb", "db", "10.0.0.3", Upstream::Nobody), &alone.sockets).unwrap();
    let question = question("example.org.", RecordType::A);
    for place in [inside, alone] {
        assert_eq!(ask(place.udp, &question).metadata.response_code, ResponseCode::ServFail);
    }
}

#[test]
fn single_labels_stay_here_where_the_client_has_its_own_domains() {
    let file = host(&[upstream(|question, _| Some(with_address(question, "192.0.2.6")))]);
    let (mut resolver, _thread) = start(file.path());
    let web = place();
    let mut keeps = member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host);
    keeps.keeps_single_labels = true;
    resolver.join(&keeps, &web.sockets).unwrap();
    let answer = ask(web.udp, &question("printer.", RecordType::A));
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(texts(&ask(web.udp, &question("printer.example.", RecordType::A))), ["192.0.2.6"]);
}

#[test]
fn a_newer_resolver_takes_over_without_a_lost_query() {
    let file = host(&[]);
    let (mut old, old_thread) = start(file.path());
    let web = place();
    let us = member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host);
    old.join(&us, &web.sockets).unwrap();
    let socket = tempfile::tempdir().unwrap().keep().join("dns.sock");
    old.listen(&crate::bind(&socket).unwrap()).unwrap();
    let address = web.udp;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let asking = std::thread::spawn(move || {
        let mut count = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!(texts(&ask(address, &question("web.", RecordType::A))), ["10.0.0.2"]);
            count += 1;
        }
        count
    });
    let (mut new, _thread) = start(file.path());
    let legacy = old.hand_over().unwrap();
    for (member, sockets) in &legacy.members {
        assert_eq!(*member, us);
        new.join(member, sockets).unwrap();
    }
    new.listen(&legacy.listener.unwrap()).unwrap();
    old.retire().unwrap();
    old_thread.join().unwrap().unwrap();
    assert_eq!(Resolver::find(&socket).unwrap().members().unwrap(), ["aaaaaaaaaaaa"]);
    std::thread::sleep(Duration::from_millis(50));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(asking.join().unwrap() > 10);
    std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
}

#[test]
fn nonsense_does_no_harm() {
    let file = host(&[]);
    let (mut resolver, _thread) = start(file.path());
    let web = place();
    resolver.join(&member("aaaaaaaaaaaa", "web", "10.0.0.2", Upstream::Host), &web.sockets).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..64u8 {
        socket.send_to(&vec![length; length.into()], web.udp).unwrap();
    }
    let mut stream = TcpStream::connect(web.tcp).unwrap();
    stream.write_all(&[0, 3, 1, 2, 3, 255, 255, 0]).unwrap();
    assert_eq!(texts(&ask(web.udp, &question("web.", RecordType::A))), ["10.0.0.2"]);
}

/// How many answers a second one resolver gives to eight clients, and how long they wait. By hand, in release:
/// `cargo test --release -p berth-dns -- --ignored --nocapture figures`.
#[test]
#[ignore = "it measures"]
fn figures_of_one_resolver_and_eight_clients() {
    const CLIENTS: usize = 8;
    const QUESTIONS: usize = 40_000;
    let file = host(&[]);
    let (mut resolver, _thread) = start(file.path());
    let places: Vec<_> = (0..CLIENTS).map(|_| place()).collect();
    for (number, place) in places.iter().enumerate() {
        let (id, name, address) = (format!("{number:012}"), format!("c{number}"), format!("10.0.0.{}", number + 2));
        resolver.join(&member(&id, &name, &address, Upstream::Host), &place.sockets).unwrap();
    }
    let began = std::time::Instant::now();
    let ask = |server: SocketAddr| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        let question = question("c3.", RecordType::A).to_vec().unwrap();
        let mut room = [0; 512];
        let one = |_| {
            let began = std::time::Instant::now();
            socket.send(&question).unwrap();
            socket.recv(&mut room).unwrap();
            began.elapsed()
        };
        (0..QUESTIONS).map(one).collect::<Vec<_>>()
    };
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = places.iter().map(|place| scope.spawn(move || ask(place.udp))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    println!("{rate:.0} answers/s; median {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(0.99999));
}
