//! Garbage collection while the registry serves.
//!
//! First rows, in one transaction: a manifest that is put at the same time is either before it, and its blobs are needed, or after it,
//! and is told that they are missing. Blobs that no manifest needs get a time of grace, counted from when they came, were mounted, or were
//! last asked for: a client looks which blobs are here before it pushes the manifest that needs them. Then files that no row names.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::storage::{Storage, StorageError, blocking, now};

/// How long an upload may lie untouched.
pub const UPLOAD_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The grace of blobs that no manifest needs, unless another is chosen.
pub const GRACE: Duration = Duration::from_secs(3600);

/// What is collected.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The grace of what nobody needs.
    pub grace: Duration,
    /// Also manifests that no tag leads to.
    pub untagged: bool,
    /// No server runs: no client can be about to push.
    pub is_offline: bool,
}

/// What was collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Collected {
    /// Manifests that no tag led to.
    pub manifests: u64,
    /// Blobs that no manifest needed, once per repository.
    pub blobs: u64,
    /// Files that were removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that nobody went on with.
    pub uploads: u64,
}

/// Collects.
pub async fn collect(storage: &Arc<Storage>, policy: Policy) -> Result<Collected, StorageError> {
    let grace = i64::try_from(policy.grace.as_nanos()).unwrap_or(i64::MAX);
    let before = now().saturating_sub(grace);
    let shared = Arc::clone(storage);
    let (manifests, blobs) = storage
        .change(move |change| {
            let manifests = if policy.untagged { change.remove_untagged(before)? } else { 0 };
            let mut touched = shared.touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.retain(|_, at| at.elapsed() < policy.grace);
            // What was asked for before this server started, it cannot know.
            let is_fresh = !policy.is_offline && shared.opened.elapsed().unwrap_or_default() < policy.grace;
            let removed = change.remove_unneeded(before, |repository, digest| {
                is_fresh || touched.contains_key(&(repository, digest.clone()))
            })?;
            Ok((manifests, removed.len() as u64))
        })
        .await?;
    let shared = Arc::clone(storage);
    let (files, bytes, uploads) = blocking(move || sweep(&shared, policy.grace)).await?;
    Ok(Collected { manifests, blobs, files, bytes, uploads })
}

/// Removes files that no row names.
fn sweep(storage: &Storage, grace: Duration) -> Result<(u64, u64, u64), StorageError> {
    let (mut files, mut bytes) = (0, 0);
    let started = Instant::now();
    for digest in storage.blobs.list()? {
        let path = storage.blobs.path(&digest);
        let age = path.metadata().and_then(|data| data.modified()).map(|at| SystemTime::now().duration_since(at));
        if age.is_ok_and(|age| age.unwrap_or_default() < grace) {
            continue;
        }
        let removed = storage.blobs.remove_unless(&digest, || storage.read(|view| view.is_held(&digest)))?;
        if let Some(size) = removed {
            files += 1;
            bytes += size;
        }
    }
    let uploads = storage.uploads.purge(UPLOAD_AGE);
    tracing::debug!(files, bytes, uploads, seconds = started.elapsed().as_secs_f64(), "swept");
    Ok((files, bytes, uploads))
}
