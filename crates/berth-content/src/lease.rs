//! Leases: what is in the making is held by a row that was there before its first byte.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use berth_model::Timestamp;
use berth_store::LeaseRow;

use crate::{Content, ContentError, ingest::random_name};

/// Holds everything that came in, or was touched by [`Content::hold`], since it was taken. Given back when dropped.
///
/// A lease whose engine died ends when the store is opened again; what it held is then swept like anything else that nobody needs.
pub struct Lease {
    content: Content,
    id: String,
}

/// The leases of this engine, by id, with the time since which each holds content.
#[derive(Default)]
pub(crate) struct Held {
    since: Mutex<BTreeMap<String, SystemTime>>,
}

impl Content {
    /// Takes a lease. When this returns, its row is on the disk.
    ///
    /// # Errors
    /// [`ContentError::Store`].
    pub fn lease(&self, purpose: &str) -> Result<Lease, ContentError> {
        let (id, now) = (random_name(), SystemTime::now());
        self.inner.leases.insert(&id, now);
        // From here on the guard takes it back, also when the row cannot be written.
        let lease = Lease { content: self.clone(), id: id.clone() };
        let row = LeaseRow { id, purpose: purpose.to_owned(), created: Timestamp::from(now).nanos() };
        self.inner.store.images().put_lease(row)?;
        Ok(lease)
    }

    /// Since when content is held by any lease.
    pub(crate) fn held_since(&self) -> Option<SystemTime> {
        let since = self.inner.leases.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.values().min().copied()
    }
}

impl Held {
    fn insert(&self, id: &str, since: SystemTime) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), since);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let inner = &self.content.inner;
        inner.leases.since.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        inner.store.images().end_lease(std::mem::take(&mut self.id));
    }
}
