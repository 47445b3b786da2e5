//! Proxies by the environment's rules: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, in either case of letters.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::url::{Origin, Url};

/// Which proxy serves which server.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For encrypted connections.
    pub https: Option<Proxy>,
    /// For plain ones.
    pub http: Option<Proxy>,
    /// Hosts that are reached directly, separated by commas.
    pub none: String,
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub origin: Origin,
    /// `user:password`, if it wants to know.
    pub credentials: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Logs are no place for passwords.
        write!(f, "Proxy({})", self.origin)
    }
}

impl Proxy {
    /// Reads `[http://][user:password@]host[:port]`; `None` if it is none of that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&full)?;
        let authority = full.split_once("://")?.1.split('/').next()?;
        let credentials = authority.rsplit_once('@').map(|(user, _)| decode(user));
        (!url.origin.secure).then_some(Self { origin: url.origin, credentials })
    }
}

/// Percent-decodes; what is no escape stays.
fn decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok())).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Proxies {
    /// What variables of the environment say. Called once, by the program.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            let found = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
            found.filter(|text| !text.trim().is_empty())
        };
        Self {
            https: either("HTTPS_PROXY").and_then(|text| Proxy::parse(&text)),
            http: either("HTTP_PROXY").and_then(|text| Proxy::parse(&text)),
            none: either("NO_PROXY").unwrap_or_default(),
        }
    }

    /// The proxy for a server. The own machine is always reached directly.
    pub(crate) fn serving(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = if origin.secure { self.https.as_ref() } else { self.http.as_ref() };
        proxy.filter(|_| !is_loopback(&origin.host) && !self.is_exempt(origin))
    }

    fn is_exempt(&self, origin: &Origin) -> bool {
        let address: Option<IpAddr> = origin.host.parse().ok();
        self.none.split([',', ' ']).filter(|rule| !rule.is_empty()).any(|rule| {
            if rule == "*" {
                return true;
            }
            if let (Some(address), Ok(net)) = (address, rule.parse::<IpNet>()) {
                return net.contains(&address);
            }
            let (name, port) = match rule.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') => (name, port.parse::<u16>().ok()),
                _ => (rule, None),
            };
            port.is_none_or(|port| port == origin.port) && covers(name.trim_start_matches('*'), &origin.host)
        })
    }
}

/// `example.org` stands for itself and what is below it, `.example.org` only for what is below it.
fn covers(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(&name),
        None => host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_who_is_asked_through_whom() {
        let variables = |name: &str| match name {
            "https_proxy" => Some("proxy:3128".to_owned()),
            "HTTP_PROXY" => Some("http://u:p%40x@other".to_owned()),
            "NO_PROXY" => Some("corp.example,.only.below,10.0.0.0/8,one.host:5000".to_owned()),
            _ => None,
        };
        let proxies = Proxies::of(variables);
        assert_eq!(proxies.http.as_ref().and_then(|proxy| proxy.credentials.as_deref()), Some("u:p@x"));
        for (domain, secure, through) in [
            ("docker.io", true, Some("proxy")),
            ("docker.io", false, Some("other")),
            ("corp.example", true, None),
            ("a.corp.example", true, None),
            ("notcorp.example", true, Some("proxy")),
            ("only.below", true, Some("proxy")),
            ("x.only.below", true, None),
            ("10.1.2.3", true, None),
            ("11.1.2.3", true, Some("proxy")),
            ("one.host:5000", true, None),
            ("one.host:5001", true, Some("proxy")),
            ("localhost:5000", false, None),
            ("[::1]:5000", false, None),
        ] {
            let origin = Origin::of_domain(domain, secure).expect(domain);
            let found = proxies.serving(&origin).map(|proxy| proxy.origin.host.as_str());
            assert_eq!(found, through, "{domain}");
        }
    }
}
