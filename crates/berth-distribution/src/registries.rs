//! All registries that an engine talks to: settings, and the connections that are kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use berth_model::{Cancel, ImageRef};

use crate::{
    auth::Credentials,
    error::DistributionError,
    hosts::{Endpoint, HostSettings},
    http::Agent,
    proxy::Proxies,
    repository::Repository,
    session::{Scheme, Session},
    tls::HostTls,
    url::Origin,
};

/// The way to all registries. Cheap to clone.
#[derive(Clone)]
pub struct Registries {
    inner: Arc<Inner>,
}

struct Inner {
    settings: HostSettings,
    proxies: Arc<Proxies>,
    /// One for each way of making encrypted connections, which are few.
    agents: Mutex<Vec<(HostTls, Arc<Agent>)>>,
    schemes: Mutex<HashMap<Origin, Arc<Scheme>>>,
}

impl Registries {
    /// With these settings. Nothing is read or asked yet.
    #[must_use]
    pub fn new(settings: HostSettings) -> Self {
        let proxies = Arc::new(settings.proxies.clone());
        let (agents, schemes) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { settings, proxies, agents, schemes }) }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &HostSettings {
        &self.inner.settings
    }

    /// The repository of a reference, as whoever has these credentials sees it. All its calls end early once `cancel` is set.
    ///
    /// # Errors
    /// [`DistributionError::Settings`], [`DistributionError::Tls`] for files that cannot be used.
    pub fn repository(
        &self,
        reference: &ImageRef,
        credentials: &Credentials,
        cancel: &Cancel,
    ) -> Result<Repository, DistributionError> {
        let endpoints = self.inner.settings.endpoints(reference.domain())?;
        let own = |endpoint: &Endpoint| {
            // A mirror is another's: it does not hear the registry's password.
            if endpoint.mirror_of.is_some() { Credentials::default() } else { credentials.clone() }
        };
        let sessions: Result<Vec<Session>, _> =
            endpoints.into_iter().map(|endpoint| self.open(endpoint.clone(), own(&endpoint))).collect();
        Ok(Repository::new(reference.path(), sessions?, cancel.clone()))
    }

    /// The registry itself.
    pub(crate) fn session(&self, domain: &str, credentials: Credentials) -> Result<Session, DistributionError> {
        let mut endpoints = self.inner.settings.endpoints(domain)?;
        let registry = endpoints.pop().expect("the registry itself is always one of them");
        self.open(registry, credentials)
    }

    fn open(&self, endpoint: Endpoint, credentials: Credentials) -> Result<Session, DistributionError> {
        let agent = self.agent(&endpoint.tls)?;
        let scheme = {
            let mut schemes = self.inner.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(schemes.entry(endpoint.origin.clone()).or_default())
        };
        Ok(Session::new(endpoint, agent, credentials, scheme))
    }

    fn agent(&self, tls: &HostTls) -> Result<Arc<Agent>, DistributionError> {
        let mut agents = self.inner.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, agent)) = agents.iter().find(|(known, _)| known == tls) {
            return Ok(Arc::clone(agent));
        }
        let agent = Agent::new(tls.configuration()?, Arc::clone(&self.inner.proxies));
        agents.push((tls.clone(), Arc::clone(&agent)));
        Ok(agent)
    }
}
