//! Blobs that come in pieces, in any order, and survive whatever stops them: nothing that is here is fetched twice.
//!
//! `ingest/<algorithm>-<hex>` holds the bytes and `.map` beside it says which pieces are there, each with a checksum. A map that says more
//! than the disk kept is found out by the checksums when the blob is gone on with; so neither is synced while it grows. Whether the whole is
//! what its digest says is for whoever reads it to the end, before [`Content::publish`].

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use berth_model::Digest;
use flate2::Crc;

use crate::{ALGORITHMS, Content, ContentError, ingest::EarlySync};

/// Size of a piece in bytes. Whatever is not a whole piece yet is lost when the engine dies, for each connection that fetches.
pub const PIECE: u64 = 128 << 10;
/// Blobs that nobody went on with for so long are thrown away.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How the map begins: what it is, and the size of a piece.
const MAGIC: [u8; 8] = *b"BRTHMAP1";
const HEADER: u64 = 16;
/// One piece in the map: a mark that it is there, and its checksum.
const SLOT: u64 = 8;
const PRESENT: u64 = 1 << 32;
const MAP_ENDING: &str = ".map";

/// A blob of which some pieces are here. Dropped, it stays for the next one who wants it.
///
/// One process has one of these for a digest at a time; its calls may come from several threads.
pub struct PartialBlob {
    content: Content,
    digest: Digest,
    size: u64,
    file: File,
    map: File,
    path: PathBuf,
    early: Mutex<EarlySync>,
}

impl Content {
    /// Opens what is here of a blob of `size` bytes, and tells which pieces that is. Whoever calls this holds a [`crate::Lease`].
    ///
    /// # Errors
    /// [`ContentError`] if files cannot be made or read.
    pub fn partial(&self, digest: &Digest, size: u64) -> Result<(PartialBlob, Vec<bool>), ContentError> {
        let name = format!("{}-{}", digest.algorithm().word(), digest.hex());
        let path = self.inner.root.join("ingest").join(name);
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o444).open(path);
            file.map_err(ContentError::io("opening", path))
        };
        let (file, map) = (open(&path)?, open(&map_path(&path))?);
        let early = Mutex::default();
        let blob = PartialBlob { content: self.clone(), digest: digest.clone(), size, file, map, path, early };
        let present = blob.survey()?;
        Ok((blob, present))
    }
}

impl Content {
    /// Makes blobs visible that were synced. When this returns, they survive the loss of power.
    ///
    /// Until then they stay in pieces: an engine that dies over an image keeps them for the next one, while a blob that is visible and belongs
    /// to nothing is swept.
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses.
    pub fn publish(&self, blobs: &[&PartialBlob]) -> Result<(), ContentError> {
        for blob in blobs {
            if !self.hold(&blob.digest)? {
                let target = self.path(&blob.digest);
                std::fs::rename(&blob.path, &target).map_err(ContentError::io("renaming to", &target))?;
            }
        }
        for algorithm in ALGORITHMS {
            if blobs.iter().any(|blob| blob.digest.algorithm() == algorithm) {
                let directory = self.directory(algorithm);
                let synced = File::open(&directory).and_then(|directory| directory.sync_all());
                synced.map_err(ContentError::io("syncing", &directory))?;
            }
        }
        blobs.iter().for_each(|blob| blob.remove());
        Ok(())
    }
}

impl PartialBlob {
    /// Its digest, if its bytes are right.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size in bytes once it is whole.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many pieces it has.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.size.div_ceil(PIECE)
    }

    /// Writes bytes that belong at `offset`.
    ///
    /// # Errors
    /// [`ContentError::Full`], [`ContentError::Io`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), ContentError> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(offset, error))?;
        self.early.lock().unwrap_or_else(PoisonError::into_inner).written(bytes.len(), &self.file);
        Ok(())
    }

    /// Says that all bytes of a piece were written, and what their checksum is.
    ///
    /// # Errors
    /// [`ContentError::Full`], [`ContentError::Io`].
    pub fn mark(&self, piece: u64, checksum: &Crc) -> Result<(), ContentError> {
        let slot = (PRESENT | u64::from(checksum.sum())).to_le_bytes();
        self.map.write_all_at(&slot, HEADER + piece * SLOT).map_err(|error| self.failed(piece * PIECE, error))
    }

    /// Reads bytes that are here.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// Forgets all pieces: they are not what they should be.
    ///
    /// # Errors
    /// [`ContentError::Io`].
    pub fn forget(&self) -> Result<(), ContentError> {
        let cleared = self.map.set_len(0).and_then(|()| self.file.set_len(0)).and_then(|()| self.begin_map());
        cleared.map_err(ContentError::io("clearing", &self.path))
    }

    /// All bytes are here, and the caller found that they are what the digest says: syncs them. See [`Content::publish`].
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses.
    pub fn sync(&self) -> Result<(), ContentError> {
        let dated = self.file.set_modified(SystemTime::now());
        dated.and_then(|()| self.file.sync_all()).map_err(ContentError::io("syncing", &self.path))
    }

    /// Throws away what is here.
    pub fn remove(&self) {
        // What stays behind is thrown away with time.
        let _ = std::fs::remove_file(map_path(&self.path));
        let _ = std::fs::remove_file(&self.path);
    }

    /// Which pieces are here and whole. A map of another blob or of another form counts for nothing.
    fn survey(&self) -> Result<Vec<bool>, ContentError> {
        let failed = || ContentError::io("reading", &self.path);
        let mut present = vec![false; usize::try_from(self.pieces()).unwrap_or(usize::MAX)];
        let mut header = [0; HEADER as usize];
        let known = self.map.read_exact_at(&mut header, 0).is_ok() && header == self.header();
        if !known {
            self.map.set_len(0).and_then(|()| self.begin_map()).map_err(failed())?;
            return Ok(present);
        }
        let mut slots = vec![0; present.len() * SLOT as usize];
        let mut have = 0;
        while have < slots.len() {
            match self.map.read_at(&mut slots[have..], HEADER + have as u64).map_err(failed())? {
                0 => break,
                count => have += count,
            }
        }
        let mut buffer = vec![0; PIECE as usize];
        for (piece, slot) in slots.chunks_exact(SLOT as usize).enumerate() {
            let slot = u64::from_le_bytes(slot.try_into().expect("slots have eight bytes"));
            if slot & PRESENT == 0 {
                continue;
            }
            let offset = piece as u64 * PIECE;
            let length = PIECE.min(self.size - offset) as usize;
            let mut checksum = Crc::new();
            if self.file.read_exact_at(&mut buffer[..length], offset).is_ok() {
                checksum.update(&buffer[..length]);
                present[piece] = slot == PRESENT | u64::from(checksum.sum());
            }
        }
        Ok(present)
    }

    fn header(&self) -> [u8; HEADER as usize] {
        let mut header = [0; HEADER as usize];
        header[..8].copy_from_slice(&MAGIC);
        header[8..].copy_from_slice(&(self.size ^ PIECE << 40).to_le_bytes());
        header
    }

    fn begin_map(&self) -> io::Result<()> {
        self.map.write_all_at(&self.header(), 0)
    }

    fn failed(&self, written: u64, error: io::Error) -> ContentError {
        if error.kind() == io::ErrorKind::StorageFull {
            return ContentError::Full { directory: self.content.inner.root.clone(), written };
        }
        ContentError::io("writing", &self.path)(error)
    }
}

