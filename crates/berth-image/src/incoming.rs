//! The layers of one pull on their way: connections that bring them, and whoever unpacks them as they come.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use berth_archive::{BlobHash, HashingReader};
use berth_content::ContentError;
use berth_distribution::{DistributionError, Status};
use berth_model::{Cancel, Digest, ImageRef};
use berth_oci::image::Descriptor;

use crate::{
    ImageError, Images, ResolveError, Resolver,
    layers::{Arrival, LayerBlobs},
    transfer::{Claim, OpenPiece, Transfer},
};

/// How much is read from a connection at a time, in bytes.
const READ: usize = 256 * 1024;
/// How often in a row a connection may break without having brought anything, unless somebody says otherwise.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How often the wait is doubled.
const LONGEST_POWER: u32 = 7;
/// No layer is larger, in bytes: a manifest may say what it likes.
const MAX_LAYER: u64 = 1 << 40;

/// How much is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Layers that are fetched at once.
    pub layers: usize,
    /// Connections that fetch them.
    pub connections: usize,
    /// How often in a row a connection may break without having brought anything.
    pub attempts: u32,
}

impl Default for Width {
    fn default() -> Self {
        Self::of_layers(3)
    }
}

impl Width {
    /// So many layers, with two connections for each.
    #[must_use]
    pub fn of_layers(layers: usize) -> Self {
        let layers = layers.clamp(1, 32);
        Self { layers, connections: layers * 2, attempts: ATTEMPTS }
    }

    /// The same with another number of attempts.
    #[must_use]
    pub fn with_attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }
}

/// Digests that were found to be right, with the thread that syncs the blob, until somebody has waited for it.
type Syncing = HashMap<Digest, Option<JoinHandle<Result<(), ContentError>>>>;

/// What one pull fetches, and from where.
pub(crate) struct Incoming<'a> {
    images: &'a Images,
    source: Arc<dyn Resolver>,
    reference: ImageRef,
    width: Width,
    cancel: Cancel,
    /// In the order of the layers, each once.
    transfers: Vec<Arc<Transfer>>,
    syncing: Mutex<Syncing>,
    failed: Mutex<Option<ImageError>>,
}

impl<'a> Incoming<'a> {
    /// Finds out which layers are not here.
    pub fn of(
        images: &'a Images,
        source: Arc<dyn Resolver>,
        reference: &ImageRef,
        layers: &[Descriptor],
        width: Width,
        cancel: &Cancel,
    ) -> Result<Self, ImageError> {
        let mut transfers: Vec<Arc<Transfer>> = Vec::new();
        for layer in layers {
            if layer.size > MAX_LAYER {
                let (digest, limit) = (layer.digest.clone(), MAX_LAYER);
                return Err(ContentError::TooLarge { digest, limit }.into());
            }
            if transfers.iter().any(|known| known.blob.digest == layer.digest) {
                continue;
            }
            match images.inner.transfers.join(&images.inner.content, layer)? {
                Some(transfer) => transfers.push(transfer),
                None => images.check_blob(layer)?,
            }
        }
        Ok(Self {
            images,
            source,
            reference: reference.clone(),
            width,
            cancel: cancel.clone(),
            transfers,
            syncing: Mutex::default(),
            failed: Mutex::default(),
        })
    }

    /// The blobs that were not here.
    pub fn transfers(&self) -> &[Arc<Transfer>] {
        &self.transfers
    }

    /// How many connections there is work for.
    pub fn connections(&self) -> usize {
        const SMALL: u64 = 1 << 20;
        let each = self.transfers.iter().map(|transfer| 1 + (transfer.blob.size / (16 * SMALL)).min(64) as usize);
        self.width.connections.min(each.sum())
    }

    /// Fetches until nothing is missing, somebody fails, or nobody wants it any more.
    pub fn work(&self) {
        let mut buffer = vec![0; READ];
        while !self.cancel.is_cancelled() {
            let open = || self.transfers.iter().filter(|transfer| !transfer.is_complete());
            let claim = open().take(self.width.layers).find_map(|transfer| transfer.claim(self.width.connections));
            let Some(mut claim) = claim else {
                // Others are at it, here or in another pull: what they give up is ours.
                match open().next() {
                    Some(transfer) => transfer.wait(),
                    None if self.all_syncing() => return,
                    None => thread::sleep(Duration::from_millis(20)),
                }
                continue;
            };
            if let Err(error) = self.bring(&mut claim, &mut buffer) {
                self.fail(error);
            }
        }
    }

    /// A blob that turns out to be wrong is fetched anew: until all are right there may be more to do.
    fn all_syncing(&self) -> bool {
        let syncing = self.lock_syncing();
        self.transfers.iter().all(|transfer| syncing.contains_key(&transfer.blob.digest))
    }

    /// Remembers the first error, and ends everything.
    pub fn fail(&self, error: ImageError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.cancel.cancel();
    }

