//! Why a published port is or is not reached: what is in force, told in words.

use std::net::IpAddr;
use std::sync::Arc;

use berth_model::HexId;

use crate::config::FirewallMode;
use crate::error::NetError;
use crate::firewall::{Direction, HostPolicy, Obstacle, PortVerdict};
use crate::networks::Networks;
use crate::ports::{PublishedPort, Way};
use crate::worker::Job;

/// What is in force.
#[derive(Clone, Debug)]
pub struct FirewallReport {
    /// Our table; `None` where rules are turned off.
    pub table: Option<String>,
    /// Who decides whether published ports are reached.
    pub mode: FirewallMode,
    /// Whether legacy iptables is in use, whose rules nobody but itself can tell.
    pub legacy: bool,
    /// The bridges that the rules are about.
    pub bridges: Vec<String>,
    /// Every published range, and what the host's own input rules say of it; more than one verdict if not the same of each port.
    pub ports: Vec<(PublishedPort, Vec<PortVerdict>)>,
    /// Chains of others that drop what is forwarded.
    pub obstacles: Vec<Obstacle>,
    /// The host's own rules, for questions of one client.
    pub(crate) host: Arc<HostPolicy>,
}

/// Whether a client reaches a port, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whether it does; `None` where that cannot be told.
    pub reached: Option<bool>,
    /// Why, in one line.
    pub reason: String,
}

impl Networks {
    /// What is in force now, and what the host's own input rules say of each published port.
    ///
    /// # Errors
    /// The kernel's rules cannot be read.
    pub fn firewall(&self) -> Result<FirewallReport, NetError> {
        self.inner.ask(Job::Report)?
    }
}

impl FirewallReport {
    /// The rules, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mode = match self.mode {
            FirewallMode::Docker => "docker: whoever publishes a port opens it",
            FirewallMode::Respect => "respect: the host's input rules decide",
        };
        let table = self.table.as_ref().map_or("none".to_owned(), |table| format!("inet {table}"));
        let mut lines = vec![format!("mode      {mode}"), format!("table     {table}")];
        lines.extend(self.bridges.iter().map(|bridge| format!("bridge    {bridge}")));
        for (port, verdicts) in &self.ports {
            let reach = self.reach_of_anybody(port, verdicts);
            lines.push(format!("port      {}: {}", shown(port), reach.reason));
        }
        lines.extend(self.obstacles.iter().map(|obstacle| format!("obstacle  {obstacle}")));
        if self.legacy {
            lines.push(
                "obstacle  legacy iptables is in use: what its rules do to containers cannot be told from here"
                    .to_owned(),
            );
        }
        lines
    }

    /// Whether a client reaches the ports of an endpoint, a line for each range.
    pub fn explain(&self, endpoints: &[HexId], client: Option<IpAddr>) -> Vec<String> {
        let own = self.ports.iter().filter(|(port, _)| endpoints.contains(&port.endpoint));
        own.map(|(port, verdicts)| {
            let reach = match client {
                Some(client) => self.reach_of(port, verdicts, client),
                None => self.reach_of_anybody(port, verdicts),
            };
            let word = match reach.reached {
                Some(true) => "reached",
                Some(false) => "not reached",
                None => "perhaps reached",
            };
            format!("{}: {word}: {}", shown(port), reach.reason)
        })
        .collect()
    }

    fn reach_of(&self, port: &PublishedPort, verdicts: &[PortVerdict], client: IpAddr) -> Reach {
        let no = |reason: String| Reach { reached: Some(false), reason };
        if client.is_ipv4() != port.address.is_ipv4() {
            let family = if port.address.is_ipv4() { "IPv4" } else { "IPv6" };
            return no(format!("{client} is no {family} address"));
        }
        if client.is_loopback() && port.way != Way::Routed {
            let any = port.address.is_unspecified() || port.address.is_loopback();
            let reason = if any { way(port) } else { format!("only {} is bound", port.address) };
            return Reach { reached: Some(any), reason };
        }
        let limited = |verdict: &PortVerdict| matches!(verdict, PortVerdict::Limited(_));
        if self.mode == FirewallMode::Respect && verdicts.iter().any(limited) {
            let ask = |number| self.host.verdict_on(client.is_ipv6(), port.transport, number, Some(client));
            return self.reach_of_anybody(port, &(port.first..=port.last).map(ask).collect::<Vec<_>>());
        }
        self.reach_of_anybody(port, verdicts)
    }

    fn reach_of_anybody(&self, port: &PublishedPort, verdicts: &[PortVerdict]) -> Reach {
        let reach = |reached, reason| Reach { reached, reason };
        if port.address.is_loopback() {
            return reach(Some(false), format!("{} is this host's own, other hosts have no way to it", port.address));
        }
        if port.way == Way::Relayed {
            let reason = format!("{}; the host's input rules decide as for any program", way(port));
            return reach(Some(true), reason);
        }
        let outward = |obstacle: &&Obstacle| matches!(obstacle.barrier, Some((_, Direction::Out)));
        let mut inward = self.obstacles.iter().filter(|obstacle| !outward(obstacle));
        if let Some(obstacle) = inward.find(|obstacle| obstacle.admitted_in.is_none()) {
            return reach(Some(false), obstacle.to_string());
        }
        if self.mode == FirewallMode::Docker {
            let hidden = verdicts.iter().any(|verdict| matches!(verdict, PortVerdict::Closed(_)));
            let note = if hidden { "; the host's input rules would not open it, but are not asked" } else { "" };
            return reach((!self.legacy).then_some(true), format!("{}{note}", way(port)));
        }
        for verdict in verdicts {
            match verdict {
                PortVerdict::Open => {}
                PortVerdict::Closed(place) => {
                    let reason =
                        format!("{place} drops it: let the host's firewall accept {}/{}", port.first, port.transport);
                    return reach(Some(false), reason);
                }
                PortVerdict::Depends(place) => {
                    let reason = format!("kept closed, because it cannot be told whether {place} accepts every client");
                    return reach(Some(false), reason);
                }
                PortVerdict::Limited(rules) => {
                    let reason = format!(
                        "{}; {rules} decides who reaches it: berth port --explain=ADDRESS says it of one client",
                        way(port)
                    );
                    return reach(None, reason);
                }
            }
        }
        reach(Some(true), format!("{}; the host's input rules accept it", way(port)))
    }
}

