//! The few parts of a URL that registries use: scheme, host, port, and the rest as it is sent.

use std::fmt;

/// An absolute `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Where the server is.
    pub origin: Origin,
    /// Path and query, beginning with a slash.
    pub target: String,
}

/// Scheme, host and port: what credentials are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Origin {
    /// The server of a registry's domain (`host`, `host:port`, `[::1]:port`); `None` if the port is none.
    #[must_use]
    pub fn of_domain(domain: &str, secure: bool) -> Option<Self> {
        let (host, port) = match domain.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':'))
            }
            None => match domain.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (domain, None),
            },
        };
        let default = if secure { 443 } else { 80 };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => default,
        };
        (!host.is_empty()).then(|| Self { secure, host: host.to_ascii_lowercase(), port })
    }

    /// A URL on this server.
    #[must_use]
    pub fn at(&self, target: impl Into<String>) -> Url {
        Url { origin: self.clone(), target: target.into() }
    }

    /// Host and, where it is not the usual one, port: as the `Host` header has it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

impl Url {
    /// Reads an absolute URL; `None` if it is none, or of another scheme. A user in it is not taken over.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let target = target.split('#').next().unwrap_or_default();
        let clean = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if !clean(authority) || !clean(target) {
            return None;
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Some(Self { origin: Origin::of_domain(authority, secure)?, target })
    }

    /// What a `Location` of an answer from here means.
    #[must_use]
    pub fn join(&self, location: &str) -> Option<Self> {
        let location = location.trim();
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.origin.secure { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        if !location.bytes().all(|b| b.is_ascii_graphic()) || location.is_empty() {
            return None;
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = match location.as_bytes()[0] {
            b'/' => location.to_owned(),
            b'?' => format!("{path}{location}"),
            _ => format!("{}/{location}", path.rsplit_once('/').map_or("", |(directory, _)| directory)),
        };
        Some(self.origin.at(target.split('#').next().unwrap_or_default()))
    }

    /// The same URL with one more pair in its query.
    #[must_use]
    pub fn with_query(mut self, key: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(&format!("{key}={}", encode(value)));
        self
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

/// Percent-encodes a value of a query or form; colons and slashes stay readable, as registries print them.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b'/' | b',' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, written) in [
            ("https://a.b/v2/", "https://a.b/v2/"),
            ("HTTP://A.b:5000", "http://a.b:5000/"),
            ("https://a:443/x?y=z#f", "https://a/x?y=z"),
            ("http://u:p@[::1]:80/x", "http://[::1]/x"),
            ("https://a?x", "https://a/?x"),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.to_string()).as_deref(), Some(written), "{text}");
        }
        for text in ["", "ftp://a/", "https://", "https://a:x/", "/v2/", "https://a/ b"] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn locations_are_relative_to_where_they_came_from() {
        let base = Url::parse("http://r:5000/v2/a/blobs/uploads/?mount=x").expect("url");
        for (location, means) in [
            ("/v2/x?_state=1", "http://r:5000/v2/x?_state=1"),
            ("https://other/y", "https://other/y"),
            ("//other/y", "http://other/y"),
            ("id?s=1", "http://r:5000/v2/a/blobs/uploads/id?s=1"),
            ("?s=1", "http://r:5000/v2/a/blobs/uploads/?s=1"),
            ("/v2/x?to=http://evil/", "http://r:5000/v2/x?to=http://evil/"),
        ] {
            assert_eq!(base.join(location).map(|url| url.to_string()).as_deref(), Some(means), "{location}");
        }
        assert_eq!(base.join("/a b"), None);
        let queried = base.with_query("digest", "sha256:ab").with_query("a", "b&c");
        assert_eq!(queried.target, "/v2/a/blobs/uploads/?mount=x&digest=sha256:ab&a=b%26c");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser_and_what_it_writes_it_reads(text in ".{0,60}", location in "[a-z/:?#@%. \\[\\]]{0,30}") {
            let base = Url::parse("https://h:1/a/b?c").expect("url");
            for url in [Url::parse(&text), Url::parse(&format!("http://{text}")), base.join(&location)].into_iter().flatten() {
                prop_assert!(!url.to_string().contains(['\r', '\n', ' ']));
                prop_assert_eq!(Url::parse(&url.to_string()), Some(url));
            }
        }
    }
}
