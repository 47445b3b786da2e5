//! From a compressed blob to a layer's directory, in two lanes that overlap.
//!
//! One thread reads, hashes the blob and decompresses; the other parses and writes. The digest of the uncompressed tar is taken by
//! whichever has less to do. Between them travel a few buffers, so that neither can run away with memory.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use berth_model::{Algorithm, Digest};

use crate::{
    apply::{Applier, ApplyOptions, Assumptions, Below, Usage},
    compression::{Compression, decoder},
    error::{ArchiveError, from_io, into_io},
    hash::{Hasher, HashingReader},
    reader::TarReader,
};

/// Size of one buffer between the lanes, in bytes.
const CHUNK: usize = 512 * 1024;
/// How many of them are under way.
const CHUNKS: usize = 4;
/// How much of the blob is read at a time, in bytes.
const READ: usize = 256 * 1024;

/// Whether the blob's own digest is wanted too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobHash {
    /// No: it was checked at some other time, and the blob may have suffered since.
    Known,
    /// No: whoever wrote the blob found it a moment ago, or finds it while it is read and says so before its end. Of an uncompressed one it
    /// is the digest of the tar too.
    Elsewhere(Algorithm, Arc<OnceLock<Digest>>),
    /// Compute it on the way.
    Compute(Algorithm),
}

impl BlobHash {
    /// Whether the digest of the blob, computed or known, is of this algorithm.
    fn gives(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Known => false,
            Self::Elsewhere(computed, _) | Self::Compute(computed) => *computed == algorithm,
        }
    }
}

/// What an archive may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// How many bytes the uncompressed archive may have; `None` for any number.
    pub max_bytes: Option<u64>,
    /// How many bytes of files are left in the page cache, beyond which larger files pass it by; `None` for any number.
    pub cached_bytes: Option<u64>,
}

/// What a layer turned out to be.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Digest and size of the blob, if they were asked for.
    pub blob: Option<(Digest, u64)>,
    /// How the blob is compressed.
    pub compression: Compression,
    /// Size of the uncompressed tar in bytes.
    pub tar_bytes: u64,
    /// What the layer takes on disk.
    pub usage: Usage,
    /// What was taken for granted about the layers below.
    pub assumptions: Assumptions,
}

/// Unpacks a layer blob into the directory `root`, above the layers of `below`.
///
/// # Errors
/// Whatever is wrong with the archive or the file system. The directory is then incomplete, and the caller's to remove.
pub fn unpack<R: Read + Send>(
    blob: R,
    root: OwnedFd,
    below: impl Into<Below>,
    options: ApplyOptions,
    blob_hash: BlobHash,
    diff_algorithm: Algorithm,
    limits: Limits,
) -> Result<Unpacked, ArchiveError> {
    let (full_in, full_out) = sync_channel(CHUNKS);
    let (empty_in, empty_out) = channel();
    for _ in 0..=CHUNKS {
        empty_in.send(Vec::with_capacity(CHUNK)).expect("the receiver lives");
    }
    thread::scope(|scope| {
        let lane = Lane { full: full_in, empty: empty_out, blob_hash, diff_algorithm };
        let producer = scope.spawn(move || lane.run(blob));
        let chunks = Chunks::new(full_out, empty_in, diff_algorithm, limits);
        let mut archive = TarReader::new(chunks);
        let applied = Applier::new(root, below, options).caching(limits.cached_bytes).apply_all(&mut archive);
        let applied = applied.and_then(|done| archive.drain().map(|chunks| (done, chunks)));
        // On an error the receiving ends are gone by now, so that the other lane ends too.
        let ((usage, assumptions), chunks) = match applied {
            Ok(done) => done,
            Err(error) => {
                drop(producer);
                return Err(error);
            }
        };
        let tar_bytes = chunks.bytes;
        let here = chunks.hasher.map(Hasher::finish);
        let produced = producer.join().expect("the lane does not panic")?;
        let diff_id = produced.diff_id.or(here).expect("one of the lanes hashes");
        Ok(Unpacked { diff_id, blob: produced.blob, compression: produced.compression, tar_bytes, usage, assumptions })
    })
}

/// The first lane: reads, hashes the blob, decompresses.
struct Lane {
    full: SyncSender<io::Result<Message>>,
    empty: Receiver<Vec<u8>>,
    blob_hash: BlobHash,
    diff_algorithm: Algorithm,
}

enum Message {
    /// The first lane leaves the digest of the tar to the second.
    YouHash,
    Bytes(Vec<u8>),
}

