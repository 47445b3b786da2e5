//! The process as its clients see it, run on a thread of the test.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use berth_ports::{Asked, Client, NotHeld, Place, Transport};

fn client(directory: &tempfile::TempDir) -> Client {
    Client::new(directory.path().join("ports.sock"), |listener: OwnedFd| {
        std::thread::spawn(move || berth_ports::serve(listener).unwrap());
        Ok(())
    })
}

fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

fn asked<'a>(owner: &'a str, places: &'a [Place]) -> Asked<'a> {
    Asked { owner, places, limit: 1000 }
}

#[test]
fn ports_are_held_until_their_owner_lets_go() {
    let directory = tempfile::tempdir().unwrap();
    let client = client(&directory);
    assert_eq!(client.owners().unwrap(), Vec::<String>::new());
    client.release("nobody").unwrap();
    let port = free_port("127.0.0.1");
    let place = Place { transport: Transport::Tcp, address: "127.0.0.1".parse().unwrap(), port, relay: None };
    assert!(client.hold(&asked("one", &[place])).unwrap());
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    match client.hold(&asked("two", &[place])) {
        Err(NotHeld::Place(0, error)) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.owners().unwrap(), ["one"]);
    client.release("one").unwrap();
    drop(TcpListener::bind(("127.0.0.1", port)).unwrap());
}

#[test]
fn streams_and_datagrams_are_carried_from_one_family_to_the_other() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let client = client(&directory);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (free_port("::1"), free_port("::1"));
    let place = |transport, port, relay| Place { transport, address: "::1".parse().unwrap(), port, relay: Some(relay) };
    let places = [
        place(Transport::Tcp, tcp, server.local_addr().unwrap()),
        place(Transport::Udp, udp, echo.local_addr().unwrap()),
    ];
    client.hold(&asked("one", &places)).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let mut stream = TcpStream::connect(("::1", tcp)).unwrap();
    let mut long: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    stream.write_all(&long).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    thread.join().unwrap();
    long.reverse();
    assert!(answer == long, "{} bytes came back", answer.len());
    let asking = UdpSocket::bind("[::1]:0").unwrap();
    asking.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    asking.send_to(b"hello", ("::1", udp)).unwrap();
    let mut buffer = [0; 16];
    let (count, from) = echo.recv_from(&mut buffer).unwrap();
    echo.send_to(&buffer[..count], from).unwrap();
    assert_eq!(asking.recv(&mut buffer).unwrap(), 5);
    client.release("one").unwrap();
    assert!(TcpStream::connect(("::1", tcp)).is_err());
}
