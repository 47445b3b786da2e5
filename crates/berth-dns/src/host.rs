//! The host's own resolvers: the servers of its resolv.conf, read again when it changes.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The port of name servers.
const PORT: u16 = 53;
/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
/// More servers than this are not asked; resolv.conf(5) stops at three.
const MOST: usize = 8;

/// The servers of the host.
#[derive(Debug)]
pub(crate) struct HostServers {
    file: PathBuf,
    looked: Option<Instant>,
    stamp: Option<Stamp>,
    servers: Rc<[SocketAddr]>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, u64),
    size: i64,
}

impl HostServers {
    pub(crate) fn new(file: PathBuf) -> HostServers {
        HostServers { file, looked: None, stamp: None, servers: Rc::new([]) }
    }

    /// The servers, and whether they are others than the last time.
    pub(crate) fn servers(&mut self, now: Instant) -> (Rc<[SocketAddr]>, bool) {
        let mut changed = false;
        if self.looked.is_none_or(|looked| now - looked >= LOOK) {
            self.looked = Some(now);
            let stamp = self.stamp();
            if stamp != self.stamp {
                self.stamp = stamp;
                let text = std::fs::read(&self.file).unwrap_or_default();
                let servers: Rc<[SocketAddr]> = parse(&String::from_utf8_lossy(&text)).into();
                changed = servers != self.servers;
                self.servers = servers;
            }
        }
        (Rc::clone(&self.servers), changed)
    }

    fn stamp(&self) -> Option<Stamp> {
        let status = rustix::fs::stat(&self.file).ok()?;
        Some(Stamp {
            device: status.st_dev,
            inode: status.st_ino,
            changed: (status.st_ctime, status.st_ctime_nsec),
            size: status.st_size,
        })
    }
}

/// The address of a server at its usual port.
pub(crate) fn at_port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}

pub(crate) fn parse(text: &str) -> Vec<SocketAddr> {
    let words = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().and_then(server)).flatten()
    };
    // A line that makes no sense must not keep the others from being asked.
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(words).collect();
    let mut seen = std::collections::HashSet::new();
    servers.retain(|server| seen.insert(*server));
    servers.truncate(MOST);
    servers
}

/// Reads an address, as some systems allow with its port: `[::1]:5300`. One with a zone, `fe80::1%eth0`, is reached by
/// that interface.
fn server(word: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = word.split_once('%') else {
        return word.parse().map(at_port).or_else(|_| word.parse()).ok();
    };
    let number = zone.parse().ok().or_else(|| {
        let plain = !zone.is_empty() && !zone.contains(['/', '.']);
        let text = plain.then(|| std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()).flatten();
        text?.trim().parse().ok()
    })?;
    Some(SocketAddr::V6(SocketAddrV6::new(address.parse().ok()?, PORT, 0, number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_the_rest_is_left() {
        let text = "# x\nnameserver 127.0.0.53\n nameserver\t10.0.0.1 # y\nnameserver nonsense\nnameserver\n\
                    options what:ever\nnameserver fd00::1\nnameserver 10.0.0.1\nnameserver fe80::1%7\nnameserver 127.0.0.1:5300\n";
        let servers: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.53:53", "10.0.0.1:53", "[fd00::1]:53", "[fe80::1%7]:53", "127.0.0.1:5300"]);
    }

    #[test]
    fn a_change_of_the_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        let mut host = HostServers::new(file.clone());
        let now = Instant::now();
        assert_eq!(host.servers(now), (Rc::from([]), false));
        std::fs::write(&file, "nameserver 10.0.0.1\n").unwrap();
        assert!(host.servers(now).0.is_empty(), "not looked at again so soon");
        let (servers, changed) = host.servers(now + LOOK);
        assert_eq!((servers.len(), changed), (1, true));
        assert!(!host.servers(now + 2 * LOOK).1);
        std::fs::write(directory.path().join("new"), "nameserver 10.0.0.2\n").unwrap();
        std::fs::rename(directory.path().join("new"), &file).unwrap();
        assert_eq!(host.servers(now + 3 * LOOK).0[0].to_string(), "10.0.0.2:53");
    }
}
