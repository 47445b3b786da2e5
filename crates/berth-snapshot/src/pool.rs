//! Writable layers that wait for the next container: emptied ones, and those in which nothing was ever written with the overlay above them.

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use berth_model::Digest;

use crate::standing::Standing;

/// How many are kept.
const MOST: usize = 16;
/// After so long without a new one, overlays are let go: each keeps what it has shown in memory.
const IDLE: Duration = Duration::from_secs(60);

/// A writable layer without content.
pub(crate) struct Pooled {
    /// Its directory.
    pub path: PathBuf,
    /// The overlay that shows it.
    pub standing: Option<Standing>,
}

/// The layers that wait, the one that came last first: the kernel knows it best.
#[derive(Default)]
pub(crate) struct Pool {
    waiting: VecDeque<Pooled>,
    idle_at: Option<Instant>,
    /// How often layers have gone: an overlay that is older than the last time may show one that is no more.
    generation: u64,
}

impl Pool {
    /// Whether one more may be kept.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MOST
    }

    /// Keeps one, and gives what cannot be kept: the one that has waited longest, or this one if what its overlay shows may be gone.
    #[must_use]
    pub fn put(&mut self, pooled: Pooled) -> Option<Pooled> {
        if let Some(standing) = &pooled.standing {
            if standing.generation() != self.generation {
                return Some(pooled);
            }
            self.idle_at = Some(Instant::now() + IDLE);
        }
        self.waiting.push_front(pooled);
        if self.waiting.len() > MOST { self.waiting.pop_back() } else { None }
    }

    /// One for a container that is made from `description`: with the overlay that another such container has left, or without any.
    pub fn take(&mut self, description: Option<&Digest>) -> Option<Pooled> {
        let left = |pooled: &Pooled| {
            let standing = pooled.standing.as_ref().zip(description);
            standing.is_some_and(|(standing, description)| standing.is_for(description))
        };
        let plain = || self.waiting.iter().position(|pooled| pooled.standing.is_none());
        let index = self.waiting.iter().position(left).or_else(plain)?;
        self.waiting.remove(index)
    }

    /// When the overlays are to be let go, if there are any.
    pub fn idle_at(&self) -> Option<Instant> {
        self.idle_at
    }

    /// How often layers have gone.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Layers go: gives all with an overlay, and takes none of those back that are in use.
    pub fn outdate(&mut self) -> Vec<Pooled> {
        self.generation += 1;
        self.overlays()
    }

    /// All with an overlay.
    pub fn overlays(&mut self) -> Vec<Pooled> {
        self.idle_at = None;
        let (overlays, plain) =
            std::mem::take(&mut self.waiting).into_iter().partition::<Vec<_>, _>(|pooled| pooled.standing.is_some());
        self.waiting = plain.into();
        overlays
    }
}
