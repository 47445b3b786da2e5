//! The engine's records: two databases with schema, migrations and one writer each, and a directory of files.
//!
//! *Durable* (`berth.db` in the root directory): committed and synced before a write returns; concurrent writes share one sync.
//! *Transient* (`transient.db` and `records/` in the runtime directory): never synced, survives the death of every process but not of the machine.
//! Each noun is one file: its tables and typed functions. SQLite's types never leave this crate, and blobs are never inside: only
//! digests. What it does not know: what the documents in its rows mean.
#![forbid(unsafe_code)]

mod addresses;
mod blob_origins;
mod containers;
mod database;
mod error;
mod image_mounts;
mod images;
mod known_names;
mod ports;
mod record_files;
mod registry_index;
mod registry_notifications;
mod registry_schema;
mod reserve;
mod schema;
mod volumes;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

pub use addresses::*;
pub use blob_origins::BlobOrigins;
pub use containers::{ContainerRow, Containers};
pub use error::StoreError;
pub use image_mounts::{ImageMountRow, ImageMounts};
pub use images::*;
pub use ports::{PortRow, Ports};
pub use registry_index::*;
pub use registry_notifications::NotificationRow;
pub use volumes::{VolumeRow, Volumes};

use database::Database;
use known_names::KnownNames;
use record_files::RecordFiles;

/// How long a record must live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Survives the loss of power; a write waits for the disk.
    Durable,
    /// Survives the death of any process, not of the machine.
    Transient,
}

/// All records. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    durable: Arc<Database>,
    transient: Arc<Database>,
    transient_containers: Arc<RecordFiles>,
    /// How often images or their names have changed.
    image_changes: Arc<AtomicU64>,
    known_names: Arc<KnownNames>,
}

impl Store {
    /// Opens both databases, and makes or migrates their tables.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if a newer engine wrote them; [`StoreError::Open`] if they cannot be opened.
    pub fn open(root: &Path, run: &Path) -> Result<Self, StoreError> {
        let durable = Database::open(&root.join("berth.db"), &schema::DURABLE, Durability::Durable)?;
        let transient = Database::open(&run.join("transient.db"), &schema::TRANSIENT, Durability::Transient)?;
        let transient_containers = containers::open_transient(run.join("records"), &transient)?;
        Ok(Self {
            durable: Arc::new(durable),
            transient: Arc::new(transient),
            transient_containers: Arc::new(transient_containers),
            image_changes: Arc::default(),
            known_names: Arc::default(),
        })
    }

    pub(crate) fn of(&self, durability: Durability) -> &Arc<Database> {
        match durability {
            Durability::Durable => &self.durable,
            Durability::Transient => &self.transient,
        }
    }
}
