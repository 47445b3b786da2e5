//! What must not be collected right now, though no record needs it yet: images of containers in the making, layers of images in the making.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use berth_model::Digest;

use crate::Images;

/// Everything held in this process.
#[derive(Default)]
pub(crate) struct Holds {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Images by their id and layers by their chain id, with how often.
    counts: HashMap<Digest, usize>,
    /// Whatever was held for a moment at least since the collection that runs now began.
    recent: HashSet<Digest>,
}

/// Holds images and layers until it is dropped.
pub(crate) struct Hold {
    images: Images,
    held: Vec<Digest>,
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A collection begins: from here on every hold is remembered, however short.
    pub fn begin_collection(&self) -> Vec<Digest> {
        let mut state = self.lock();
        state.recent.clear();
        state.counts.keys().cloned().collect()
    }

    /// Runs `work` while nobody can begin to hold, telling it what is held or was since the collection began.
    pub fn decide<T>(&self, work: impl FnOnce(&dyn Fn(&Digest) -> bool) -> T) -> T {
        let state = self.lock();
        work(&|digest| state.counts.contains_key(digest) || state.recent.contains(digest))
    }
}

impl Images {
    /// Begins to hold nothing.
    pub(crate) fn hold(&self) -> Hold {
        Hold { images: self.clone(), held: Vec::new() }
    }
}

impl Hold {
    /// Holds one thing more.
    pub fn add(&mut self, digest: &Digest) {
        let mut state = self.images.inner.holds.lock();
        *state.counts.entry(digest.clone()).or_default() += 1;
        state.recent.insert(digest.clone());
        self.held.push(digest.clone());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.images.inner.holds.lock();
        for digest in &self.held {
            if let Some(count) = state.counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.counts.remove(digest);
                }
            }
        }
    }
}
