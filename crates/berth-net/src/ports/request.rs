//! What somebody wants published.

use std::net::IpAddr;
use std::str::FromStr;

use berth_ports::Transport;

/// A port of a container that is to be reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// The protocol.
    pub transport: Transport,
    /// The container's port.
    pub port: u16,
    /// The host's address; every one, of both families, if absent. The unspecified one means every one of its family.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub host: HostPort,
}

/// Which port of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostPort {
    /// Any that is free.
    #[default]
    Free,
    /// This one.
    One(u16),
    /// The first free one from the one to the other.
    FirstOf(u16, u16),
}

/// A text that names no port of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid port specification: {0:?}")]
pub struct InvalidHostPort(pub String);

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    /// Reads nothing or `0` (any), `8080`, `8000-8010`.
    fn from_str(text: &str) -> Result<Self, InvalidHostPort> {
        let number = |digits: &str| -> Result<u16, InvalidHostPort> {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().ok_or_else(|| InvalidHostPort(text.to_owned()))
        };
        match text.split_once('-') {
            None if text.is_empty() => Ok(HostPort::Free),
            None => Ok(match number(text)? {
                0 => HostPort::Free,
                port => HostPort::One(port),
            }),
            Some((first, last)) => match (number(first)?, number(last)?) {
                (0, 0) => Ok(HostPort::Free),
                (first, last) if first == last => Ok(HostPort::One(first)),
                (first, last) if first < last => Ok(HostPort::FirstOf(first, last)),
                _ => Err(InvalidHostPort(text.to_owned())),
            },
        }
    }
}

/// Requests that lie side by side, taken together: one port of the host follows the other as those of the container do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub transport: Transport,
    pub address: Option<IpAddr>,
    /// The container's first port.
    pub first: u16,
    /// How many ports.
    pub count: u16,
    /// Where the host's begin; only a group of one leaves that open.
    pub host: HostPort,
}

/// Takes together what can be told in one range. The order stays, but for ranges that come interleaved.
pub(crate) fn grouped(requests: &[PortRequest]) -> Vec<Group> {
    let mut sorted: Vec<&PortRequest> = requests.iter().collect();
    // Ports that were asked for by number first: nobody else can be given those.
    sorted.sort_by_key(|request| {
        let (open, host) = match request.host {
            HostPort::One(port) => (0, port),
            HostPort::FirstOf(first, _) => (1, first),
            HostPort::Free => (2, 0),
        };
        (open, request.transport, request.address, host, request.port)
    });
    let mut groups: Vec<Group> = Vec::new();
    for request in sorted {
        if let Some(group) = groups.last_mut()
            && let (HostPort::One(start), HostPort::One(port)) = (group.host, request.host)
            && (group.transport, group.address) == (request.transport, request.address)
            && start.checked_add(group.count) == Some(port)
            && group.first.checked_add(group.count) == Some(request.port)
        {
            group.count += 1;
            continue;
        }
        let PortRequest { transport, port, address, host } = *request;
        groups.push(Group { transport, address, first: port, count: 1, host });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(port: u16, host: HostPort) -> PortRequest {
        PortRequest { transport: Transport::Tcp, port, address: None, host }
    }

    #[test]
    fn the_forms_of_a_port_of_the_host() {
        for (text, expected) in [
            ("", Some(HostPort::Free)),
            ("0", Some(HostPort::Free)),
            ("80", Some(HostPort::One(80))),
            ("65535", Some(HostPort::One(65535))),
            ("80-80", Some(HostPort::One(80))),
            ("80-90", Some(HostPort::FirstOf(80, 90))),
            ("90-80", None),
            ("65536", None),
            ("-1", None),
            ("+1", None),
            ("1-", None),
            ("abc", None),
            ("1-2-3", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
        assert_eq!("abc".parse::<HostPort>().unwrap_err().to_string(), "invalid port specification: \"abc\"");
    }

    #[test]
    fn ten_thousand_ports_side_by_side_are_one_group() {
        let requests: Vec<_> = (0..10_000).map(|n| request(1000 + n, HostPort::One(20_000 + n))).collect();
        let groups = grouped(&requests);
        assert_eq!(groups.len(), 1);
        assert_eq!((groups[0].first, groups[0].count, groups[0].host), (1000, 10_000, HostPort::One(20_000)));
    }

    #[test]
    fn what_does_not_lie_side_by_side_stays_apart() {
        let requests = [
            request(80, HostPort::Free),
            request(81, HostPort::One(8081)),
            request(80, HostPort::One(8080)),
            request(83, HostPort::One(8082)),
            request(84, HostPort::FirstOf(9000, 9010)),
        ];
        let groups = grouped(&requests);
        let shown: Vec<_> = groups.iter().map(|group| (group.first, group.count)).collect();
        assert_eq!(shown, [(80, 2), (83, 1), (84, 1), (80, 1)]);
    }

    proptest! {
        #[test]
        fn no_port_is_lost_or_made_up(ports in proptest::collection::vec((1u16..50, 1u16..50), 0..60)) {
            let requests: Vec<_> = ports.iter().map(|(port, host)| request(*port, HostPort::One(*host))).collect();
            let mut asked = ports.clone();
            asked.sort_by_key(|(port, host)| (*host, *port));
            let mut given: Vec<_> = grouped(&requests)
                .iter()
                .flat_map(|group| {
                    let HostPort::One(start) = group.host else { panic!("only fixed ports were asked for") };
                    (0..group.count).map(move |n| (group.first + n, start + n))
                })
                .collect();
            given.sort_by_key(|(port, host)| (*host, *port));
            prop_assert_eq!(given, asked);
        }

        #[test]
        fn any_text_is_a_port_or_refused(text in ".{0,12}") {
            let _ = text.parse::<HostPort>();
        }
    }
}
