//! Names of hosts to addresses: literals, `/etc/hosts`, then the name servers. The C library is not asked: a static program has none that could.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use hickory_resolver::{Resolver, net::runtime::TokioRuntimeProvider, system_conf::read_system_conf};

/// How long one name server may take, and how often it is asked.
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;

/// The addresses of a host, in the order to try them.
///
/// # Errors
/// In the words that Docker's users know: `lookup x on 10.0.0.1:53: no such host`.
pub(crate) fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let table = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let listed = in_table(&table, host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    ask(host)
}

/// What the hosts table says.
fn in_table(table: &str, host: &str) -> Vec<IpAddr> {
    let lines = table.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut found = Vec::new();
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host)) {
            found.push(address);
        }
    }
    found
}

fn ask(host: &str) -> io::Result<Vec<IpAddr>> {
    let failed = |reason: String| io::Error::other(format!("lookup {host}{reason}"));
    let (config, _) = read_system_conf().map_err(|error| failed(format!(": {error}")))?;
    let servers: Vec<SocketAddr> = config.name_servers().iter().map(|server| (server.ip, 53).into()).collect();
    let on = servers.first().map(|server| format!(" on {server}")).unwrap_or_default();
    // Without any way to any server the answer is known at once.
    let unreachable: Vec<String> = servers.iter().copied().filter_map(unreachable).collect();
    if !servers.is_empty() && unreachable.len() == servers.len() {
        return Err(failed(format!("{on}: {}", unreachable[0])));
    }
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    (options.timeout, options.attempts) = (TIMEOUT, ATTEMPTS);
    let resolver = builder.build().map_err(|error| failed(format!(": {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(resolver.lookup_ip(host)) {
        Ok(found) => Ok(found.iter().collect()),
        Err(error) if error.is_no_records_found() => Err(failed(format!("{on}: no such host"))),
        Err(error) => Err(failed(format!("{on}: {error}"))),
    }
}

/// Why no packet can be sent to a name server, if none can.
fn unreachable(server: SocketAddr) -> Option<String> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(server));
    let error = connected.err()?;
    Some(format!("dial udp {server}: connect: {}", berth_model::plain_reasons(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_the_hosts_table_need_no_server() {
        let table = "127.0.0.1 localhost # x\n::1 localhost ip6\n\n10.0.0.7\treg.example REG2 # other\nbad line\n";
        assert_eq!(in_table(table, "reg2"), [IpAddr::from([10, 0, 0, 7])]);
        assert_eq!(in_table(table, "localhost").len(), 2);
        assert_eq!(in_table(table, "other"), [] as [IpAddr; 0]);
        assert_eq!(look_up("192.0.2.1").expect("literal"), [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(look_up("::1").expect("literal"), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert!(!look_up("localhost").expect("always").is_empty());
    }
}
