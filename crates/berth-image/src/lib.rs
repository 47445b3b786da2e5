//! Names, manifests, unpack, save, load, prune.
//!
//! [`Images`] is the image store of an engine: what images there are and what they are called, and everything that makes or unmakes one.
//! An image's id is the digest of the manifest or index that a name points to; its blobs are kept byte for byte in the content store, its
//! layers unpacked once and shared. Its calls block; it is cheap to clone.
//!
//! Whatever is being made is held by a lease, and seen by others only when all of it is here: blobs first, then layers, then the record.
//! A crash at any point leaves content that nobody needs, which the next collection takes.
//!
//! Deliberately absent: containers (the engine tells which images they use), the Engine API's documents, and HTTP: what is spoken with
//! registries is the distribution crate's.
#![forbid(unsafe_code)]

mod attestations;
mod budget;
mod catalog;
pub mod changes;
mod check;
mod collect;
mod commit;
mod documents;
mod error;
mod hello;
mod hold;
mod image;
mod import;
mod incoming;
mod inspect;
mod layers;
mod load;
mod mounts;
mod names;
mod platforms;
mod progress;
mod pull;
mod push;
mod registry;
mod remove;
mod resolver;
mod save;
mod transfer;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use berth_content::Content;
use berth_snapshot::Snapshots;
use berth_store::Store;

pub use attestations::{Attestation, AttestationQuery};
pub use budget::Budget;
pub use catalog::{ImageSummary, ListOptions, ManifestKind, ManifestSummary};
pub use check::{CheckOptions, Checked, Fault};
pub use collect::Collected;
pub use commit::CommitOptions;
pub use error::ImageError;
pub use hello::EmbeddedResolver;
pub use image::Image;
pub use import::ImportOptions;
pub use incoming::Width;
pub use inspect::{HistoryEntry, ImageDetails};
pub use layers::RootfsLayers;
pub use load::LoadedImage;
pub use mounts::ImageMount;
pub use names::{image_name, reference_matches};
pub use progress::{Detail, Progress};
pub use pull::{PullOptions, Pulled};
pub use push::{PushOptions, Pushed};
pub use registry::RegistryResolver;
pub use remove::{ImageUser, Pruned, RemoveOptions, Removed};
pub use resolver::{Fetched, ResolveError, Resolver};

/// How an image store is set up.
#[derive(Clone)]
pub struct ImageStoreConfig {
    /// The engine's root directory; `content` and `snapshots` are beneath it.
    pub root: PathBuf,
    /// Where `pull` gets images from when no registry answers.
    pub resolver: Arc<dyn Resolver>,
    /// How many bytes a layer may have once it is uncompressed; `None` for any number. A guard against archives made to fill the disk.
    pub max_layer_bytes: Option<u64>,
}

impl ImageStoreConfig {
    /// The usual set-up: images come from the layout embedded in the program.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), resolver: Arc::new(EmbeddedResolver::new()), max_layer_bytes: None }
    }
}

/// The image store of an engine. Cheap to clone; its calls block.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    content: Content,
    snapshots: Snapshots,
    resolver: Arc<dyn Resolver>,
    documents: documents::Documents,
    holds: hold::Holds,
    layers: layers::Layers,
    transfers: transfer::Transfers,
    max_layer_bytes: Option<u64>,
    /// Told of each new image.
    recorded: std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// One collection, and one change of what is named, at a time.
    naming: Mutex<()>,
}

impl Images {
    /// Opens the image store beneath the engine's root directory, and puts in order what a dead engine left: nothing half made is seen.
    ///
    /// # Errors
    /// [`ImageError`] if directories or database cannot be worked with.
    pub fn open(config: ImageStoreConfig, store: Store) -> Result<Self, ImageError> {
        let content = Content::open(&config.root.join("content"), store.clone())?;
        let snapshots = Snapshots::open(&config.root.join("snapshots"))?;
        let layers = layers::Layers::open(&store, &snapshots)?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                content,
                snapshots,
                resolver: config.resolver,
                documents: documents::Documents::default(),
                holds: hold::Holds::default(),
                layers,
                transfers: transfer::Transfers::default(),
                max_layer_bytes: config.max_layer_bytes,
                recorded: std::sync::OnceLock::new(),
                naming: Mutex::default(),
            }),
        })
    }

    /// The layer trees, which containers' writable layers are part of.
    #[must_use]
    pub fn snapshots(&self) -> &Snapshots {
        &self.inner.snapshots
    }

    /// The content store.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.inner.content
    }
}
