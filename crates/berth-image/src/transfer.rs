//! Blobs on their way: one transfer for each, however many pulls want it, however many connections bring it.
//!
//! A transfer knows which pieces of its blob are here. Whoever has a connection claims the first piece that nobody has, and brings it and
//! those behind it; whoever unpacks reads the blob from the beginning, as far as it has come. A claim that is dropped is anybody's again.

use std::{
    collections::HashMap,
    io::{self, Read},
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use berth_content::{Content, ContentError, PIECE, PartialBlob};
use berth_model::{Cancel, Digest};
use berth_oci::image::Descriptor;

/// What one connection claims at once, in pieces. Small enough that the connections stay near the reader, large enough that asking costs
/// nothing.
const CLAIM: usize = (16 << 20) / PIECE as usize;
/// How often somebody who waits looks whether he still should.
const LOOK: Duration = Duration::from_millis(200);

/// All transfers of an image store.
#[derive(Default)]
pub(crate) struct Transfers {
    under_way: Mutex<HashMap<Digest, Weak<Transfer>>>,
    publishing: Mutex<()>,
}

/// One blob on its way.
pub(crate) struct Transfer {
    pub blob: Descriptor,
    partial: PartialBlob,
    state: Mutex<State>,
    changed: Condvar,
    published: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Missing,
    Claimed,
    Here,
}

struct State {
    pieces: Vec<Piece>,
    /// So many pieces from the beginning are here without a gap.
    frontier: usize,
    /// So many are here in all.
    here: usize,
    /// No piece before this one is missing.
    no_gap_before: usize,
    claims: usize,
    /// Whether some were here before anybody asked for them in this process.
    resumed: bool,
    /// The server gives only the whole blob: nobody else should ask for a part.
    whole_only: bool,
    /// Raised each time everything is begun anew.
    generation: u32,
}

/// Pieces that one connection brings. Dropped, those it did not bring are anybody's again.
pub(crate) struct Claim {
    transfer: Arc<Transfer>,
    pieces: Range<usize>,
    generation: u32,
}

impl Transfers {
    /// The transfer of a blob, which is begun if there is none; `None` if the blob is here.
    pub fn join(&self, content: &Content, blob: &Descriptor) -> Result<Option<Arc<Transfer>>, ContentError> {
        let mut table = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // In this order: a transfer leaves the table only after its blob can be held.
        if content.hold(&blob.digest)? {
            return Ok(None);
        }
        if let Some(transfer) = table.get(&blob.digest).and_then(Weak::upgrade) {
            if transfer.blob.size == blob.size {
                return Ok(Some(transfer));
            }
            let (digest, expected, found) = (blob.digest.clone(), blob.size, transfer.blob.size);
            return Err(ContentError::WrongSize { digest, expected, found });
        }
        table.retain(|_, transfer| transfer.strong_count() > 0);
        let (partial, present) = content.partial(&blob.digest, blob.size)?;
        let transfer = Arc::new(Transfer::new(blob.clone(), partial, &present));
        table.insert(blob.digest.clone(), Arc::downgrade(&transfer));
        Ok(Some(transfer))
    }

    fn leave(&self, digest: &Digest) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    /// Makes blobs visible whose digests were found to be right, and which were synced.
    pub fn publish(&self, content: &Content, transfers: &[Arc<Transfer>]) -> Result<(), ContentError> {
        // Two pulls may end with the same blobs.
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |transfer: &&Arc<Transfer>| !transfer.published.load(Ordering::Acquire);
        let new: Vec<_> = transfers.iter().filter(is_new).collect();
        content.publish(&new.iter().map(|transfer| &transfer.partial).collect::<Vec<_>>())?;
        for transfer in new {
            transfer.published.store(true, Ordering::Release);
            self.leave(&transfer.blob.digest);
        }
        Ok(())
    }
}

impl Transfer {
    fn new(blob: Descriptor, partial: PartialBlob, present: &[bool]) -> Self {
        let piece = |here: &bool| if *here { Piece::Here } else { Piece::Missing };
        let mut state = State {
            pieces: present.iter().map(piece).collect(),
            frontier: 0,
            here: present.iter().filter(|here| **here).count(),
            no_gap_before: 0,
            claims: 0,
            resumed: present.contains(&true),
            whole_only: false,
            generation: 0,
        };
        state.advance();
        Self { blob, partial, state: Mutex::new(state), changed: Condvar::new(), published: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are here.
    pub fn received(&self) -> u64 {
        let state = self.lock();
        (state.here as u64 * PIECE).min(self.blob.size)
    }

    /// Whether everything is here.
    pub fn is_complete(&self) -> bool {
        let state = self.lock();
        state.frontier == state.pieces.len()
    }

    /// The next pieces to fetch, if there are any and not more than `connections` are at it already.
    pub fn claim(self: &Arc<Self>, connections: usize) -> Option<Claim> {
        let mut state = self.lock();
        let at_most = if state.whole_only { 1 } else { connections };
        if state.claims >= at_most {
            return None;
        }
        let from = state.no_gap_before;
        let start = from + state.pieces[from..].iter().position(|piece| *piece == Piece::Missing)?;
        let run = state.pieces[start..].iter().take_while(|piece| **piece == Piece::Missing).count();
        let pieces = start..start + if state.whole_only { run } else { run.min(CLAIM) };
        state.pieces[pieces.clone()].fill(Piece::Claimed);
        state.no_gap_before = pieces.end;
        state.claims += 1;
        Some(Claim { transfer: Arc::clone(self), pieces, generation: state.generation })
    }

    /// Puts the blob on the disk, whose digest was found to be right.
    pub fn sync(&self) -> Result<(), ContentError> {
        self.partial.sync()
    }

    /// Waits a moment for something to change.
    pub fn wait(&self) {
        drop(self.changed.wait_timeout(self.lock(), LOOK));
    }

    /// The blob from its beginning, as it comes. It ends early once `cancel` is set.
    pub fn reader(self: &Arc<Self>, cancel: &Cancel) -> TransferReader {
        let generation = self.lock().generation;
        TransferReader { transfer: Arc::clone(self), cancel: cancel.clone(), at: 0, generation }
    }

    /// What is here is not what the digest says: everything is begun anew. Tells whether that makes sense: only where something was here
    /// before that somebody else may have damaged.
    pub fn begin_anew(&self) -> Result<bool, ContentError> {
        let mut state = self.lock();
        let was_resumed = std::mem::replace(&mut state.resumed, false);
        self.partial.forget()?;
        state.pieces.fill(Piece::Missing);
        (state.frontier, state.here, state.no_gap_before) = (0, 0, 0);
        state.generation += 1;
        self.changed.notify_all();
        Ok(was_resumed)
    }

    fn mark(&self, piece: usize, generation: u32, checksum: &flate2::Crc) -> Result<(), ContentError> {
        self.partial.mark(piece as u64, checksum)?;
        let mut state = self.lock();
        if state.generation == generation && state.pieces[piece] == Piece::Claimed {
            state.pieces[piece] = Piece::Here;
            state.here += 1;
            state.advance();
            self.changed.notify_all();
        }
        Ok(())
    }
}

impl State {
    fn advance(&mut self) {
        while self.pieces.get(self.frontier) == Some(&Piece::Here) {
            self.frontier += 1;
        }
    }
}

impl Claim {
    /// The transfer.
    pub fn transfer(&self) -> &Arc<Transfer> {
        &self.transfer
    }

    /// The bytes still to bring.
    pub fn bytes(&self) -> Range<u64> {
        self.pieces.start as u64 * PIECE..(self.pieces.end as u64 * PIECE).min(self.transfer.blob.size)
    }

    /// The server gives only the whole blob from its beginning, of which this takes everything from here on.
    pub fn take_whole(&mut self) {
        let mut state = self.transfer.lock();
        state.whole_only = true;
        let run = state.pieces[self.pieces.end..].iter().take_while(|piece| **piece == Piece::Missing).count();
        let more = self.pieces.end..self.pieces.end + run;
        state.pieces[more.clone()].fill(Piece::Claimed);
        self.pieces.end = more.end;
        state.no_gap_before = state.no_gap_before.max(more.end);
    }

    /// Keeps bytes that belong behind those kept so far. `piece` is what was kept of the piece that is not whole yet.
    pub fn keep(&mut self, piece: &mut OpenPiece, mut bytes: &[u8]) -> Result<(), ContentError> {
        let left = self.bytes().end - (self.bytes().start + piece.bytes);
        bytes = &bytes[..usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))];
        self.transfer.partial.write_at(self.bytes().start + piece.bytes, bytes)?;
        while !bytes.is_empty() {
            let whole = PIECE.min(self.bytes().end - self.bytes().start);
            let take = bytes.len().min((whole - piece.bytes) as usize);
            piece.checksum.update(&bytes[..take]);
            piece.bytes += take as u64;
            bytes = &bytes[take..];
            if piece.bytes == whole {
                self.transfer.mark(self.pieces.start, self.generation, &piece.checksum)?;
                self.pieces.start += 1;
                *piece = OpenPiece::default();
            }
        }
        Ok(())
    }

    /// Whether everything was brought.
    pub fn is_done(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.transfer.lock();
        state.claims -= 1;
        if state.generation == self.generation && !self.pieces.is_empty() {
            state.pieces[self.pieces.clone()].fill(Piece::Missing);
            state.no_gap_before = state.no_gap_before.min(self.pieces.start);
        }
        self.transfer.changed.notify_all();
    }
}

/// How much there is of a piece that is not whole yet.
#[derive(Default)]
pub(crate) struct OpenPiece {
    pub bytes: u64,
    checksum: flate2::Crc,
}

/// See [`Transfer::reader`].
pub(crate) struct TransferReader {
    transfer: Arc<Transfer>,
    cancel: Cancel,
    at: u64,
    generation: u32,
}

impl Read for TransferReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.transfer.blob.size;
        if self.at == size || buffer.is_empty() {
            return Ok(0);
        }
        let mut state = self.transfer.lock();
        let here = loop {
            if state.generation != self.generation {
                return Err(io::Error::other("the blob is fetched anew"));
            }
            let here = (state.frontier as u64 * PIECE).min(size);
            if here > self.at {
                break here;
            }
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("context canceled"));
            }
            state = self.transfer.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(state);
        let room = usize::try_from(here - self.at).map_or(buffer.len(), |room| room.min(buffer.len()));
        let count = self.transfer.partial.read_at(self.at, &mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use berth_content::digest_of;
    use berth_model::Algorithm;
    use berth_store::Store;

    use super::*;

    fn transfer(dir: &tempfile::TempDir, whole: &[u8]) -> (Content, Transfers, Arc<Transfer>) {
        let store = Store::open(dir.path(), dir.path()).expect("store");
        let content = Content::open(&dir.path().join("content"), store).expect("content");
        let blob = Descriptor::new("", digest_of(Algorithm::Sha256, whole), whole.len() as u64);
        let transfers = Transfers::default();
        let transfer = transfers.join(&content, &blob).expect("join").expect("missing");
        (content, transfers, transfer)
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n * 7 % 253) as u8).collect()
    }

    #[test]
    fn a_blob_is_read_while_it_comes_and_by_several_hands() {
        let dir = tempfile::tempdir().expect("temp dir");
        let whole = bytes((PIECE as usize) * CLAIM * 2 + 77);
        let (content, transfers, transfer) = transfer(&dir, &whole);
        let again = transfers.join(&content, &transfer.blob).expect("join").expect("missing");
        assert!(Arc::ptr_eq(&transfer, &again));
        let mut reader = transfer.reader(&Cancel::default());
        let read = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read)
        });
        let (mut one, mut two) = (transfer.claim(3).expect("first"), transfer.claim(3).expect("second"));
        let rest = transfer.claim(3).expect("third");
        assert!(transfer.claim(3).is_none());
        // Dropped, it is the next one's.
        drop(rest);
        let mut three = transfer.claim(3).expect("third again");
        for claim in [&mut three, &mut two, &mut one] {
            let range = claim.bytes();
            let mut piece = OpenPiece::default();
            for part in whole[range.start as usize..range.end as usize].chunks(100_000) {
                claim.keep(&mut piece, part).expect("keep");
            }
            assert!(claim.is_done());
        }
        assert_eq!(read.join().expect("reader").expect("all"), whole);
        assert_eq!((transfer.received(), transfer.is_complete()), (whole.len() as u64, true));
        transfer.sync().expect("sync");
        transfers.publish(&content, std::slice::from_ref(&transfer)).expect("publish");
        transfers.publish(&content, std::slice::from_ref(&transfer)).expect("again");
        assert!(transfers.join(&content, &transfer.blob).expect("join").is_none());
    }

    #[test]
    fn what_is_begun_anew_is_fetched_again_and_its_readers_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let whole = bytes(PIECE as usize + 5);
        let (_content, _transfers, transfer) = transfer(&dir, &whole);
        let mut claim = transfer.claim(1).expect("claim");
        let mut piece = OpenPiece::default();
        claim.keep(&mut piece, &whole[..PIECE as usize]).expect("keep");
        let mut reader = transfer.reader(&Cancel::default());
        assert!(!transfer.begin_anew().expect("anew"));
        assert!(reader.read(&mut [0; 8]).is_err());
        drop(claim);
        assert_eq!(transfer.received(), 0);
        assert_eq!(transfer.claim(1).expect("claim").bytes(), 0..whole.len() as u64);
        let cancel = Cancel::default();
        cancel.cancel();
        let error = transfer.reader(&cancel).read(&mut [0; 8]).expect_err("cancelled");
        assert_eq!(error.to_string(), "context canceled");
    }
}