    /// The first error, if there was one.
    pub fn failure(&self) -> Option<ImageError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn bring(&self, claim: &mut Claim, buffer: &mut [u8]) -> Result<(), ImageError> {
        let (mut piece, mut failures) = (OpenPiece::default(), 0);
        while !claim.is_done() {
            let before = claim.bytes().start + piece.bytes;
            let error = match self.bring_some(claim, &mut piece, buffer) {
                Ok(()) => continue,
                Err(_) if self.cancel.is_cancelled() => return Err(ResolveError::Cancelled.into()),
                Err(ImageError::Resolve(error)) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            let got_on = claim.bytes().start + piece.bytes > before;
            failures = if got_on { 0 } else { failures + 1 };
            if failures >= self.width.attempts {
                return Err(error.into());
            }
            tracing::debug!(blob = %claim.transfer().blob.digest, %error, "going on with a layer that broke off");
            self.pause(if got_on { Duration::ZERO } else { FIRST_WAIT * 2_u32.pow(failures.min(LONGEST_POWER)) });
        }
        Ok(())
    }

    /// One request, and what comes of it.
    fn bring_some(&self, claim: &mut Claim, piece: &mut OpenPiece, buffer: &mut [u8]) -> Result<(), ImageError> {
        let blob = claim.transfer().blob.clone();
        let start = claim.bytes().start + piece.bytes;
        let fetched = self.source.fetch(&self.reference, &blob, start..claim.bytes().end);
        let mut fetched = fetched.map_err(|error| beyond_end(error, &blob, start))?;
        let broken =
            |source| ResolveError::Fetch { what: format!("{} of {}", blob.digest, self.reference.familiar()), source };
        if !fetched.is_part && claim.bytes().end < blob.size {
            claim.take_whole();
        }
        let mut skip = start - fetched.start;
        while !claim.is_done() && !self.cancel.is_cancelled() {
            let count = fetched.body.read(buffer).map_err(broken)?;
            if count == 0 {
                return Err(broken(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")).into());
            }
            let skipped = usize::try_from(skip).map_or(count, |skip| skip.min(count));
            skip -= skipped as u64;
            claim.keep(piece, &buffer[skipped..count])?;
        }
        if self.cancel.is_cancelled() { Err(ResolveError::Cancelled.into()) } else { Ok(()) }
    }

    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while Instant::now() < until && !self.cancel.is_cancelled() {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks what nobody unpacked, because its layer was here, and waits until all blobs are on the disk.
    pub fn finish(&self) -> Result<(), ImageError> {
        for transfer in &self.transfers {
            while !self.lock_syncing().contains_key(&transfer.blob.digest) {
                let found = self.hash(transfer)?;
                self.judge(transfer, &found)?;
            }
        }
        let threads: Vec<_> = self.lock_syncing().values_mut().filter_map(Option::take).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|_| Err(panicked()))?;
        }
        // All at once, and last: what is visible is swept when nothing leads to it, what is on its way is kept.
        Ok(self.images.inner.transfers.publish(&self.images.inner.content, &self.transfers)?)
    }

    fn lock_syncing(&self) -> MutexGuard<'_, Syncing> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transfer(&self, blob: &Descriptor) -> Option<&Arc<Transfer>> {
        self.transfers.iter().find(|transfer| transfer.blob.digest == blob.digest)
    }

    fn hash(&self, transfer: &Arc<Transfer>) -> Result<Digest, ImageError> {
        let mut reader = HashingReader::new(transfer.reader(&self.cancel), transfer.blob.digest.algorithm());
        let mut buffer = vec![0; READ];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(reader.finish().0),
                Ok(_) => {}
                Err(_) if self.cancel.is_cancelled() => return Err(ResolveError::Cancelled.into()),
                Err(source) => {
                    let what = transfer.blob.digest.to_string();
                    return Err(ResolveError::Fetch { what, source }.into());
                }
            }
        }
    }

    /// Syncs a blob whose digest is right, and fetches one anew that is wrong, if there is hope.
    fn judge(&self, transfer: &Arc<Transfer>, found: &Digest) -> Result<Arrival, ImageError> {
        let expected = &transfer.blob.digest;
        if found != expected {
            if transfer.begin_anew()? {
                tracing::warn!(blob = %expected, "what was kept of a layer is damaged; it is fetched anew");
                return Ok(Arrival::Again);
            }
            return Err(ContentError::Mismatch { expected: expected.clone(), found: found.clone() }.into());
        }
        let mut syncing = self.lock_syncing();
        if !syncing.contains_key(expected) {
            let owned = Arc::clone(transfer);
            // The disk works while the next layer is unpacked.
            let started =
                thread::Builder::new().name("blob-sync".to_owned()).stack_size(256 * 1024).spawn(move || owned.sync());
            let thread = match started {
                Ok(thread) => Some(thread),
                Err(_) => {
                    transfer.sync()?;
                    None
                }
            };
            syncing.insert(expected.clone(), thread);
        }
        Ok(Arrival::Right)
    }
}

impl LayerBlobs for Incoming<'_> {
    fn open(&self, blob: &Descriptor) -> Result<(Box<dyn Read + Send>, BlobHash), ImageError> {
        match self.transfer(blob) {
            Some(transfer) => Ok((Box::new(transfer.reader(&self.cancel)), BlobHash::Compute(blob.digest.algorithm()))),
            None => self.images.open(blob),
        }
    }

    fn arrived(&self, blob: &Descriptor, found: Option<&Digest>) -> Result<Arrival, ImageError> {
        let Some(transfer) = self.transfer(blob) else { return Ok(Arrival::Right) };
        match found {
            Some(found) => self.judge(transfer, found),
            None if self.cancel.is_cancelled() => Err(ResolveError::Cancelled.into()),
            // What cannot be unpacked may be damaged, or may be what was promised: only its digest tells.
            None => {
                let found = self.hash(transfer)?;
                self.judge(transfer, &found)
            }
        }
    }
}

/// A server that has nothing behind `start` has a smaller blob than the manifest says.
fn beyond_end(error: ResolveError, blob: &Descriptor, start: u64) -> ImageError {
    match error {
        ResolveError::Registry { source: DistributionError::Status { status: Status(416), .. }, .. } => {
            let (digest, expected, found) = (blob.digest.clone(), blob.size, start);
            ContentError::WrongSize { digest, expected, found }.into()
        }
        error => error.into(),
    }
}

fn panicked() -> ContentError {
    ContentError::Io { action: "syncing", path: "a blob".into(), source: io::Error::other("its thread ended early") }
}
