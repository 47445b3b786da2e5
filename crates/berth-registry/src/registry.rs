//! What every request works with.

use std::sync::Arc;

use crate::{
    auth::{Caller, Gate, rules::Action},
    http::{connection::Peer, head::Head},
    limit::Limits,
    metrics::Metrics,
    names::RepositoryName,
    notify::{
        Notifier,
        event::{Action as Done, Target},
    },
    proxy::{Proxy, upstreams::Upstreams},
    refusal::{Code, Refusal},
    storage::Storage,
};

/// What may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Everything.
    Allowed,
    /// Things may be added, and tags moved, but nothing removed.
    NoDelete,
    /// Nothing.
    Refused,
}

/// A registry that serves.
pub struct Registry {
    /// What is on disk.
    pub storage: Arc<Storage>,
    /// Who may do what.
    pub gate: Gate,
    /// What may be changed at all.
    pub writes: Writes,
    /// The registries that this is a cache of.
    pub upstreams: Option<Upstreams>,
    /// How much each client may ask for.
    pub limits: Limits,
    /// Who is told what happens.
    pub notifier: Notifier,
    /// What was done.
    pub metrics: Metrics,
}

/// A request to one repository, by somebody known or not.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The registry.
    pub registry: &'a Arc<Registry>,
    /// What is asked.
    pub head: &'a Head,
    /// From where.
    pub peer: &'a Peer,
    /// By whom.
    pub caller: &'a Caller,
    /// Where the repository is that is asked for, if this is a cache.
    pub upstream: Option<&'a Arc<Proxy>>,
}

impl Request<'_> {
    /// Tells whoever wants to know what was done. `part` is where the target is within its repository: `blobs` or `manifests`.
    pub fn tell(&self, done: Done, part: &str, target: impl FnOnce() -> Target) {
        self.registry.notifier.tell(self, done, part, target);
    }

    /// Lets the request do this to a repository.
    ///
    /// # Errors
    /// 401 or 403 as [`Gate::admit`] has it; 405 where the registry does not do it for anybody.
    pub fn may(&self, actions: &[Action], repository: &RepositoryName) -> Result<(), Refusal> {
        self.registry.gate.admit(self.head, self.peer, self.caller, repository, actions)?;
        let writes = actions.contains(&Action::Push);
        let deletes = actions.contains(&Action::Delete);
        match self.registry.writes {
            Writes::Refused if writes || deletes => {
                let reason = match self.upstream {
                    Some(proxy) => format!("this registry is a cache of {}: push there", proxy.domain()),
                    None => "the registry is read-only".to_owned(),
                };
                Err(Refusal::new(Code::Unsupported, reason))
            }
            Writes::NoDelete if deletes => Err(Refusal::new(Code::Unsupported, "this registry deletes nothing")),
            _ => Ok(()),
        }
    }
}
