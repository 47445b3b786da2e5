//! Ports that lead to a container: those of a range are kept as one, so that 10,000 of them cost as much as one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{PortBinding, PortProto};

/// For each port of a container, where it is to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct PortBindings {
    /// By protocol and number; no two have a port in common.
    runs: Vec<Run>,
}

/// Ports one behind the other, whose places on the host are so too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    first: PortProto,
    count: u16,
    /// Those of the first.
    bindings: Vec<PortBinding>,
}

impl PortBindings {
    /// Whether there is no port at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Every port with its bindings.
    pub fn iter(&self) -> impl Iterator<Item = (PortProto, Vec<PortBinding>)> + '_ {
        self.runs.iter().flat_map(|run| {
            (0..run.count).map(|offset| {
                let port = PortProto { port: run.first.port.saturating_add(offset), ..run.first };
                (port, run.bindings.iter().map(|binding| binding.further(offset)).collect())
            })
        })
    }

    /// Whether a port is published somewhere.
    #[must_use]
    pub fn publishes(&self, port: PortProto) -> bool {
        self.runs.iter().any(|run| run.has(port) && !run.bindings.is_empty())
    }
}

impl Run {
    fn has(&self, port: PortProto) -> bool {
        let offset = port.port.checked_sub(self.first.port);
        self.first.protocol == port.protocol && offset.is_some_and(|offset| offset < self.count)
    }

    /// Takes the port in that comes behind the last one, if its places do too.
    fn extend(&mut self, port: PortProto, bindings: &[PortBinding]) -> bool {
        let (next, longer) = (self.first.port.checked_add(self.count), self.count.checked_add(1));
        let further = self.bindings.iter().map(|binding| binding.further(self.count));
        let follows =
            self.first.protocol == port.protocol && next == Some(port.port) && further.eq(bindings.iter().cloned());
        if let Some(longer) = longer.filter(|_| follows) {
            self.count = longer;
        }
        follows && longer.is_some()
    }
}

impl PortBinding {
    /// The place of the port that lies so far behind. Free ports are as free there, and of a range any port is taken.
    fn further(&self, offset: u16) -> PortBinding {
        let host_port = match self.host_port.parse::<u16>() {
            // A number is a port from 1 on: 0 is any.
            Ok(port) if port > 0 && offset > 0 => (u32::from(port) + u32::from(offset)).to_string(),
            _ => self.host_port.clone(),
        };
        PortBinding { host_ip: self.host_ip.clone(), host_port }
    }
}

impl FromIterator<(PortProto, Vec<PortBinding>)> for PortBindings {
    fn from_iter<I: IntoIterator<Item = (PortProto, Vec<PortBinding>)>>(ports: I) -> Self {
        let mut ports: Vec<_> = ports.into_iter().collect();
        ports.sort_by_key(|(port, _)| (port.protocol, port.port));
        let mut runs: Vec<Run> = Vec::new();
        for (first, bindings) in ports {
            if !runs.last_mut().is_some_and(|run| run.extend(first, &bindings)) {
                runs.push(Run { first, count: 1, bindings });
            }
        }
        runs.shrink_to_fit();
        PortBindings { runs }
    }
}

/// As it is on disk; older engines wrote every port.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Runs { runs: Vec<Run> },
    Ports(BTreeMap<PortProto, Vec<PortBinding>>),
}

impl From<Stored> for PortBindings {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Runs { runs } => PortBindings { runs },
            Stored::Ports(ports) => ports.into_iter().collect(),
        }
    }
}

/// Ports of a running container, one behind the other, and where they are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRange {
    /// The first port of the container.
    pub first: PortProto,
    /// How many they are.
    pub count: u16,
    /// The host's address.
    pub address: IpAddr,
    /// The first port of the host; 0 if none of the host's is taken.
    pub host: u16,
}

impl PublishedRange {
    /// Each port of the container with its place on the host.
    pub fn pairs(self) -> impl Iterator<Item = (PortProto, (IpAddr, u16))> {
        (0..self.count).map(move |offset| {
            let port = PortProto { port: self.first.port.saturating_add(offset), ..self.first };
            let host = if self.host == 0 { 0 } else { self.host.saturating_add(offset) };
            (port, (self.address, host))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(json: &str) -> PortBindings {
        serde_json::from_str(json).expect("what an older engine wrote")
    }

    fn all(ports: &PortBindings) -> Vec<String> {
        let place = |binding: &PortBinding| format!("{}:{}", binding.host_ip, binding.host_port);
        let line = |(port, places): (PortProto, Vec<PortBinding>)| {
            format!("{port} {}", places.iter().map(place).collect::<Vec<_>>().join(" "))
        };
        ports.iter().map(line).collect()
    }

    #[test]
    fn a_range_is_one_and_shown_port_by_port() {
        let range = |port: u16| format!(r#""{port}/tcp":[{{"host_ip":"","host_port":"{}"}}]"#, port + 1000);
        let text: Vec<String> = (8000..8100).map(range).collect();
        let ports = bindings(&format!("{{{}}}", text.join(",")));
        assert_eq!(ports.runs.len(), 1);
        let shown = all(&ports);
        assert_eq!((shown.len(), shown[0].as_str(), shown[99].as_str()), (100, "8000/tcp :9000", "8099/tcp :9099"));
        let again: PortBindings = serde_json::from_str(&serde_json::to_string(&ports).expect("JSON")).expect("its own");
        assert_eq!(again, ports);
    }

    #[test]
    fn what_does_not_follow_is_kept_apart() {
        let ports = bindings(
            r#"{"80/tcp":[{"host_port":"80"}],"81/tcp":[{"host_port":"90"}],"82/tcp":[{"host_ip":"::1","host_port":"91"}],
                "81/udp":[{"host_port":"81"}],"83/tcp":[],"84/tcp":[{"host_port":""}],"85/tcp":[{"host_port":""}],
                "86/tcp":[{"host_port":"90-99"}],"87/tcp":[{"host_port":"90-99"}],"65535/tcp":[{"host_port":"065535"}]}"#,
        );
        assert_eq!(
            all(&ports),
            [
                "80/tcp :80",
                "81/tcp :90",
                "82/tcp ::1:91",
                "83/tcp ",
                "84/tcp :",
                "85/tcp :",
                "86/tcp :90-99",
                "87/tcp :90-99",
                "65535/tcp :065535",
                "81/udp :81",
            ]
        );
        let port = |text: &str| text.parse().expect("a port");
        for (text, published) in
            [("80/tcp", true), ("80/udp", false), ("83/tcp", false), ("85/tcp", true), ("88/tcp", false)]
        {
            assert_eq!(ports.publishes(port(text)), published, "{text}");
        }
        assert!(bindings("{}").is_empty());
    }

    #[test]
    fn published_ranges_are_shown_port_by_port() {
        let first = "80/tcp".parse().expect("a port");
        let address = "127.0.0.1".parse().expect("an address");
        let ports = |host| -> Vec<_> {
            let pairs = PublishedRange { first, count: 2, address, host }.pairs();
            pairs.map(|(port, (_, host))| format!("{port} {host}")).collect()
        };
        assert_eq!(ports(8080), ["80/tcp 8080", "81/tcp 8081"]);
        assert_eq!(ports(0), ["80/tcp 0", "81/tcp 0"]);
    }
}
