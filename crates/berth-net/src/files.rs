//! The texts of `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` in a container. No files are touched here.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::name_sockets::NAME_SERVER;

/// Servers for a container whose host has none that it could reach.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// Whether the container's loopback device has an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Loopback {
    /// It has `::1`.
    Present,
    /// IPv6 is off in the kernel.
    Absent,
}

/// What somebody decided about names; what is empty is taken from the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsOptions {
    /// Servers (`--dns`).
    pub servers: Vec<IpAddr>,
    /// Search domains (`--dns-search`); a single `.` means none.
    pub search: Vec<String>,
    /// Options of the resolver (`--dns-option`).
    pub options: Vec<String>,
}

/// The text of `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// The text of `/etc/hosts`.
///
/// `extra` are the lines of `--add-host`, in order; `own` the container's addresses, one line each with its host name.
/// A name with a domain is written with its first part beside it.
pub fn hosts(loopback: Ipv6Loopback, extra: &[(String, IpAddr)], own: &[IpAddr], name: &str) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if loopback == Ipv6Loopback::Present {
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n");
        text.push_str("ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    }
    write_hosts(&mut text, extra);
    with_own(&text, own, name)
}

/// A text of `/etc/hosts` with lines for more of the container's own addresses.
pub fn with_own(text: &str, own: &[IpAddr], name: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    own.iter().for_each(|address| text.push_str(&own_line(*address, name)));
    text
}

/// A text of `/etc/hosts` without the lines of addresses that are no longer the container's own.
pub fn without_own(text: &str, own: &[IpAddr], name: &str) -> String {
    let gone: Vec<String> = own.iter().map(|address| own_line(*address, name)).collect();
    text.split_inclusive('\n').filter(|line| !gone.iter().any(|own| own == line)).collect()
}

fn own_line(address: IpAddr, name: &str) -> String {
    match name.split_once('.') {
        Some((first, _)) if !first.is_empty() => format!("{address}\t{name} {first}\n"),
        _ => format!("{address}\t{name}\n"),
    }
}

/// The text of `/etc/hosts` for a container in the host's network: the host's own, and the lines of `--add-host`.
pub fn hosts_of_host(host: &str, extra: &[(String, IpAddr)]) -> String {
    let mut text = host.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    write_hosts(&mut text, extra);
    text
}

fn write_hosts(text: &mut String, extra: &[(String, IpAddr)]) {
    for (name, address) in extra {
        writeln!(text, "{address}\t{name}").expect("writing to a string cannot fail");
    }
}

/// The text of `/etc/resolv.conf` on a network without a name service of its own.
///
/// `host` is the host's file. Of its servers those on a loopback address stay out, as the container has another
/// loopback; so do those on IPv6, which it does not have. Well-known public servers take the place of none at all.
/// Servers that somebody named are taken as they are.
pub fn resolv_conf(host: &str, chosen: &DnsOptions) -> String {
    let parsed = ResolvConf::parse(host);
    let mut servers: Vec<String> = chosen.servers.iter().map(ToString::to_string).collect();
    if servers.is_empty() {
        servers = parsed.servers.into_iter().filter(|server| reachable(server)).collect();
    }
    if servers.is_empty() {
        servers = FALLBACK_SERVERS.map(str::to_owned).into();
    }
    ResolvConf { servers, ..parsed }.with(chosen).text()
}

/// The text of `/etc/resolv.conf` on a network with the name service.
///
/// It names only the name service, which asks the servers that somebody named, or the host's. Without `ndots` from
/// anybody names of one word are asked as they are, before any search domain: they are what containers are called.
pub fn resolv_conf_with_names(host: &str, chosen: &DnsOptions) -> String {
    let mut conf = ResolvConf::parse(host).with(chosen);
    let asked: Vec<String> = match chosen.servers.as_slice() {
        [] => conf.servers.iter().map(|server| format!("host({server})")).collect(),
        servers => servers.iter().map(ToString::to_string).collect(),
    };
    conf.servers = vec![NAME_SERVER.to_string()];
    if conf.ndots().is_none() {
        conf.options.push("ndots:0".to_owned());
    }
    let asked = if asked.is_empty() { "nobody".to_owned() } else { asked.join(" ") };
    format!(
        "# Names of containers on the same networks are answered at {NAME_SERVER}.\n\
         # Everything else is asked of: {asked}\n{}",
        conf.text()
    )
}

/// Whether somebody, or the host's file, says that names with fewer than so many dots are first tried with the search
/// domains.
pub fn has_ndots(host: &str, chosen: &[String]) -> bool {
    let chosen = DnsOptions { options: chosen.to_vec(), ..DnsOptions::default() };
    ResolvConf::parse(host).with(&chosen).ndots().is_some_and(|dots| dots > 0)
}

/// The text of `/etc/resolv.conf` in the host's network: the host's own, but for what somebody decided.
pub fn resolv_conf_of_host(host: &str, chosen: &DnsOptions) -> String {
    if *chosen == DnsOptions::default() {
        return host.to_owned();
    }
    let parsed = ResolvConf::parse(host);
    let named: Vec<String> = chosen.servers.iter().map(ToString::to_string).collect();
    let servers = if named.is_empty() { parsed.servers } else { named };
    ResolvConf { servers, ..parsed }.with(chosen).text()
}

/// Whether a host's file names only the local stub of systemd-resolved, whose real servers stand in
/// `/run/systemd/resolve/resolv.conf`.
pub fn is_stub(host: &str) -> bool {
    ResolvConf::parse(host).servers == ["127.0.0.53"]
}

fn reachable(server: &str) -> bool {
    match server.parse() {
        Ok(IpAddr::V4(address)) => !address.is_loopback(),
        // A zone, as in `fe80::1%eth0`, does not parse: it names an interface of the host.
        Ok(IpAddr::V6(_)) | Err(_) => false,
    }
}

/// What resolv.conf(5) says, as far as it goes into a container.
#[derive(Debug, Default)]
struct ResolvConf {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
    others: Vec<String>,
}

impl ResolvConf {
    fn parse(text: &str) -> ResolvConf {
        let mut parsed = ResolvConf::default();
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else { continue };
            let words = words.map(str::to_owned);
            match keyword {
                "nameserver" => parsed.servers.extend(words.take(1)),
                // The last one counts, and `domain` is a search list of one.
                "search" => parsed.search = words.collect(),
                "domain" => parsed.search = words.take(1).collect(),
                "options" => parsed.options.extend(words),
                _ => parsed.others.push(line.to_owned()),
            }
        }
        parsed
    }

    fn with(mut self, chosen: &DnsOptions) -> ResolvConf {
        if !chosen.search.is_empty() {
            self.search = chosen.search.iter().filter(|domain| *domain != ".").cloned().collect();
        }
        if !chosen.options.is_empty() {
            self.options.clone_from(&chosen.options);
        }
        self
    }

    fn ndots(&self) -> Option<u32> {
        self.options.iter().rev().find_map(|option| option.strip_prefix("ndots:")?.parse().ok())
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = self.servers.iter().map(|server| format!("nameserver {server}")).collect();
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                lines.push(format!("{keyword} {}", words.join(" ")));
            }
        }
        lines.extend(self.others.iter().cloned());
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn hosts_has_the_fixed_lines_then_the_added_then_our_own() {
        let extra = [("db".to_owned(), "10.0.0.9".parse().unwrap())];
        let text = hosts(Ipv6Loopback::Present, &extra, &ips(&["172.17.0.2"]), "0123456789ab");
        let expected = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                        ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n\
                        10.0.0.9\tdb\n172.17.0.2\t0123456789ab\n";
        assert_eq!(text, expected);
        assert_eq!(hosts(Ipv6Loopback::Absent, &[], &[], "x"), "127.0.0.1\tlocalhost\n");
        let domain = hosts(Ipv6Loopback::Absent, &[], &ips(&["10.0.0.2", "10.1.0.2"]), "web.example.org");
        assert!(domain.ends_with("10.0.0.2\tweb.example.org web\n10.1.0.2\tweb.example.org web\n"), "{domain}");
    }

    #[test]
    fn own_lines_come_and_go_and_others_stay() {
        let text = with_own("127.0.0.1\tlocalhost\n1.2.3.4\tmine", &ips(&["10.0.0.2", "fd00::2"]), "web");
        assert_eq!(text, "127.0.0.1\tlocalhost\n1.2.3.4\tmine\n10.0.0.2\tweb\nfd00::2\tweb\n");
        let less = without_own(&text, &ips(&["10.0.0.2", "1.2.3.4"]), "web");
        assert_eq!(less, "127.0.0.1\tlocalhost\n1.2.3.4\tmine\nfd00::2\tweb\n");
    }

    #[test]
    fn the_hosts_own_file_gets_the_added_lines_at_its_end() {
        let extra = [("db".to_owned(), "fd00::9".parse().unwrap())];
        assert_eq!(hosts_of_host("127.0.0.1 localhost", &extra), "127.0.0.1 localhost\nfd00::9\tdb\n");
    }

    #[test]
    fn resolv_conf_leaves_out_what_a_container_cannot_reach() {
        let check = |host: &str, expected: &str| assert_eq!(resolv_conf(host, &DnsOptions::default()), expected);
        check("", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        check("nameserver 127.0.0.53\noptions edns0\n", "nameserver 8.8.8.8\nnameserver 8.8.4.4\noptions edns0\n");
        check("nameserver 127.0.0.1\nnameserver 10.0.0.1\n", "nameserver 10.0.0.1\n");
        check(
            "nameserver ::1\nnameserver fd00::1\nnameserver fe80::1%eth0\nnameserver 9.9.9.9",
            "nameserver 9.9.9.9\n",
        );
        check(
            "# note\n; note\ndomain a\nsearch b c\nnameserver 9.9.9.9 # x\nsortlist 10.0.0.0\noptions ndots:2 rotate\n",
            "nameserver 9.9.9.9\nsearch b c\noptions ndots:2 rotate\nsortlist 10.0.0.0\n",
        );
    }

    #[test]
    fn what_somebody_chose_takes_the_hosts_place() {
        let host = "nameserver 9.9.9.9\nsearch example.org\noptions edns0\n";
        let chosen = DnsOptions {
            servers: ips(&["127.0.0.1", "fd00::53"]),
            search: vec![".".into()],
            options: vec!["ndots:1".into()],
        };
        assert_eq!(resolv_conf(host, &chosen), "nameserver 127.0.0.1\nnameserver fd00::53\noptions ndots:1\n");
        assert_eq!(resolv_conf_of_host(host, &DnsOptions::default()), host);
        let search = DnsOptions { search: vec!["a".into(), "b".into()], ..DnsOptions::default() };
        assert_eq!(resolv_conf_of_host(host, &search), "nameserver 9.9.9.9\nsearch a b\noptions edns0\n");
    }

    #[test]
    fn with_the_name_service_only_it_is_named() {
        let check = |host: &str, chosen: &DnsOptions, expected: &str| {
            let text = resolv_conf_with_names(host, chosen);
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# Names")).collect();
            assert_eq!(lines.join("|"), expected);
        };
        let nothing = DnsOptions::default();
        check(
            "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch example.org\noptions edns0\n",
            &nothing,
            "# Everything else is asked of: host(127.0.0.53) host(10.0.0.1)|nameserver 127.0.0.11|search example.org|options edns0 ndots:0",
        );
        check("", &nothing, "# Everything else is asked of: nobody|nameserver 127.0.0.11|options ndots:0");
        let chosen = DnsOptions {
            servers: ips(&["9.9.9.9", "fd00::53"]),
            search: vec!["a".into()],
            options: vec!["ndots:2".into()],
        };
        check(
            "nameserver 10.0.0.1\nsearch b\noptions rotate\n",
            &chosen,
            "# Everything else is asked of: 9.9.9.9 fd00::53|nameserver 127.0.0.11|search a|options ndots:2",
        );
        assert!(has_ndots("", &chosen.options) && has_ndots("options ndots:1", &[]));
        assert!(!has_ndots("options ndots:1", &["ndots:0".to_owned()]) && !has_ndots("options rotate", &[]));
    }

    #[test]
    fn the_local_stub_of_systemd_is_recognized() {
        assert!(is_stub("nameserver 127.0.0.53\noptions edns0 trust-ad\n"));
        assert!(!is_stub("nameserver 127.0.0.53\nnameserver 9.9.9.9\n"));
        assert!(!is_stub(""));
    }

    proptest! {
        #[test]
        fn a_container_always_has_a_server_it_can_reach(host in "([a-z#; ]{0,12}( [0-9a-f.:]{0,12})?\n){0,8}") {
            let text = resolv_conf(&host, &DnsOptions::default());
            let servers: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect();
            prop_assert!(!servers.is_empty());
            prop_assert!(servers.iter().all(|server| reachable(server)));
        }
    }
}
