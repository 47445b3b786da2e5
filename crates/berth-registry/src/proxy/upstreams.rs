//! Several registries behind one cache, told apart by `?ns=HOST`, as containerd and others ask mirrors.
//!
//! Repositories of the first one are called here as they are there. Those of the others begin with the host's name, `ghcr.io/team/app`, by which
//! they can also be asked for without the parameter. Only registries that were named when the cache was set up are asked: it is nobody's gate to
//! the rest of the world.

use std::sync::Arc;

use super::Proxy;
use crate::{
    names::RepositoryName,
    refusal::{Code, Refusal},
};

/// Other names of docker.io.
const DOCKER_ALIASES: [&str; 2] = ["registry-1.docker.io", "index.docker.io"];

/// The registries that this is a cache of.
pub struct Upstreams {
    first: Arc<Proxy>,
    others: Vec<Arc<Proxy>>,
}

/// Registries that cannot be told apart, or not be called by a name here.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUpstreams {
    /// One is named twice.
    #[error("the registry {0} is named twice: a cache has each once")]
    Twice(String),
    /// Repositories cannot begin so.
    #[error("the registry {0} can only be the first one of a cache: its name cannot be part of a repository's")]
    Name(String),
}

impl Upstreams {
    /// Of these registries; none if there are none.
    ///
    /// # Errors
    /// [`InvalidUpstreams`].
    pub fn of(upstreams: Vec<Proxy>) -> Result<Option<Self>, InvalidUpstreams> {
        let mut upstreams = upstreams.into_iter();
        let Some(first) = upstreams.next() else { return Ok(None) };
        let mut all = Self { first: Arc::new(first), others: Vec::new() };
        for upstream in upstreams {
            if all.named(upstream.domain()).is_some() {
                return Err(InvalidUpstreams::Twice(upstream.domain().to_owned()));
            }
            // A colon cannot stand in a repository's name, nor an underscore in a host's.
            let name = upstream.domain().to_ascii_lowercase().replace(':', "_");
            if name.parse::<RepositoryName>().is_err() || name.contains('/') {
                return Err(InvalidUpstreams::Name(upstream.domain().to_owned()));
            }
            all.others.push(Arc::new(upstream.beneath(format!("{name}/"))));
        }
        Ok(Some(all))
    }

    /// The registry that a request means, and what its repository is called here.
    ///
    /// # Errors
    /// `NAME_UNKNOWN` for another registry, so that the client asks that one itself; `NAME_INVALID`.
    pub fn choose(&self, namespace: Option<&str>, text: &str) -> Result<(&Arc<Proxy>, RepositoryName), Refusal> {
        let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
            let begun = self.others.iter().find(|other| text.starts_with(&other.prefix));
            return Ok((begun.unwrap_or(&self.first), text.parse()?));
        };
        let shown: String = namespace.chars().take(255).collect();
        let unknown = || Refusal::new(Code::NameUnknown, format!("this cache does not serve the registry {shown}"));
        let upstream = self.named(namespace).ok_or_else(unknown)?;
        Ok((upstream, format!("{}{text}", upstream.prefix).parse()?))
    }

    fn named(&self, domain: &str) -> Option<&Arc<Proxy>> {
        let wanted = usual(domain);
        std::iter::once(&self.first).chain(&self.others).find(|upstream| usual(upstream.domain()) == wanted)
    }
}

fn usual(domain: &str) -> String {
    let domain = domain.to_ascii_lowercase();
    if DOCKER_ALIASES.contains(&domain.as_str()) { berth_distribution::DEFAULT_DOMAIN.to_owned() } else { domain }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use berth_distribution::{Credentials, HostSettings, Registries};

    use super::*;

    fn upstreams(domains: &[&str]) -> Result<Option<Upstreams>, InvalidUpstreams> {
        let registries = Registries::new(HostSettings::default());
        let proxy = |domain: &&str| {
            Proxy::new(registries.clone(), (*domain).to_owned(), Credentials::default(), Duration::ZERO)
        };
        Upstreams::of(domains.iter().map(proxy).collect())
    }

    #[test]
    fn the_parameter_or_the_name_tells_which_registry_is_meant() {
        let all = upstreams(&["docker.io", "ghcr.io", "localhost:5000"]).expect("fine").expect("some");
        for (namespace, name, domain, called) in [
            (None, "library/app", "docker.io", "library/app"),
            (Some(""), "library/app", "docker.io", "library/app"),
            (Some("docker.io"), "library/app", "docker.io", "library/app"),
            (Some("registry-1.docker.io"), "library/app", "docker.io", "library/app"),
            (Some("ghcr.io"), "team/app", "ghcr.io", "ghcr.io/team/app"),
            (Some("GHCR.io"), "team/app", "ghcr.io", "ghcr.io/team/app"),
            (Some("localhost:5000"), "app", "localhost:5000", "localhost_5000/app"),
            (None, "ghcr.io/team/app", "ghcr.io", "ghcr.io/team/app"),
            (None, "localhost_5000/app", "localhost:5000", "localhost_5000/app"),
        ] {
            let (upstream, found) = all.choose(namespace, name).expect(name);
            assert_eq!((upstream.domain(), found.as_str()), (domain, called), "{namespace:?} {name}");
        }
        assert!(all.choose(Some("quay.io"), "app").is_err());
        assert!(all.choose(Some("ghcr.io"), "Bad").is_err());
    }

    #[test]
    fn registries_that_cannot_be_told_apart_are_refused() {
        assert!(upstreams(&[]).expect("fine").is_none());
        assert!(upstreams(&["docker.io", "index.docker.io"]).is_err());
        assert!(upstreams(&["docker.io", "[::1]:5000"]).is_err());
        assert!(upstreams(&["[::1]:5000", "docker.io"]).expect("fine").is_some());
    }
}