struct Produced {
    diff_id: Option<Digest>,
    blob: Option<(Digest, u64)>,
    compression: Compression,
}

impl Lane {
    fn run<R: Read + Send>(self, mut blob: R) -> Result<Produced, ArchiveError> {
        let BlobHash::Compute(algorithm) = self.blob_hash else {
            let (compression, hasher) = self.feed(BufReader::with_capacity(READ, &mut blob))?;
            // Whoever watches the blob go by sees all of it.
            io::copy(&mut blob, &mut io::sink()).map_err(from_io)?;
            let diff_id = match (hasher, self.blob_hash) {
                (None, BlobHash::Elsewhere(_, found)) => {
                    let missing = || ArchiveError::Read(io::Error::other("nobody found the digest of the blob"));
                    // Gzip leaves it to the other lane.
                    if compression == Compression::None {
                        Some(found.get().cloned().ok_or_else(missing)?)
                    } else {
                        None
                    }
                }
                (hasher, _) => hasher.map(Hasher::finish),
            };
            return Ok(Produced { diff_id, blob: None, compression });
        };
        let mut hashing = HashingReader::new(blob, algorithm);
        let (compression, hasher) = self.feed(BufReader::with_capacity(READ, &mut hashing))?;
        // What a decoder leaves behind the end of its stream belongs to the blob too.
        io::copy(&mut hashing, &mut io::sink()).map_err(from_io)?;
        let (digest, bytes) = hashing.finish();
        let same = compression == Compression::None && algorithm == self.diff_algorithm;
        let diff_id = if same { Some(digest.clone()) } else { hasher.map(Hasher::finish) };
        Ok(Produced { diff_id, blob: Some((digest, bytes)), compression })
    }

    /// Sends the uncompressed bytes, and hashes them unless the other lane should or nobody need.
    fn feed<R: BufRead + Send>(&self, blob: R) -> Result<(Compression, Option<Hasher>), ArchiveError> {
        let mut input = match decoder(blob) {
            Ok(input) => input,
            Err(error) => return self.fail(error),
        };
        let compression = input.compression();
        let mut hasher = match compression {
            Compression::None if self.blob_hash.gives(self.diff_algorithm) => None,
            // Decompressing gzip and hashing twice would make this lane the slower one.
            Compression::Gzip if self.blob_hash != BlobHash::Known => {
                let _ = self.full.send(Ok(Message::YouHash));
                None
            }
            _ => Some(Hasher::new(self.diff_algorithm)),
        };
        while let Ok(mut buffer) = self.empty.recv() {
            // Zeros are written only once, and the decoder sees the whole buffer: `read_to_end` would do neither.
            buffer.resize(CHUNK, 0);
            match fill(&mut input, &mut buffer) {
                Ok(count) => buffer.truncate(count),
                Err(error) => return self.fail(error),
            }
            if buffer.is_empty() {
                break;
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer);
            }
            if self.full.send(Ok(Message::Bytes(buffer))).is_err() {
                break;
            }
        }
        Ok((compression, hasher))
    }

    /// The reader of the archive reports the error: it knows the member. This lane's own result is then never looked at.
    fn fail<T>(&self, error: io::Error) -> Result<T, ArchiveError> {
        let _ = self.full.send(Err(error));
        Err(ArchiveError::Read(io::ErrorKind::Other.into()))
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match input.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// The second lane's end: the uncompressed stream as buffers arrive.
struct Chunks {
    full: Receiver<io::Result<Message>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    hasher: Option<Hasher>,
    algorithm: Algorithm,
    bytes: u64,
    limits: Limits,
}

impl Chunks {
    fn new(full: Receiver<io::Result<Message>>, empty: Sender<Vec<u8>>, algorithm: Algorithm, limits: Limits) -> Self {
        Self { full, empty, current: Vec::new(), at: 0, hasher: None, algorithm, bytes: 0, limits }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        self.at = 0;
        // The other lane waits for this buffer, or has ended.
        let _ = self.empty.send(std::mem::take(&mut self.current));
        self.current = loop {
            match self.full.recv() {
                Ok(Ok(Message::YouHash)) => self.hasher = Some(Hasher::new(self.algorithm)),
                Ok(Ok(Message::Bytes(bytes))) => break bytes,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            }
        };
        self.bytes += self.current.len() as u64;
        if let Some(limit) = self.limits.max_bytes.filter(|limit| self.bytes > *limit) {
            return Err(into_io(ArchiveError::TooLarge { limit }));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.current);
        }
        Ok(())
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            self.next_chunk()?;
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let n = have.len().min(buffer.len());
        buffer[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}
