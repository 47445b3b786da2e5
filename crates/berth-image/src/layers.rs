//! Layers of images: unpacked once, shared by all that have them, and trusted only when they are known to be whole.
//!
//! A layer that was unpacked in this boot is whole, because it appeared by a rename after its digest was checked. Across a boot only those count
//! whose mark says that the file system was synced since; the others are unpacked again from their blobs.

use std::{
    collections::HashMap,
    io::{self, Read},
    os::fd::AsFd as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_archive::{ApplyOptions, ArchiveError, Below, BlobHash, LayerView, Limits, Settled, Unpacked, unpack};
use berth_model::{Algorithm, Digest};
use berth_oci::image::{ContainerConfig, Descriptor, Manifest};
use berth_snapshot::{PendingLayer, Snapshots};
use berth_store::{LayerRow, Recording, Store};
use berth_sys::fault;

use crate::{Image, ImageError, Images, documents::Configured, hold::Hold};

/// How long a new layer waits for its sync: others that come meanwhile share it.
const SYNC_DELAY: Duration = Duration::from_secs(5);

/// How many bytes of an image's files stay in the page cache as its layers are unpacked. A container needs few of a large image's, and to find
/// pages for all of them can take longer than everything else.
pub(crate) const CACHED: u64 = 1 << 30;

/// A layer that is unpacked aside: nobody knows it yet.
pub(crate) type Aside = (PendingLayer, Unpacked);

/// The layers that are unpacked and whole.
pub(crate) struct Layers {
    boot: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Chain ids with the bytes each layer takes on disk.
    whole: HashMap<Digest, u64>,
    /// One lock for each layer that is being unpacked.
    under_way: HashMap<Digest, Arc<Mutex<()>>>,
    unmarked: Vec<Digest>,
    marker_runs: bool,
}

/// The unpacked layers of an image, held for whoever has this: until a container's record needs them, it alone keeps them from being collected.
pub struct RootfsLayers {
    paths: Vec<PathBuf>,
    image: Image,
    _hold: Arc<Hold>,
}

impl RootfsLayers {
    /// The layers' directories, lowest first.
    #[must_use]
    pub fn chain(&self) -> &[PathBuf] {
        &self.paths
    }

    /// What a container of the image runs.
    #[must_use]
    pub fn config(&self) -> &ContainerConfig {
        self.image.config()
    }

    /// The image's id.
    #[must_use]
    pub fn id(&self) -> &Digest {
        self.image.id()
    }
}

impl AsRef<[PathBuf]> for RootfsLayers {
    fn as_ref(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Layers {
    /// Finds out which layers survived, and throws the others away.
    pub fn open(store: &Store, snapshots: &Snapshots) -> Result<Self, ImageError> {
        let boot = boot_id();
        let (mut state, mut lost) = (State::default(), Vec::new());
        for row in store.images().layers()? {
            if (row.complete || row.boot == boot) && snapshots.has_layer(&row.chain) {
                if !row.complete {
                    state.unmarked.push(row.chain.clone());
                }
                state.whole.insert(row.chain, row.bytes);
            } else {
                lost.push(row.chain);
            }
        }
        if !lost.is_empty() {
            store.images().delete_layers(lost)?;
        }
        for name in snapshots.layer_names()? {
            if !state.whole.keys().any(|chain| chain.hex() == name) {
                snapshots.remove_layer(&name);
            }
        }
        let has_unmarked = !state.unmarked.is_empty();
        let layers = Self { boot, state: Arc::new(Mutex::new(state)) };
        if has_unmarked {
            layers.start_marker(store, snapshots);
        }
        Ok(layers)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes a layer takes on disk; `None` if it is not unpacked.
    pub fn bytes(&self, chain: &Digest) -> Option<u64> {
        self.lock().whole.get(chain).copied()
    }

    /// The bytes of several layers together.
    pub fn bytes_of(&self, chains: &[Digest]) -> u64 {
        let state = self.lock();
        chains.iter().filter_map(|chain| state.whole.get(chain)).sum()
    }

    pub fn all(&self) -> Vec<Digest> {
        self.lock().whole.keys().cloned().collect()
    }

    /// Layers that must not be used any more: their directories are about to go.
    pub fn forget(&self, chains: &[Digest]) {
        let mut state = self.lock();
        for chain in chains {
            state.whole.remove(chain);
        }
        state.unmarked.retain(|chain| !chains.contains(chain));
    }

    fn turn(&self, chain: &Digest) -> Arc<Mutex<()>> {
        Arc::clone(self.lock().under_way.entry(chain.clone()).or_default())
    }

    fn turn_ended(&self, chain: &Digest) {
        let mut state = self.lock();
        // Ours and the table's: nobody waits.
        if state.under_way.get(chain).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            state.under_way.remove(chain);
        }
    }

    /// Sees to it that what was unpacked is synced and marked, some time later and not here.
    fn start_marker(&self, store: &Store, snapshots: &Snapshots) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.marker_runs, true) {
            return;
        }
        let (shared, store, snapshots) = (Arc::clone(&self.state), store.clone(), snapshots.clone());
        let run = move || mark(&shared, &store, &snapshots);
        let started = std::thread::Builder::new().name("layer-sync".to_owned()).stack_size(256 * 1024).spawn(run);
        if let Err(error) = started {
            tracing::warn!(%error, "new layers are not marked as synced; after a crash they are unpacked again");
            state.marker_runs = false;
        }
    }
}

fn mark(shared: &Mutex<State>, store: &Store, snapshots: &Snapshots) {
    loop {
        std::thread::sleep(SYNC_DELAY);
        let batch = std::mem::take(&mut shared.lock().unwrap_or_else(PoisonError::into_inner).unmarked);
        let marked =
            snapshots.sync().map_err(ImageError::from).and_then(|()| Ok(store.images().mark_layers_complete(batch)?));
        if let Err(error) = marked {
            tracing::warn!(%error, "new layers are not marked as synced; after a crash they are unpacked again");
        }
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.unmarked.is_empty() {
            state.marker_runs = false;
            return;
        }
    }
}

impl Images {
    /// The unpacked layers of an image, for a container. Layers that are not unpacked yet, or did not survive a crash, are unpacked now.
    ///
    /// # Errors
    /// [`ImageError`] if a layer's blob is missing or wrong.
    pub fn rootfs(&self, image: &Image) -> Result<RootfsLayers, ImageError> {
        let mut hold = self.hold();
        hold.add(image.id());
        // This is when it was used last. Where that cannot be noted, it is only older than it seems.
        let _ = self.inner.content.hold(image.id());
        let paths = self.unpacked(&image.manifest, &image.config, &mut hold, &mut |_, _| {})?;
        Ok(RootfsLayers { paths, image: image.clone(), _hold: Arc::new(hold) })
    }

    /// The directories of an image's layers, unpacked if they are not. `told` hears of each layer that is unpacked: before and after.
    pub(crate) fn unpacked(
        &self,
        manifest: &Manifest,
        config: &Configured,
        hold: &mut Hold,
        told: &mut dyn FnMut(&Descriptor, Step),
    ) -> Result<Vec<PathBuf>, ImageError> {
        self.unpacked_from(self, manifest, config, hold, told)
    }

    /// As [`Images::unpacked`], from blobs that may still be on their way.
    pub(crate) fn unpacked_from(
        &self,
        blobs: &dyn LayerBlobs,
        manifest: &Manifest,
        config: &Configured,
        hold: &mut Hold,
        told: &mut dyn FnMut(&Descriptor, Step),
    ) -> Result<Vec<PathBuf>, ImageError> {
        let diff_ids = &config.document.rootfs.diff_ids;
        if manifest.layers.len() != diff_ids.len() {
            let (blobs, ids) = (manifest.layers.len(), diff_ids.len());
            return Err(ImageError::Invalid(format!("its manifest has {blobs} layers, its configuration {ids}")));
        }
        config.chains.iter().for_each(|chain| hold.add(chain));
        let mut paths = Vec::with_capacity(diff_ids.len());
        let mut recordings = Vec::new();
        let mut cacheable = blobs.cacheable();
        for (at, blob) in manifest.layers.iter().enumerate() {
            let chain = &config.chains[at];
            if self.inner.layers.bytes(chain).is_none() {
                let turn = self.inner.layers.turn(chain);
                let done = {
                    let _mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
                    self.unpack_if_missing(blob, config, at, blobs, &mut cacheable, told)
                };
                self.inner.layers.turn_ended(chain);
                recordings.extend(done?);
            }
            paths.push(self.inner.snapshots.layer_path(chain));
        }
        recordings.into_iter().try_for_each(Recording::wait)?;
        Ok(paths)
    }

    fn unpack_if_missing(
        &self,
        blob: &Descriptor,
        config: &Configured,
        at: usize,
        blobs: &dyn LayerBlobs,
        cacheable: &mut u64,
        told: &mut dyn FnMut(&Descriptor, Step),
    ) -> Result<Option<Recording>, ImageError> {
        let chain = &config.chains[at];
        if self.inner.layers.bytes(chain).is_some() {
            return Ok(None);
        }
        told(blob, Step::Begun);
        let expected = &config.document.rootfs.diff_ids[at];
        let below: Vec<PathBuf> = config.chains[..at].iter().map(|id| self.inner.snapshots.layer_path(id)).collect();
        let (pending, unpacked) = match self.settled(blobs.unpacked(blob), expected.algorithm(), &below)? {
            Some(done) => done,
            None => self.unpack_from(blobs, blob, &below, expected.algorithm(), *cacheable)?,
        };
        *cacheable = cacheable.saturating_sub(unpacked.tar_bytes);
        if unpacked.diff_id != *expected {
            let (blob, expected) = (blob.digest.clone(), expected.clone());
            return Err(ImageError::WrongLayer { blob, found: unpacked.diff_id, expected });
        }
        let below = at.checked_sub(1).map(|below| &config.chains[below]);
        let recording = self.publish_layer(pending, chain, below, &unpacked)?;
        told(blob, Step::Done);
        Ok(Some(recording))
    }

    /// A layer that was unpacked ahead, if it turns out to fit upon what lies below it.
    fn settled(
        &self,
        ahead: Option<Aside>,
        algorithm: Algorithm,
        below: &[PathBuf],
    ) -> Result<Option<Aside>, ImageError> {
        let Some((pending, unpacked)) = ahead.filter(|(_, layer)| layer.diff_id.algorithm() == algorithm) else {
            return Ok(None);
        };
        let lower = LayerView::open(below).map_err(ArchiveError::Read)?;
        let settled = unpacked.assumptions.settle(pending.directory()?.as_fd(), &lower).map_err(ArchiveError::Read)?;
        Ok((settled == Settled::Fits).then_some((pending, unpacked)))
    }

    fn unpack_from(
        &self,
        blobs: &dyn LayerBlobs,
        blob: &Descriptor,
        below: &[PathBuf],
        algorithm: Algorithm,
        cacheable: u64,
    ) -> Result<Aside, ImageError> {
        let unpacked = loop {
            let (bytes, hash) = blobs.open(blob)?;
            let unpacked = self.unpack_blob(bytes, Some(below), hash, algorithm, cacheable);
            let found =
                unpacked.as_ref().ok().and_then(|(_, unpacked)| unpacked.blob.as_ref()).map(|(digest, _)| digest);
            if blobs.arrived(blob, found)? == Arrival::Right {
                break unpacked;
            }
        };
        unpacked.map_err(|error| match error {
            ImageError::Archive(source) => ImageError::Unpack { blob: blob.digest.clone(), source },
            error => error,
        })
    }

    /// Unpacks a blob aside, above the layers `below`, if these are known already.
    pub(crate) fn unpack_blob<R: Read + Send>(
        &self,
        blob: R,
        below: Option<&[PathBuf]>,
        blob_hash: BlobHash,
        algorithm: Algorithm,
        cacheable: u64,
    ) -> Result<Aside, ImageError> {
        let parent = below.and_then(|below| below.last()).map(PathBuf::as_path);
        let pending = self.inner.snapshots.begin_layer(parent)?;
        let below = match below {
            Some(layers) => Below::Layers(LayerView::open(layers).map_err(ArchiveError::Read)?),
            None => Below::Unknown,
        };
        let limits = Limits { max_bytes: self.inner.max_layer_bytes, cached_bytes: Some(cacheable) };
        let unpacked = unpack(blob, pending.directory()?, below, ApplyOptions::default(), blob_hash, algorithm, limits);
        Ok((pending, unpacked.map_err(|error| self.unpacking_failed(error))?))
    }

    /// A layer's files know only their own root; who has to make room needs to know which disk is full.
    fn unpacking_failed(&self, error: ArchiveError) -> ImageError {
        match error {
            ArchiveError::Write { action, path, source } if is_full(&source) => {
                ImageError::Full { directory: self.inner.snapshots.root().to_owned(), action, path }
            }
            error => error.into(),
        }
    }

    /// Makes an unpacked layer one of the known ones. Whoever promises it to somebody waits for its record first.
    pub(crate) fn publish_layer(
        &self,
        pending: PendingLayer,
        chain: &Digest,
        parent: Option<&Digest>,
        unpacked: &Unpacked,
    ) -> Result<Recording, ImageError> {
        fault::point("layer:unpacked");
        pending.publish(chain)?;
        fault::point("layer:published");
        let layers = &self.inner.layers;
        let recording = self.inner.store.images().put_layer(LayerRow {
            chain: chain.clone(),
            parent: parent.cloned(),
            bytes: unpacked.usage.bytes,
            inodes: unpacked.usage.inodes,
            boot: layers.boot.clone(),
            complete: false,
        });
        let mut state = layers.lock();
        state.whole.insert(chain.clone(), unpacked.usage.bytes);
        state.unmarked.push(chain.clone());
        drop(state);
        layers.start_marker(&self.inner.store, &self.inner.snapshots);
        Ok(recording)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Where the blobs of layers are while these are unpacked: in the content store, or on their way there.
pub(crate) trait LayerBlobs: Sync {
    /// The blob's bytes from the beginning, and whether its digest is to be found out while they are read.
    fn open(&self, blob: &Descriptor) -> Result<(Box<dyn Read + Send>, BlobHash), ImageError>;

    /// The layer, if it was unpacked before it was known what lies below it. Given once.
    fn unpacked(&self, _blob: &Descriptor) -> Option<Aside> {
        None
    }

    /// How many bytes of files may stay in the page cache.
    fn cacheable(&self) -> u64 {
        CACHED
    }

    /// The blob was read to its end and has this digest; or nobody knows, because it cannot be unpacked. Nobody sees the layer before this
    /// says that its blob is right.
    fn arrived(&self, blob: &Descriptor, found: Option<&Digest>) -> Result<Arrival, ImageError>;
}

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is what was promised.
    Right,
    /// It was not, and comes once more.
    Again,
}

impl LayerBlobs for Images {
    fn open(&self, blob: &Descriptor) -> Result<(Box<dyn Read + Send>, BlobHash), ImageError> {
        Ok((Box::new(self.inner.content.open_blob(&blob.digest)?), BlobHash::Known))
    }

    fn arrived(&self, _: &Descriptor, _: Option<&Digest>) -> Result<Arrival, ImageError> {
        Ok(Arrival::Right)
    }
}

/// How far a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begun,
    Done,
}

/// Names this boot of the machine. Where the kernel does not tell, no layer outlives the engine without its mark.
fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => text.trim().to_owned(),
        Err(_) => format!("unknown-{}", std::process::id()),
    }
}