fn map_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(MAP_ENDING);
    name.into()
}

/// Throws away what a dead engine left in `ingest/`, but for blobs in pieces that somebody may still go on with.
pub(crate) fn clear(ingest: &Path) -> Result<(), ContentError> {
    let entries = match std::fs::read_dir(ingest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(ContentError::io("reading", ingest))?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let blob = name.strip_suffix(MAP_ENDING).unwrap_or(&name).replacen('-', ":", 1);
        let modified = entry.metadata().and_then(|data| data.modified());
        let young = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < KEPT));
        let has_map = map_path(&ingest.join(name.strip_suffix(MAP_ENDING).unwrap_or(&name))).exists();
        if blob.parse::<Digest>().is_ok() && young && has_map {
            continue;
        }
        let path = entry.path();
        std::fs::remove_file(&path).map_err(ContentError::io("clearing", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_model::Algorithm;
    use berth_store::Store;

    use super::*;
    use crate::digest_of;

    fn content(dir: &tempfile::TempDir) -> Content {
        let store = Store::open(dir.path(), dir.path()).expect("store");
        Content::open(&dir.path().join("content"), store).expect("content")
    }

    fn put(blob: &PartialBlob, whole: &[u8], piece: usize) {
        let (start, end) = (piece * PIECE as usize, whole.len().min((piece + 1) * PIECE as usize));
        let mut checksum = Crc::new();
        checksum.update(&whole[start..end]);
        blob.write_at(start as u64, &whole[start..end]).expect("write");
        blob.mark(piece as u64, &checksum).expect("mark");
    }

    #[test]
    fn pieces_outlive_the_engine_and_lies_are_found_out() {
        let dir = tempfile::tempdir().expect("temp dir");
        let whole: Vec<u8> = (0..PIECE * 3 + 100).map(|n| (n % 251) as u8).collect();
        let digest = digest_of(Algorithm::Sha256, &whole);
        {
            let content = content(&dir);
            let (blob, present) = content.partial(&digest, whole.len() as u64).expect("partial");
            assert_eq!(present, [false; 4]);
            [3, 1, 2].into_iter().for_each(|piece| put(&blob, &whole, piece));
            // The disk kept something else of the third piece.
            blob.write_at(PIECE * 2 + 7, b"?").expect("write");
        }
        let content = content(&dir);
        let (blob, present) = content.partial(&digest, whole.len() as u64).expect("partial");
        assert_eq!(present, [false, true, false, true]);
        assert_eq!(content.size(&digest), None);
        [0, 2].into_iter().for_each(|piece| put(&blob, &whole, piece));
        blob.sync().expect("sync");
        content.publish(&[&blob]).expect("publish");
        assert_eq!(content.read(&digest, 1 << 20).expect("read"), whole);
        assert_eq!(std::fs::read_dir(content.root().join("ingest")).expect("ingest").count(), 0);
    }

    #[test]
    fn a_map_of_something_else_counts_for_nothing_and_old_ones_go() {
        let dir = tempfile::tempdir().expect("temp dir");
        let digest = digest_of(Algorithm::Sha256, b"x");
        {
            let content = content(&dir);
            let (blob, _) = content.partial(&digest, 5).expect("partial");
            put(&blob, b"hello", 0);
            assert_eq!(content.partial(&digest, 5).expect("again").1, [true]);
            assert_eq!(content.partial(&digest, 4).expect("another size").1, [false]);
            blob.forget().expect("forget");
            put(&blob, b"hello", 0);
            let long_ago = SystemTime::now() - KEPT * 2;
            blob.file.set_modified(long_ago).expect("age");
            blob.map.set_modified(long_ago).expect("age");
        }
        let content = content(&dir);
        assert_eq!(std::fs::read_dir(content.root().join("ingest")).expect("ingest").count(), 0);
    }
}
