//! Sandboxes that come back: what a container could not change, and did not use, serves the next one.
//!
//! The engine lends only where the container had neither the rights to change its network nor a way to hand a piece of it to somebody
//! outside. Here is checked what rights do not tell: that no socket is left, and that nothing was ever sent, so that no neighbour and no
//! connection tracking remembers the last owner. Everything else is cheaper to make anew than to look through.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::{Departure, IDLE, Worker};
use crate::book::{PREPARED_ISOLATED, Ready};
use crate::mac::MacAddress;

const LOOPBACK: &str = "lo";

impl Worker {
    /// Keeps the namespace of a container that has ended for the next one, with the endpoint in it, or lets both go.
    pub(super) fn take_back(&mut self, netns: OwnedFd, endpoint: Option<(Departure, Option<MacAddress>)>) {
        let Some((what, mac)) = endpoint else {
            let room = self.config.prepared > 0 && self.book.count_isolated() < PREPARED_ISOLATED;
            if room && self.is_unused(&netns, None) {
                self.book.put_isolated(netns);
                self.idle_at = Some(Instant::now() + IDLE);
            }
            return;
        };
        let room = self.book.count_ready(&what.network).is_some_and(|count| count < self.config.prepared);
        if !room || !self.is_unused(&netns, Some(&what.interface)) {
            drop(netns);
            return self.expect_departure(what);
        }
        let Departure { network, device, interface, given } = what;
        // Where the network has been removed, the namespace was the last that kept its device.
        drop(self.book.put_ready(&network, Ready { netns, device, interface, given, mac }));
        self.idle_at = Some(Instant::now() + IDLE);
    }

    /// Whether a namespace has no sockets, exactly the devices it was made with, and nothing was sent through them.
    fn is_unused(&self, netns: &OwnedFd, interface: Option<&str>) -> bool {
        // Read as files: a netlink socket of ours would be counted for some time after it was closed.
        let look = || -> io::Result<bool> {
            let sockets = std::fs::read_to_string("/proc/thread-self/net/sockstat")?;
            let devices = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            Ok(has_no_sockets(&sockets) && sent_nothing(&devices, interface))
        };
        matches!(self.traveller.visit(netns.as_fd(), look), Ok(Ok(true)))
    }
}

/// Whether nobody has a socket, of whatever family: the first line of /proc/net/sockstat, see proc_pid_net(5).
fn has_no_sockets(sockstat: &str) -> bool {
    sockstat.lines().next() == Some("sockets: used 0")
}

/// Whether a list of devices in the form of /proc/net/dev has the loopback device and at most this one beside it, and neither sent
/// anything: neither counts packets, bytes, errors or drops on its way out, the columns after the eight of what came in.
fn sent_nothing(devices: &str, interface: Option<&str>) -> bool {
    const SENT: usize = 8;
    let mut expected: Vec<&str> = interface.into_iter().chain([LOOPBACK]).collect();
    let silent = devices.lines().skip(2).all(|line| {
        let Some((name, counters)) = line.split_once(':') else { return false };
        let known = expected.iter().position(|one| *one == name.trim());
        known.is_some_and(|at| {
            expected.swap_remove(at);
            counters.split_whitespace().count() == 2 * SENT
                && counters.split_whitespace().skip(SENT).all(|count| count == "0")
        })
    });
    silent && expected.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
";

    #[test]
    fn only_silent_devices_that_belong_there_pass() {
        let quiet = "0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0";
        let heard = "90      1    0    0    0     0          0         0        0       0    0    0    0     0       0          0";
        let spoke = "0       0    0    0    0     0          0         0       42       1    0    0    0     0       0          0";
        let dropped = "0       0    0    0    0     0          0         0       0       0    0    1    0     0       0          0";
        let list = |devices: &[(&str, &str)]| {
            devices.iter().fold(HEAD.to_owned(), |text, (name, counters)| format!("{text}{name:>6}: {counters}\n"))
        };
        let eth = Some("eth0");
        for (devices, interface, pass) in [
            (vec![("lo", quiet)], None, true),
            (vec![("lo", quiet), ("eth0", quiet)], eth, true),
            (vec![("eth0", heard), ("lo", quiet)], eth, true),
            (vec![("lo", quiet), ("eth0", spoke)], eth, false),
            (vec![("lo", quiet), ("eth0", dropped)], eth, false),
            (vec![("lo", spoke)], None, false),
            (vec![("lo", quiet), ("eth0", quiet)], None, false),
            (vec![("lo", quiet)], eth, false),
            (vec![("lo", quiet), ("eth0", quiet), ("eth1", quiet)], eth, false),
            (vec![("lo", "0 0 0")], None, false),
            (vec![], None, false),
        ] {
            assert_eq!(sent_nothing(&list(&devices), interface), pass, "{devices:?} {interface:?}");
        }
        assert!(has_no_sockets("sockets: used 0\nTCP: inuse 0"));
        assert!(!has_no_sockets("sockets: used 10\nTCP: inuse 0"));
        assert!(!has_no_sockets(""));
    }
}
