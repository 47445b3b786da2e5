//! Who is who: containers by id, by name and by the beginning of an id. Reads never wait for a container.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use berth_model::{ContainerId, ContainerName};

use super::Handle;
use crate::{EngineError, view::ContainerView};

/// All containers.
#[derive(Default)]
pub(crate) struct Registry {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<ContainerId, Handle>,
    /// A name is here from its reservation on, before its container is in `by_id`.
    names: HashMap<ContainerName, ContainerId>,
}

/// A name that is held for a container in the making; given back when dropped, unless kept.
pub(crate) struct NameReservation {
    registry: Arc<Registry>,
    name: ContainerName,
    kept: bool,
}

impl Registry {
    /// Finds a container by full id, exact name, or the beginning of an id, in that order (B063).
    pub(crate) fn find(&self, text: &str) -> Result<Handle, EngineError> {
        let index = self.read();
        if let Some(handle) = text.parse::<ContainerId>().ok().and_then(|id| index.by_id.get(&id)) {
            return Ok(handle.clone());
        }
        let by_name = text.parse::<ContainerName>().ok().and_then(|name| index.names.get(&name));
        if let Some(handle) = by_name.and_then(|id| index.by_id.get(id)) {
            return Ok(handle.clone());
        }
        let missing = || EngineError::NoSuchContainer(text.to_owned());
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut matches = index.by_id.iter().filter(|(id, _)| id.as_str().starts_with(text));
        let (_, first) = matches.next().ok_or_else(missing)?;
        if matches.next().is_some() {
            return Err(EngineError::AmbiguousPrefix(text.to_owned()));
        }
        Ok(first.clone())
    }

    /// The present snapshot of every container, newest first.
    pub(crate) fn views(&self) -> Vec<Arc<ContainerView>> {
        let mut views: Vec<_> = self.read().by_id.values().map(Handle::view).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.created));
        views
    }

    /// Every container.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.read().by_id.values().cloned().collect()
    }

    /// Holds a name for a container.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        name: &ContainerName,
        id: &ContainerId,
    ) -> Result<NameReservation, EngineError> {
        let mut index = self.write();
        if let Some(holder) = index.names.get(name) {
            return Err(EngineError::NameInUse { name: name.to_string(), id: holder.to_string() });
        }
        index.names.insert(name.clone(), id.clone());
        Ok(NameReservation { registry: Arc::clone(self), name: name.clone(), kept: false })
    }

    /// Adds a container whose name is reserved.
    pub(crate) fn insert(&self, handle: Handle) {
        let view = handle.view();
        self.write().by_id.insert(view.id.clone(), handle);
    }

    /// Forgets a container and its name.
    pub(crate) fn remove(&self, view: &ContainerView) {
        let mut index = self.write();
        index.by_id.remove(&view.id);
        if index.names.get(&view.name) == Some(&view.id) {
            index.names.remove(&view.name);
        }
    }

    /// Gives a name back.
    pub(crate) fn release(&self, name: &ContainerName) {
        self.write().names.remove(name);
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        // The index is whole between any two statements that could panic.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameReservation {
    /// The name that is held.
    pub(crate) fn name(&self) -> &ContainerName {
        &self.name
    }

    /// Leaves the name with its container for good.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NameReservation {
    fn drop(&mut self) {
        if !self.kept {
            self.registry.release(&self.name);
        }
    }
}
