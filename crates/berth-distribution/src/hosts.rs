//! Which servers stand for a registry: its mirrors first, then itself; and how each is talked to.

pub(crate) mod file;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use crate::{
    error::DistributionError,
    proxy::{Proxies, is_loopback},
    tls::HostTls,
    url::{Origin, Url},
};
use file::{HostsFile, MirrorEntry};

/// The domain that names without one belong to, and where its registry really is.
pub const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_SERVER: &str = "registry-1.docker.io";
/// Stands for every registry among the mirrors.
const ANY: &str = "*";

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct HostSettings {
    /// Registries that may be talked to without encryption, or with a certificate that nobody vouches for: `host`, `host:port`, or a network.
    /// The own machine always is one.
    pub insecure: Vec<String>,
    /// Mirrors, in the order to ask them.
    pub mirrors: Vec<Mirror>,
    /// Directories with one directory for each host: `*.crt`, `NAME.cert` with `NAME.key`, and `hosts.toml`.
    pub certificates: Vec<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
}

/// Another server that has what a registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Of which registry; `*` of every one.
    pub of: String,
    /// Where it is.
    pub url: Url,
}

impl std::str::FromStr for Mirror {
    type Err = DistributionError;

    /// Reads `URL`, a mirror of docker.io, or `REGISTRY=URL`.
    fn from_str(text: &str) -> Result<Self, DistributionError> {
        let scheme = text.find("://").unwrap_or(text.len());
        let (of, url) = match text.split_once('=') {
            Some((of, url)) if of.len() < scheme => (of, url),
            _ => (DEFAULT_DOMAIN, text),
        };
        let refused = |reason: &str| DistributionError::Settings(format!("invalid mirror {text:?}: {reason}"));
        let url = Url::parse(url).ok_or_else(|| refused("use URL or REGISTRY=URL with http:// or https://"))?;
        if url.target.contains('?') {
            return Err(refused("a query is not part of a mirror's URL"));
        }
        Ok(Self { of: of.to_owned(), url })
    }
}

/// One server that is asked for a registry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is. Whether it is encrypted is the first thing to try.
    pub origin: Origin,
    /// What stands before `/v2/`; usually nothing.
    pub prefix: String,
    /// Whether a server that does not speak TLS is talked to without it.
    pub may_be_plain: bool,
    /// Certificates and the like.
    pub tls: HostTls,
    /// The registry it is a mirror of; `None` if it is the registry itself.
    pub mirror_of: Option<String>,
}

impl HostSettings {
    /// The servers to ask, in order. Only the last one, the registry itself, is pushed to.
    ///
    /// # Errors
    /// [`DistributionError::Settings`] for a file that cannot be used.
    pub fn endpoints(&self, domain: &str) -> Result<Vec<Endpoint>, DistributionError> {
        let own = self.hosts_file(domain)?;
        let mut endpoints = Vec::new();
        for entry in own.iter().flat_map(|file| &file.mirrors).filter(|entry| entry.pulls) {
            endpoints.push(self.listed(domain, entry)?);
        }
        for mirror in self.mirrors.iter().filter(|mirror| mirror.of == domain || mirror.of == ANY) {
            endpoints.push(self.mirror(domain, &mirror.url)?);
        }
        let server = own.as_ref().and_then(|file| file.server.clone());
        endpoints.push(self.registry(domain, server)?);
        Ok(endpoints)
    }

    fn registry(&self, domain: &str, server: Option<Url>) -> Result<Endpoint, DistributionError> {
        let insecure = self.is_insecure(domain);
        let mut tls = self.certificates_of(domain)?;
        tls.skip_verify |= insecure;
        if let Some(url) = server {
            let prefix = url.target.trim_end_matches('/').to_owned();
            return Ok(Endpoint { origin: url.origin, prefix, may_be_plain: insecure, tls, mirror_of: None });
        }
        let name = if domain == DEFAULT_DOMAIN { DEFAULT_SERVER } else { domain };
        let origin = Origin::of_domain(name, true);
        let origin = origin.ok_or_else(|| DistributionError::Settings(format!("invalid registry {domain:?}")))?;
        Ok(Endpoint { origin, prefix: String::new(), may_be_plain: insecure, tls, mirror_of: None })
    }

    fn mirror(&self, domain: &str, url: &Url) -> Result<Endpoint, DistributionError> {
        let host = url.origin.authority();
        let insecure = self.is_insecure(&host);
        let mut tls = self.certificates_of(&host)?;
        tls.skip_verify |= insecure;
        Ok(Endpoint {
            origin: url.origin.clone(),
            prefix: url.target.trim_end_matches('/').to_owned(),
            may_be_plain: insecure,
            tls,
            mirror_of: Some(domain.to_owned()),
        })
    }

    fn listed(&self, domain: &str, entry: &MirrorEntry) -> Result<Endpoint, DistributionError> {
        let mut endpoint = self.mirror(domain, &entry.url)?;
        endpoint.tls.skip_verify |= entry.skip_verify;
        endpoint.tls.authorities.extend(entry.authorities.iter().cloned());
        if !entry.clients.is_empty() {
            endpoint.tls.clients = entry.clients.clone();
        }
        Ok(endpoint)
    }

    /// Whether a registry need not be encrypted.
    #[must_use]
    pub fn is_insecure(&self, domain: &str) -> bool {
        let Some(origin) = Origin::of_domain(domain, true) else { return false };
        let address: Option<IpAddr> = origin.host.parse().ok();
        let in_net =
            |rule: &str| matches!((address, rule.parse::<IpNet>()), (Some(address), Ok(net)) if net.contains(&address));
        is_loopback(&origin.host)
            || self.insecure.iter().any(|rule| rule == domain || *rule == origin.host || in_net(rule))
    }

