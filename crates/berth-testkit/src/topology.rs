//! Hosts beside the engine's own: a neighbour on its link, a router, and a remote host behind that.
//!
//! ```text
//!   neighbour ──┐
//!               ├── link ── the engine's host (berth.sandbox())
//!   remote ── router ──┘
//! ```
//!
//! Each is a network namespace; addresses are those set aside for documentation, so that nothing real is meant by them.

use crate::Sandbox;

/// Hosts beside the engine's own. They and their links end when this is dropped.
pub struct Topology {
    /// On the same link as the engine's host: [`NEIGHBOUR`].
    pub neighbour: Sandbox,
    /// Between the link and the remote host.
    pub router: Sandbox,
    /// Not on the link: [`REMOTE`]. The engine's host has a route to it.
    pub remote: Sandbox,
    _switch: Sandbox,
}

/// The engine's host on the link, `lan0`.
pub const HOST: &str = "192.0.2.1";
/// The same for IPv6.
pub const HOST_V6: &str = "2001:db8:1::1";
/// The neighbour.
pub const NEIGHBOUR: &str = "192.0.2.2";
/// The same for IPv6.
pub const NEIGHBOUR_V6: &str = "2001:db8:1::2";
/// The remote host.
pub const REMOTE: &str = "198.51.100.2";
/// The same for IPv6.
pub const REMOTE_V6: &str = "2001:db8:2::2";

impl Topology {
    /// Gives an engine's host a link with these on it.
    ///
    /// # Panics
    /// If the machine does not let us.
    #[must_use]
    pub fn around(host: &Sandbox) -> Topology {
        let [switch, neighbour, router, remote] = [(); 4].map(|()| Sandbox::new());
        must(&switch, "ip link add link0 type bridge && ip link set link0 up");
        for (number, (peer, name)) in [(host, "lan0"), (&neighbour, "eth0"), (&router, "eth0")].iter().enumerate() {
            must(&switch, &format!("ip link add port{number} type veth peer name {name} netns {}", peer.pid()));
            must(&switch, &format!("ip link set port{number} master link0 up"));
        }
        must(&router, &format!("ip link add eth1 type veth peer name eth0 netns {}", remote.pid()));
        address(host, "lan0", "192.0.2.1/24", "2001:db8:1::1/64");
        address(&neighbour, "eth0", "192.0.2.2/24", "2001:db8:1::2/64");
        address(&router, "eth0", "192.0.2.254/24", "2001:db8:1::fe/64");
        address(&router, "eth1", "198.51.100.1/24", "2001:db8:2::1/64");
        address(&remote, "eth0", "198.51.100.2/24", "2001:db8:2::2/64");
        must(&router, "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        must(
            host,
            "ip route add 198.51.100.0/24 via 192.0.2.254 && ip -6 route add 2001:db8:2::/64 via 2001:db8:1::fe",
        );
        must(&remote, "ip route add default via 198.51.100.1 && ip -6 route add default via 2001:db8:2::1");
        must(&neighbour, "ip route add default via 192.0.2.254 && ip -6 route add default via 2001:db8:1::fe");
        Topology { neighbour, router, remote, _switch: switch }
    }
}

fn address(on: &Sandbox, device: &str, ipv4: &str, ipv6: &str) {
    must(on, &format!("ip addr add {ipv4} dev {device} && ip addr add {ipv6} dev {device} nodad"));
    must(on, &format!("ip link set {device} up"));
}

/// Runs a shell line that must not fail.
fn must(on: &Sandbox, line: &str) {
    let output = on.command("sh").args(["-c", line]).output().expect("sh");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_reaches_everybody() {
        let host = Sandbox::new();
        let topology = Topology::around(&host);
        for (from, to) in [
            (&topology.neighbour, HOST),
            (&topology.remote, HOST),
            (&topology.remote, NEIGHBOUR),
            (&host, REMOTE),
            (&host, NEIGHBOUR_V6),
            (&topology.remote, HOST_V6),
            (&topology.neighbour, REMOTE_V6),
        ] {
            must(from, &format!("busybox ping -c 1 -W 5 {to}"));
        }
    }
}
