//! A host for the tests: a network namespace of its own with a store in a temporary directory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Output};
use std::time::Duration;

use berth_model::ContainerId;
use berth_net::{EndpointRequest, NetConfig, Networks};
use berth_store::Store;
use berth_sys::netns;

/// A machine that nothing else is connected to. Dropped, it is gone with all its devices and rules.
pub struct Host {
    pub netns: OwnedFd,
    pub store: Store,
    // Dropped after the store that is in it.
    _dir: tempfile::TempDir,
}

/// Says that the test which calls tests nothing here, and why. It is said to the terminal itself, past what the harness keeps of tests that
/// pass: `scripts/test` does not count it among those.
pub fn not_tested(reason: &str) {
    let test = std::thread::current();
    let line = format!("NOT TESTED: {}: {reason}\n", test.name().unwrap_or_default());
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

impl Host {
    /// Makes a host; `None`, which ends the test, where namespaces may not be made.
    pub fn new() -> Option<Host> {
        if !rustix::process::geteuid().is_root() {
            not_tested("only root may make namespaces");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), dir.path()).unwrap();
        let host = Host { netns: netns::create().unwrap(), store, _dir: dir };
        host.run("ip link set lo up");
        Some(host)
    }

    /// Opens the networks of this host.
    pub fn networks(&self, config: NetConfig) -> Networks {
        self.inside(|| Networks::open(config, &self.store)).unwrap()
    }

    /// Does something in the host's namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(self.netns.as_fd(), work)
    }

    /// Runs programs of the system in the host's namespace, one a line, as judges or to build things around it.
    pub fn run(&self, lines: &str) -> String {
        run_in(self.netns.as_fd(), lines)
    }

    /// The names of the devices on the host that belong to containers.
    pub fn container_devices(&self) -> Vec<String> {
        let text = self.run("ip -o link show type veth");
        text.lines().filter_map(|line| line.split([':', '@']).nth(1)).map(|name| name.trim().to_owned()).collect()
    }

    /// Another machine on a network of its own with this one: the host has `.1`, the neighbour `.2` of `prefix`.0/24.
    pub fn neighbour(&self, prefix: &str) -> OwnedFd {
        let outside = netns::create().unwrap();
        let name = format!("to{}", prefix.replace('.', ""));
        self.run(&format!("ip link add {name} type veth peer name wire\nip link set {name} up"));
        self.run(&format!("ip addr add {prefix}.1/24 dev {name}"));
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&outside));
        self.run(&format!("ip link set wire netns {path}"));
        run_in(outside.as_fd(), &format!("ip link set lo up\nip link set wire up\nip addr add {prefix}.2/24 dev wire"));
        outside
    }
}

/// A configuration that makes nothing ahead, so that what is counted was asked for.
pub fn bare() -> NetConfig {
    NetConfig { prepared: 0, ..NetConfig::default() }
}

/// A request of a container of this number for the default bridge.
pub fn container(number: u32) -> EndpointRequest {
    EndpointRequest::default_bridge(id(number), &format!("c{number}"))
}

/// The id of a container of this number.
pub fn id(number: u32) -> ContainerId {
    format!("{:064x}", u64::from(number) + 0xa000_0000_0000).parse().unwrap()
}

/// Does something in a namespace.
pub fn within<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    netns::enter(netns, work).unwrap()
}

/// Runs programs in a namespace, one a line; they must succeed.
pub fn run_in(netns: BorrowedFd<'_>, lines: &str) -> String {
    let run = |line: &str| -> (String, io::Result<Output>) {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap()).args(words).output();
        (line.to_owned(), output)
    };
    let outputs = within(netns, || lines.lines().map(run).collect::<Vec<_>>());
    let texts = outputs.into_iter().map(|(line, output)| {
        let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    });
    texts.collect()
}

/// Answers one TCP client in a namespace with the address it came from; the thread ends after that.
pub fn serve(netns: BorrowedFd<'_>, address: &str) -> std::thread::JoinHandle<io::Result<()>> {
    let address = address.to_owned();
    let listener = within(netns, || TcpListener::bind(&address)).unwrap();
    std::thread::spawn(move || {
        let (mut client, from) = listener.accept()?;
        io::Write::write_all(&mut client, from.ip().to_string().as_bytes())
    })
}

/// Connects from a namespace by TCP, and gives what the server says.
pub fn ask(netns: BorrowedFd<'_>, address: &str, patience: Duration) -> io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    within(netns, || {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        let mut text = String::new();
        io::Read::read_to_string(&mut stream, &mut text)?;
        Ok(text)
    })
}

/// Sends a datagram from one namespace to another's address, and back.
pub fn ping(from: BorrowedFd<'_>, to: BorrowedFd<'_>, address: IpAddr) -> io::Result<()> {
    let server = within(to, || UdpSocket::bind((address, 7)))?;
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let client = within(from, || UdpSocket::bind((any, 0)))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    }
    let mut buffer = [0; 8];
    client.send_to(b"ping", (address, 7))?;
    let (length, back) = server.recv_from(&mut buffer)?;
    server.send_to(&buffer[..length], back)?;
    let (length, _) = client.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..length], b"ping");
    Ok(())
}