    fn hosts_file(&self, domain: &str) -> Result<Option<HostsFile>, DistributionError> {
        for directory in &self.certificates {
            let path = directory.join(domain).join("hosts.toml");
            if let Ok(text) = std::fs::read_to_string(&path) {
                return HostsFile::parse(&text, path.parent().unwrap_or(directory))
                    .map(Some)
                    .map_err(|reason| DistributionError::Settings(format!("{}: {reason}", path.display())));
            }
        }
        Ok(None)
    }

    /// What lies in the directories named like the host.
    fn certificates_of(&self, host: &str) -> Result<HostTls, DistributionError> {
        let mut tls = HostTls::default();
        // A domain comes from a reference; one that is a path is nobody's directory.
        if host.contains("..") || host.contains('/') {
            return Ok(tls);
        }
        for directory in &self.certificates {
            let directory = directory.join(host);
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                let ending = |wanted: &str| file.extension().is_some_and(|ending| ending == wanted);
                if ending("crt") {
                    tls.authorities.push(file);
                } else if ending("cert") {
                    tls.clients.push(pair(&file)?);
                }
            }
        }
        Ok(tls)
    }
}

/// A client's certificate and the key beside it.
fn pair(certificate: &Path) -> Result<(PathBuf, PathBuf), DistributionError> {
    let key = certificate.with_extension("key");
    if !key.is_file() {
        let (key, certificate) = (key.display(), certificate.display());
        let reason = format!(
            "missing key {key} for client certificate {certificate}. CA certificates must use the extension .crt"
        );
        return Err(DistributionError::Settings(reason));
    }
    Ok((certificate.to_owned(), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(settings: &HostSettings, domain: &str) -> Vec<String> {
        let endpoints = settings.endpoints(domain).expect("endpoints");
        let mark = |endpoint: &Endpoint| if endpoint.may_be_plain { " plain" } else { "" };
        endpoints.iter().map(|endpoint| format!("{}{}{}", endpoint.origin, endpoint.prefix, mark(endpoint))).collect()
    }

    #[test]
    fn a_name_leads_to_its_servers() {
        let settings =
            HostSettings { insecure: vec!["in.secure:1".into(), "10.0.0.0/8".into()], ..HostSettings::default() };
        for (domain, servers) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("quay.io", "https://quay.io"),
            ("localhost:5000", "https://localhost:5000 plain"),
            ("127.3.2.1", "https://127.3.2.1 plain"),
            ("[::1]:80", "https://[::1]:80 plain"),
            ("in.secure:1", "https://in.secure:1 plain"),
            ("in.secure:2", "https://in.secure:2"),
            ("10.1.1.1:5", "https://10.1.1.1:5 plain"),
        ] {
            assert_eq!(shown(&settings, domain), [servers], "{domain}");
        }
        assert!(settings.endpoints("host:99999").is_err());
    }

    #[test]
    fn mirrors_come_first_and_belong_to_any_registry() {
        let mirrors = ["https://a/x/", "quay.io=http://127.0.0.1:5", "*=https://all"];
        let mirrors = mirrors.iter().map(|text| text.parse().expect("mirror")).collect();
        let settings = HostSettings { mirrors, ..HostSettings::default() };
        assert_eq!(shown(&settings, "docker.io"), ["https://a/x", "https://all", "https://registry-1.docker.io"]);
        assert_eq!(shown(&settings, "quay.io"), ["http://127.0.0.1:5 plain", "https://all", "https://quay.io"]);
        assert!("mirror.example".parse::<Mirror>().is_err());
        assert!("https://m/?x=y".parse::<Mirror>().is_err());
    }

    #[test]
    fn directories_of_hosts_hold_certificates_and_mirrors() {
        let dir = tempfile::tempdir().expect("temp dir");
        let host = dir.path().join("reg.example:5000");
        std::fs::create_dir(&host).expect("mkdir");
        for name in ["ca.crt", "client.cert", "client.key"] {
            std::fs::write(host.join(name), "").expect("write");
        }
        std::fs::write(
            host.join("hosts.toml"),
            "server = \"https://real.example\" # comment\n\n[host.\"https://m.example/base\"]\n  capabilities = [\"pull\", \"resolve\"]\n  \
             skip_verify = true\n  ca = \"m.crt\"\n[host.\"https://push.only\"]\ncapabilities = [\"push\"]\n",
        )
        .expect("write");
        let settings = HostSettings { certificates: vec![dir.path().to_owned()], ..HostSettings::default() };
        assert_eq!(shown(&settings, "reg.example:5000"), ["https://m.example/base", "https://real.example"]);
        let endpoints = settings.endpoints("reg.example:5000").expect("endpoints");
        assert!(endpoints[0].tls.skip_verify && endpoints[0].tls.authorities == [host.join("m.crt")]);
        assert_eq!(endpoints[1].tls.clients, [(host.join("client.cert"), host.join("client.key"))]);
        std::fs::remove_file(host.join("client.key")).expect("remove");
        let error = settings.endpoints("reg.example:5000").expect_err("no key").to_string();
        assert!(error.starts_with("missing key "), "{error}");
        std::fs::write(host.join("hosts.toml"), "server = what\n").expect("write");
        let error = settings.endpoints("reg.example:5000").expect_err("bad file").to_string();
        assert!(error.ends_with("hosts.toml: line 1: \"what\" is neither a text, a list nor true or false"), "{error}");
    }
}