fn shown(port: &PublishedPort) -> String {
    let range = |first: u16, last: u16| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let address = if port.address.is_ipv6() { format!("[{}]", port.address) } else { port.address.to_string() };
    let last = port.target_first.saturating_add(port.last - port.first);
    format!("{address}:{} -> {}/{}", range(port.first, port.last), range(port.target_first, last), port.transport)
}

fn way(port: &PublishedPort) -> String {
    match port.way {
        Way::Translated => format!("translated to {}, which sees the client's address", port.target),
        Way::Relayed => format!("carried to {} by a process, which sees the host's address", port.target),
        Way::Routed => {
            format!("open at the container's own address, {}, for those who have a route to it", port.target)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_ports::Transport;

    fn port(address: &str) -> PublishedPort {
        PublishedPort {
            endpoint: "a".repeat(64).parse().unwrap(),
            container: "b".repeat(64).parse().unwrap(),
            transport: Transport::Tcp,
            address: address.parse().unwrap(),
            first: 8080,
            last: 8081,
            target: "172.17.0.2".parse().unwrap(),
            target_first: 80,
            way: Way::Translated,
            held: true,
        }
    }

    #[test]
    fn every_answer_names_its_reason() {
        let report = |mode| FirewallReport {
            table: Some("berth".to_owned()),
            mode,
            legacy: false,
            bridges: vec!["berth0".to_owned()],
            ports: Vec::new(),
            obstacles: Vec::new(),
            host: Arc::default(),
        };
        let closed = [PortVerdict::Closed("chain INPUT of table ip filter".to_owned())];
        for (mode, address, client, verdicts, reached, words) in [
            (FirewallMode::Docker, "0.0.0.0", "192.0.2.1", &closed[..], Some(true), "are not asked"),
            (
                FirewallMode::Respect,
                "0.0.0.0",
                "192.0.2.1",
                &closed,
                Some(false),
                "chain INPUT of table ip filter drops it",
            ),
            (FirewallMode::Respect, "0.0.0.0", "192.0.2.1", &[PortVerdict::Open], Some(true), "accept it"),
            (FirewallMode::Respect, "0.0.0.0", "127.0.0.1", &closed, Some(true), "translated to 172.17.0.2"),
            (FirewallMode::Docker, "127.0.0.1", "192.0.2.1", &[], Some(false), "this host's own"),
            (FirewallMode::Docker, "192.0.2.9", "127.0.0.1", &[], Some(false), "only 192.0.2.9 is bound"),
            (FirewallMode::Docker, "0.0.0.0", "2001:db8::1", &[], Some(false), "no IPv4 address"),
        ] {
            let reach = report(mode).reach_of(&port(address), verdicts, client.parse().unwrap());
            assert_eq!(reach.reached, reached, "{address} from {client}: {}", reach.reason);
            assert!(reach.reason.contains(words), "{}", reach.reason);
        }
        assert_eq!(shown(&port("::")), "[::]:8080-8081 -> 80-81/tcp");
    }
}
