//! What every request needs: the engine, the settings, the host, and the engine's identity.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use berth_cgroup::Version;
use berth_distribution::Registries;
use berth_engine::Engine;
use berth_engine::spec::CgroupMode;

use crate::host_facts::HostFacts;
use crate::http::error::ApiError;
use crate::idle::Activity;
use crate::list_entries::ListEntries;
use crate::manifests::Manifests;
use crate::settings::Settings;
use crate::translate::host::Defaults;

/// The daemon as requests see it.
pub struct Daemon {
    /// The engine.
    pub engine: Engine,
    /// The daemon's settings.
    pub settings: Settings,
    /// What the host can do.
    pub host: HostFacts,
    /// The engine's id, which lasts as long as its data root.
    pub id: String,
    /// The way to registries.
    pub registries: Registries,
    /// The manifests that containers run.
    pub manifests: Manifests,
    /// Entries of the container list that were sent before.
    pub list_entries: ListEntries,
    /// Requests as they come.
    pub activity: Arc<Activity>,
    /// Held by the one prune that may run.
    pub prune: Mutex<()>,
}

impl Daemon {
    /// The engine's defaults that inspect shows.
    pub fn defaults(&self) -> Defaults<'_> {
        let config = self.engine.config();
        let cgroupns = match (config.default_cgroupns, self.engine.cgroup_layout().version()) {
            (CgroupMode::Default, Version::V2) => CgroupMode::Private,
            (CgroupMode::Default, Version::V1) => CgroupMode::Host,
            (given, _) => given,
        };
        Defaults { log: &config.log, shm_size: config.default_shm_size, cgroupns }
    }

    /// Takes the one prune of volumes or images that may run; the next one is refused meanwhile (B188).
    ///
    /// # Errors
    /// A conflict while another one runs.
    pub fn begin_prune(&self) -> Result<MutexGuard<'_, ()>, ApiError> {
        match self.prune.try_lock() {
            Ok(guard) => Ok(guard),
            // A prune that panicked left nothing that the next one could not see.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(ApiError::conflict("a prune operation is already running")),
        }
    }

    /// Runs work that blocks away from the threads that serve requests.
    ///
    /// # Errors
    /// Those of the work; an internal one if it panicked or the daemon stops.
    pub async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(ApiError::internal(format!("the operation was broken off: {error}"))),
        }
    }
}

/// Reads the engine's id, or makes one up for a new data root.
pub fn identity(root: &Path) -> io::Result<String> {
    let path = root.join("engine-id");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let id = random_uuid();
    std::fs::write(&path, format!("{id}\n"))?;
    Ok(id)
}

/// A random UUID, version 4 (RFC 9562).
fn random_uuid() -> String {
    let mut bytes = [0_u8; 16];
    // Sixteen bytes come whole once the kernel's generator is seeded, which it is long before any daemon starts.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
