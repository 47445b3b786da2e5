//! Networks that people make, join, leave and remove.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_net::{Created, Driver, Network, NetworkInfo, NetworkRequest};

use crate::{
    Engine, EngineError, Inner, blocking, container::PruneTurn, events::EventKind, spec::EndpointRequest,
    view::ContainerView,
};

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// The network's reason, in words that clients know.
    pub async fn create_network(&self, request: NetworkRequest) -> Result<Created, EngineError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let created = inner.networks.create(&request)?;
            inner.publish_network(&created.info.network, "create", None);
            Ok(created)
        })
        .await
    }

    /// Removes a network that no running container is on.
    ///
    /// # Errors
    /// It is predefined, in use, or not there.
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || inner.remove_network(&name)).await
    }

    /// Connects a container to a network: now if it runs, else from its next start on.
    ///
    /// # Errors
    /// Either is not there, it is connected already, or the two do not go together.
    pub async fn connect_network(
        &self,
        network: &str,
        container: &str,
        wanted: EndpointRequest,
    ) -> Result<(), EngineError> {
        let handle = self.inner.registry.find(container)?;
        let network = self.inner.networks.network(network)?.network;
        handle.run(move |container| Box::pin(container.connect(network, wanted))).await
    }

    /// Takes a container off a network. With `force`, what is left there of one that is gone.
    ///
    /// # Errors
    /// Either is not there, or the container is not connected.
    pub async fn disconnect_network(&self, network: &str, container: &str, force: bool) -> Result<(), EngineError> {
        let found = self.inner.registry.find(container);
        match found {
            Ok(handle) => {
                let network = self.inner.networks.network(network)?.network;
                handle.run(move |container| Box::pin(container.disconnect(network))).await
            }
            Err(EngineError::NoSuchContainer(name)) if force => {
                let network = self.inner.networks.network(network)?.network;
                let inner = Arc::clone(&self.inner);
                blocking(move || inner.forget_endpoint(&network, &name)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Removes every network that no running container is on and that `select` names. Gives their names.
    ///
    /// # Errors
    /// A conflict if another prune is under way.
    pub async fn prune_networks(
        &self,
        select: impl Fn(&Network) -> bool + Send + 'static,
    ) -> Result<Vec<String>, EngineError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _turn = PruneTurn::take(&inner.pruning)?;
            let mut removed = Vec::new();
            for NetworkInfo { network, .. } in inner.networks.list() {
                if network.is_predefined() || !select(&network) {
                    continue;
                }
                match inner.remove_network(network.id.as_str()) {
                    Ok(()) => removed.push(network.name),
                    Err(error) => tracing::debug!(network = %network.name, %error, "not pruned"),
                }
            }
            let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
            inner.events.publish(EventKind::Network, "prune", "", attributes);
            Ok(removed)
        })
        .await
    }
}

impl Engine {
    /// The names of the networks that [`Engine::prune_networks`] would remove now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn would_prune_networks(
        &self,
        select: impl Fn(&Network) -> bool + Send + 'static,
    ) -> Result<Vec<String>, EngineError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let (all, endpoints) = (inner.networks.list(), inner.networks.endpoints()?);
            let is_used = |network: &Network| {
                endpoints.iter().any(|record| record.network == network.id)
                    || (network.config_only && all.iter().any(|other| other.network.config_from == network.name))
            };
            let goes = |network: &Network| !network.is_predefined() && !is_used(network) && select(network);
            Ok(all.iter().map(|info| &info.network).filter(|network| goes(network)).map(|n| n.name.clone()).collect())
        })
        .await
    }
}

impl Inner {
    fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let network = self.networks.remove(name)?;
        self.publish_network(&network, "destroy", None);
        Ok(())
    }

    /// Frees what a container that is gone has left on a network.
    fn forget_endpoint(&self, network: &Network, container: &str) -> Result<(), EngineError> {
        let left = self.networks.endpoints()?.into_iter().find(|record| {
            record.network == network.id
                && (record.container_name == container || record.container.as_str() == container)
        });
        let message = format!("endpoint {container} not found");
        let left = left.ok_or(EngineError::Refused { kind: berth_model::ErrorKind::NotFound, message })?;
        Ok(self.networks.detach(&left)?)
    }

    /// Publishes an event of a network, and of a container where it is about one.
    pub(crate) fn publish_network(&self, network: &Network, action: &str, container: Option<&ContainerView>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver.word().to_owned()),
        ]);
        if let Some(view) = container {
            attributes.insert("container".to_owned(), view.id.to_string());
        }
        self.events.publish(EventKind::Network, action, network.id.as_str(), attributes);
    }

    /// Publishes an event of each network that a container is on; those it shares with the host have events too.
    pub(crate) fn publish_networks_of(&self, view: &ContainerView, action: &str) {
        for attachment in &view.networks {
            let Ok(info) = self.networks.network(&attachment.network) else { continue };
            if attachment.endpoint.is_some() || matches!(info.network.driver, Driver::Host | Driver::Null) {
                self.publish_network(&info.network, action, Some(view));
            }
        }
    }
}
