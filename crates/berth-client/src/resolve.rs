//! The addresses of a host name, without the system's resolver: a static binary must not load its plug-ins.
//!
//! Knows what a daemon's name needs: literal addresses, `localhost`, `/etc/hosts`, and A and AAAA questions to the name servers of
//! `/etc/resolv.conf`. Not here: search domains beyond trying each in turn, DNSSEC, caching.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::error::ClientError;

/// How long one name server may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// All addresses of `host`, IPv4 first.
pub(crate) fn addresses(host: &str) -> Result<Vec<IpAddr>, ClientError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let listed = in_hosts_file(&fs::read_to_string("/etc/hosts").unwrap_or_default(), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    let resolv_conf = ResolvConf::parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let found = resolv_conf.ask(host);
    if found.is_empty() {
        let reason = format!("neither in /etc/hosts nor known to {} name servers", resolv_conf.servers.len());
        return Err(ClientError::UnknownHost { host: host.to_owned(), reason });
    }
    Ok(found)
}

fn in_hosts_file(text: &str, host: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect()
}

/// What `/etc/resolv.conf` says about whom to ask.
struct ResolvConf {
    servers: Vec<IpAddr>,
    search: Vec<String>,
}

impl ResolvConf {
    fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf { servers: Vec::new(), search: Vec::new() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        conf
    }

    /// Asks for the name as it is, and with each search domain after it.
    fn ask(&self, host: &str) -> Vec<IpAddr> {
        let longer = self.search.iter().map(|domain| format!("{host}.{domain}"));
        for name in std::iter::once(host.to_owned()).chain(longer) {
            for server in &self.servers {
                let mut found = ask_server(*server, &name, RecordType::A).unwrap_or_default();
                found.extend(ask_server(*server, &name, RecordType::Aaaa).unwrap_or_default());
                if !found.is_empty() {
                    return found;
                }
            }
        }
        Vec::new()
    }
}

#[derive(Clone, Copy)]
enum RecordType {
    A = 1,
    Aaaa = 28,
}

fn ask_server(server: IpAddr, name: &str, record: RecordType) -> Option<Vec<IpAddr>> {
    let local: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect((server, 53)).ok()?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT)).ok()?;
    // The port is random and the socket connected: the number need only tell our own two questions apart.
    let id = record as u16 | (std::process::id() as u16) << 8;
    socket.send(&question(id, name, record)?).ok()?;
    let mut answer = [0; 1500];
    loop {
        let length = socket.recv(&mut answer).ok()?;
        if answer[..length].starts_with(&id.to_be_bytes()) {
            return addresses_in(&answer[..length]);
        }
    }
}

/// A query of RFC 1035, section 4.1, for one name.
fn question(id: u16, name: &str, record: RecordType) -> Option<Vec<u8>> {
    let mut packet = Vec::with_capacity(name.len() + 18);
    packet.extend(id.to_be_bytes());
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]); // recursion desired, one question
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        packet.push(length);
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend((record as u16).to_be_bytes());
    packet.extend([0, 1]);
    Some(packet)
}

/// The A and AAAA records of an answer; names are skipped, not followed, since the server has done that.
fn addresses_in(packet: &[u8]) -> Option<Vec<IpAddr>> {
    let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = skip_name(packet, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = skip_name(packet, at)?;
        let (record, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = packet.get(at + 10..at + 10 + length)?;
        match record {
            1 => found.extend(<[u8; 4]>::try_from(data).ok().map(IpAddr::from)),
            28 => found.extend(<[u8; 16]>::try_from(data).ok().map(IpAddr::from)),
            _ => {}
        }
        at += 10 + length;
    }
    Some(found)
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_addresses_and_localhost_ask_nobody() {
        assert_eq!(addresses("10.1.2.3").expect("address"), ["10.1.2.3".parse::<IpAddr>().expect("address")]);
        assert_eq!(addresses("localhost").expect("address").len(), 2);
    }

    #[test]
    fn the_hosts_file_is_read_with_comments_and_aliases() {
        let text = "127.0.0.1 localhost\n10.0.0.9\tbuild.test Build # alias\n# 10.0.0.8 build\n";
        assert_eq!(in_hosts_file(text, "build"), ["10.0.0.9".parse::<IpAddr>().expect("address")]);
        assert!(in_hosts_file(text, "alias").is_empty());
    }

    #[test]
    fn an_answer_with_a_compressed_name_and_an_alias_gives_its_addresses() {
        let mut packet = question(7, "h.test", RecordType::A).expect("question");
        packet[7] = 2; // two answers
        packet.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]); // an alias
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        assert_eq!(addresses_in(&packet).expect("answer"), ["192.0.2.1".parse::<IpAddr>().expect("address")]);
        assert!(addresses_in(&packet[..packet.len() - 2]).is_none(), "a cut answer is refused");
    }

    #[test]
    fn resolv_conf_gives_servers_and_search_domains() {
        let conf = ResolvConf::parse("# x\nnameserver 10.0.0.2\nsearch a.test b.test\noptions ndots:0\n");
        assert_eq!(conf.servers, ["10.0.0.2".parse::<IpAddr>().expect("address")]);
        assert_eq!(conf.search, ["a.test", "b.test"]);
    }
}
