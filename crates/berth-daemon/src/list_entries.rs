//! The entries of the container list as they were last sent, so that a list costs a copy and not a translation.
//!
//! An entry is worth sending again while the container's snapshot is the same, its status reads the same ("Up 5
//! minutes" changes by itself) and no image has got or lost a name. Nothing has to be told when a container changes: its
//! snapshot is another one then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use berth_engine::ContainerView;

use crate::gates::SummaryShape;

/// Longer entries are made anew each time: one with 10,000 ports takes a megabyte.
const LONGEST: usize = 16 * 1024;

/// Entries by snapshot, and by what clients of several versions see of it.
#[derive(Default)]
pub struct ListEntries {
    kept: Mutex<HashMap<(Address, SummaryShape), Entry>>,
}

/// Where a snapshot is in memory: found without reading it, of a thousand of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Address(usize);

impl Address {
    fn of(view: &Arc<ContainerView>) -> Self {
        Self(Arc::as_ptr(view) as usize)
    }
}

struct Entry {
    /// Its address is no other snapshot's while this is here; the snapshot itself may go.
    view: Weak<ContainerView>,
    status: String,
    /// What names of images were counted at then.
    names: u64,
    text: Arc<[u8]>,
}

impl ListEntries {
    /// The entry that was kept for a snapshot with this status, if it is still true.
    pub fn find(&self, view: &Arc<ContainerView>, shape: SummaryShape, status: &str, names: u64) -> Option<Arc<[u8]>> {
        let kept = self.lock();
        let entry = kept.get(&(Address::of(view), shape))?;
        (entry.status == status && entry.names == names).then(|| Arc::clone(&entry.text))
    }

    /// Keeps new entries, and forgets those of containers that have changed or are gone.
    pub fn keep<'a>(
        &self,
        shape: SummaryShape,
        names: u64,
        entries: impl Iterator<Item = (&'a Arc<ContainerView>, String, Arc<[u8]>)>,
    ) {
        let mut kept = self.lock();
        kept.retain(|_, entry| entry.view.strong_count() > 0);
        let entries = entries.filter(|(.., text)| text.len() <= LONGEST);
        kept.extend(entries.map(|(view, status, text)| {
            ((Address::of(view), shape), Entry { view: Arc::downgrade(view), status, names, text })
        }));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Address, SummaryShape), Entry>> {
        // The map is whole between any two statements that could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
