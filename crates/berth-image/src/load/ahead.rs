//! Layers of an archive, unpacked while they stream in: their bytes pass through memory once, on their way to the blob and to the directory.
//!
//! Nobody knows yet what lies below them, nor whether they are layers at all. What cannot be unpacked this way is left to be unpacked from its
//! blob, once that is known; what nobody turns out to want is thrown away.

use std::{
    collections::HashMap,
    io::{self, BufRead, Read, Write as _},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use berth_archive::{BlobHash, TarReader};
use berth_content::{Content, Finished, Ingest};
use berth_model::{Algorithm, Digest};

use crate::{ImageError, Images, layers::Aside};

/// How many bytes of an archive's files stay in the page cache. Less than of a pull: an archive may hold any number of images, and its bytes come
/// faster than pages can be found for them.
const CACHED: u64 = 256 << 20;

/// Layers that were unpacked ahead, by the digests of their blobs.
pub(super) struct Ahead {
    layers: Mutex<HashMap<Digest, Aside>>,
    cacheable: u64,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { layers: Mutex::default(), cacheable: CACHED }
    }
}

impl Ahead {
    /// Unpacks what `tee` brings, if it can be; in any case all of it then is in its blob.
    pub fn unpack<R: BufRead + Send>(&mut self, images: &Images, tee: &mut Tee<'_, R>) -> Result<(), ImageError> {
        tee.passes_cache();
        let hash = BlobHash::Elsewhere(tee.algorithm(), Arc::clone(&tee.found));
        let unpacked = images.unpack_blob(&mut *tee, None, hash, Algorithm::Sha256, self.cacheable);
        tee.drain()?;
        if let (Ok((pending, unpacked)), Some(digest)) = (unpacked, tee.found.get()) {
            self.cacheable = self.cacheable.saturating_sub(unpacked.tar_bytes);
            self.layers.get_mut().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), (pending, unpacked));
        }
        Ok(())
    }

    /// How many bytes of files may still stay in the page cache.
    pub fn cacheable(&self) -> u64 {
        self.cacheable
    }

    /// The layer of that blob, for the first who wants it.
    pub fn take(&self, blob: &Digest) -> Option<Aside> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).remove(blob)
    }
}

/// A member of the archive on its way into a blob; whoever reads it sees it go by.
pub(super) struct Tee<'a, R> {
    archive: &'a mut TarReader<R>,
    blob: Blob,
    promised: Option<Digest>,
    /// The blob's digest, once all of it was read.
    found: Arc<OnceLock<Digest>>,
}

/// How far a blob is.
enum Blob {
    Open(Ingest),
    Whole(Finished),
    Failed(ImageError),
    /// Somebody has the error.
    Told,
}

/// How much is read at a time where nobody looks, in bytes.
const READ: usize = 256 * 1024;

impl<'a, R: BufRead> Tee<'a, R> {
    /// The current member of `archive`, which is to have the digest that was promised.
    pub fn new(content: &Content, archive: &'a mut TarReader<R>, promised: Option<Digest>) -> Result<Self, ImageError> {
        let ingest = content.ingest(promised.as_ref().map_or(Algorithm::Sha256, Digest::algorithm))?;
        Ok(Self { archive, blob: Blob::Open(ingest), promised, found: Arc::default() })
    }

    fn algorithm(&self) -> Algorithm {
        self.promised.as_ref().map_or(Algorithm::Sha256, Digest::algorithm)
    }

    /// Nobody reads the blob back soon.
    fn passes_cache(&mut self) {
        if let Blob::Open(ingest) = &mut self.blob {
            ingest.pass_cache();
        }
    }

    /// How the member goes on. Empty at its end.
    pub fn peek(&mut self) -> Result<&[u8], ImageError> {
        Ok(self.archive.fill()?)
    }

    /// Reads what is left, and gives the blob.
    pub fn finish(mut self) -> Result<Finished, ImageError> {
        self.drain()?;
        match self.blob {
            Blob::Whole(finished) => Ok(finished),
            Blob::Open(_) | Blob::Failed(_) | Blob::Told => unreachable!("all of it was read without an error"),
        }
    }

    fn drain(&mut self) -> Result<(), ImageError> {
        let mut buffer = Vec::new();
        while let Blob::Open(_) = self.blob {
            buffer.resize(READ, 0);
            self.pass(&mut buffer);
        }
        match std::mem::replace(&mut self.blob, Blob::Told) {
            Blob::Failed(error) => Err(error),
            blob => {
                self.blob = blob;
                Ok(())
            }
        }
    }

    /// Fills the buffer, so that the blob is written in whole pages, and tells how far. At the member's end the blob is whole.
    fn pass(&mut self, buffer: &mut [u8]) -> usize {
        match self.try_pass(buffer) {
            Ok(count) => count,
            Err(error) => {
                self.blob = Blob::Failed(error);
                0
            }
        }
    }

    fn try_pass(&mut self, buffer: &mut [u8]) -> Result<usize, ImageError> {
        let Blob::Open(ingest) = &mut self.blob else { return Ok(0) };
        let mut have = 0;
        while have < buffer.len() {
            let chunk = self.archive.fill()?;
            if chunk.is_empty() {
                break;
            }
            let count = chunk.len().min(buffer.len() - have);
            buffer[have..have + count].copy_from_slice(&chunk[..count]);
            self.archive.consume(count);
            have += count;
        }
        ingest.write_all(&buffer[..have]).map_err(|error| ingest.failed(error))?;
        if have < buffer.len()
            && let Blob::Open(ingest) = std::mem::replace(&mut self.blob, Blob::Told)
        {
            let finished = ingest.finish(self.promised.as_ref())?;
            self.found.get_or_init(|| finished.digest().clone());
            self.blob = Blob::Whole(finished);
        }
        Ok(have)
    }
}

impl<R: BufRead> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pass(buffer);
        match self.blob {
            // The one who drains tells what is wrong.
            Blob::Failed(_) | Blob::Told => Err(io::Error::other("the blob could not be kept")),
            Blob::Open(_) | Blob::Whole(_) => Ok(count),
        }
    }
}
