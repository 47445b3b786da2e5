//! The manifests that containers run, as lists and inspect show them: looked up once for each image.
//!
//! An image is named by its digest, so what was found never changes. Lists must not wait for the image store each time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_api::descriptor::Descriptor;
use berth_engine::{ContainerView, Engine};
use berth_model::{Digest, Platform};

use crate::daemon::Daemon;
use crate::translate::image;

/// An image and the platform that a container runs of it.
type Key = (Digest, Platform);

/// Descriptors by image. One whose content is gone is looked for each time: it may come back.
#[derive(Debug, Default)]
pub struct Manifests {
    known: Mutex<HashMap<Key, Descriptor>>,
}

impl Manifests {
    /// The descriptor for each of some containers, in their order.
    pub async fn of(&self, engine: &Engine, views: &[Arc<ContainerView>]) -> Vec<Option<Descriptor>> {
        let key = |view: &Arc<ContainerView>| (view.spec.image_id.clone(), view.spec.platform.clone());
        let missing: HashSet<Key> = {
            let known = self.lock();
            views.iter().map(key).filter(|key| !known.contains_key(key)).collect()
        };
        if !missing.is_empty() {
            let engine = engine.clone();
            let found =
                Daemon::blocking(move || Ok(missing.into_iter().filter_map(|key| look_up(&engine, key)).collect()));
            let found: Vec<(Key, Descriptor)> = found.await.unwrap_or_default();
            self.lock().extend(found);
        }
        let known = self.lock();
        views.iter().map(|view| known.get(&key(view)).cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Descriptor>> {
        // The map is whole between any two statements that could panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_up(engine: &Engine, key: Key) -> Option<(Key, Descriptor)> {
    let found = engine.images().resolve_for(key.0.as_str(), Some(&key.1)).ok()?;
    let mut shown = image::descriptor(found.manifest_descriptor());
    shown.platform = Some(image::platform_to_wire(&key.1));
    Some((key, shown))
}
