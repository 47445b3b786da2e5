//! Where a daemon listens: `unix:///path`, `tcp://host:port`, with or without TLS.

use std::fmt;
use std::path::PathBuf;

/// The socket of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// The port; 2375 without TLS and 2376 with, where none is given.
        port: u16,
        /// How the connection is protected, if at all.
        tls: Option<TlsFiles>,
    },
}

/// How far the peer is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Encrypted, and the peer may be anybody.
    Encrypt,
    /// The peer's certificate must be signed by the CA and carry the host's name.
    Verify,
}

/// Certificates of the client, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// How far the peer is checked.
    pub mode: TlsMode,
    /// The authority that signed the daemon's certificate.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// The key of the client's certificate.
    pub key: Option<PathBuf>,
}

/// A host text that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The text has no known scheme.
    #[error("unable to parse docker host {0:?}")]
    Unparsable(String),
    /// A transport that is not there.
    #[error("unsupported protocol scheme in host {0:?}: only unix, tcp, http and https are")]
    Unsupported(String),
    /// The port is not a number.
    #[error("invalid port in host {0:?}")]
    Port(String),
    /// A unix host without a path, or a tcp host without a name.
    #[error("missing address in host {0:?}")]
    Empty(String),
}

impl Endpoint {
    /// Reads a host as `-H` and `DOCKER_HOST` take it. `tls` applies to tcp only.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for an unknown scheme, a bad port or no address.
    pub fn parse(text: &str, tls: Option<TlsFiles>) -> Result<Endpoint, InvalidEndpoint> {
        let Some((scheme, rest)) = text.trim().split_once("://") else {
            return Err(InvalidEndpoint::Unparsable(text.to_owned()));
        };
        match scheme {
            "unix" if rest.is_empty() => Err(InvalidEndpoint::Empty(text.to_owned())),
            "unix" => Ok(Endpoint::Unix(PathBuf::from(rest))),
            "tcp" | "http" | "https" => {
                let tls = tls.or_else(|| (scheme == "https").then(TlsFiles::system));
                parse_tcp(text, rest, tls)
            }
            _ => Err(InvalidEndpoint::Unsupported(text.to_owned())),
        }
    }

    /// The text for the `Host:` header; the path of a unix socket is nobody's name.
    pub fn authority(&self) -> String {
        match self {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Endpoint::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

impl TlsFiles {
    /// TLS without files of our own: the peer cannot be checked, since no authority is known.
    fn system() -> TlsFiles {
        TlsFiles { mode: TlsMode::Encrypt, ca: None, cert: None, key: None }
    }
}

fn parse_tcp(text: &str, rest: &str, tls: Option<TlsFiles>) -> Result<Endpoint, InvalidEndpoint> {
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or_else(|| InvalidEndpoint::Unparsable(text.to_owned()))?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let default_port = if tls.is_some() { 2376 } else { 2375 };
    let port = match port {
        Some(digits) => digits.parse().map_err(|_| InvalidEndpoint::Port(text.to_owned()))?,
        None => default_port,
    };
    // An address without a host means this machine, as in `tcp://:2375`.
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    if authority.is_empty() {
        return Err(InvalidEndpoint::Empty(text.to_owned()));
    }
    Ok(Endpoint::Tcp { host: host.to_owned(), port, tls })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { .. } => write!(f, "tcp://{}", self.authority()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port, tls: None }
    }

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        for (text, want) in [
            ("unix:///run/berth/berth.sock", Endpoint::Unix("/run/berth/berth.sock".into())),
            ("unix://relative.sock", Endpoint::Unix("relative.sock".into())),
            ("tcp://10.0.0.1:2375", tcp("10.0.0.1", 2375)),
            ("tcp://example.test", tcp("example.test", 2375)),
            ("tcp://:7777", tcp("127.0.0.1", 7777)),
            ("tcp://[::1]:80", tcp("::1", 80)),
            ("http://h:1/", tcp("h", 1)),
        ] {
            assert_eq!(Endpoint::parse(text, None), Ok(want), "{text}");
        }
        let tls = TlsFiles { mode: TlsMode::Verify, ca: None, cert: None, key: None };
        assert_eq!(
            Endpoint::parse("tcp://h", Some(tls.clone())),
            Ok(Endpoint::Tcp { host: "h".into(), port: 2376, tls: Some(tls) })
        );
    }

    #[test]
    fn a_bad_host_says_which() {
        for (text, want) in [
            ("localhost:2375", "unable to parse docker host \"localhost:2375\""),
            (
                "ssh://root@h",
                "unsupported protocol scheme in host \"ssh://root@h\": only unix, tcp, http and https are",
            ),
            ("tcp://h:port", "invalid port in host \"tcp://h:port\""),
            ("tcp://", "missing address in host \"tcp://\""),
            ("unix://", "missing address in host \"unix://\""),
        ] {
            assert_eq!(Endpoint::parse(text, None).map_err(|e| e.to_string()), Err(want.to_owned()), "{text}");
        }
    }
}
