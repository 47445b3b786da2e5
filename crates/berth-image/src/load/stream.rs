//! Reads an archive once: documents into memory, blobs into the content store, those that look like layers also into directories.
//!
//! One thread reads, hashes and writes blobs, another what is in layers; a third syncs what is whole and makes it visible, so that the disk works while the archive streams.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use berth_archive::{ArchiveError, Kind, Member, MemberName, TarReader, decoder};
use berth_content::{ContentError, Finished};
use berth_model::Digest;
use berth_sys::fault;

use super::ahead::{Ahead, Tee};
use crate::{ImageError, Images, documents::MAX_DOCUMENT};

/// How much is read at a time, in bytes.
const READ: usize = 256 * 1024;
/// How many whole blobs may wait for their sync.
const SYNC_QUEUE: usize = 16;
/// How many symbolic links may lead to one another.
const MAX_LINKS: usize = 10;

/// What an archive holds.
#[derive(Default)]
pub(super) struct Contents {
    /// `index.json` of a layout.
    pub index: Option<Vec<u8>>,
    /// `manifest.json` of Docker's.
    pub manifest: Option<Vec<u8>>,
    /// Everything else, by its path in the archive.
    blobs: HashMap<Vec<u8>, (Digest, u64)>,
    /// Those of them that were not here before.
    pub fresh: HashSet<Digest>,
    /// Old archives of Docker hold a layer once and link to it.
    links: HashMap<Vec<u8>, Vec<u8>>,
}

impl Contents {
    /// The blob at a path of the archive.
    pub fn blob(&self, path: &str) -> Result<(Digest, u64), ImageError> {
        let missing = || ImageError::Invalid(format!("the archive names the file {path:?}, but does not hold it"));
        let mut name = MemberName::parse(path.as_bytes())?.as_bytes().to_vec();
        for _ in 0..MAX_LINKS {
            if let Some(blob) = self.blobs.get(&name) {
                return Ok(blob.clone());
            }
            name = self.links.get(&name).ok_or_else(missing)?.clone();
        }
        Err(missing())
    }
}

/// Runs `work`, which hands over whole blobs, beside a thread that syncs them and makes them visible. When this returns well, all are.
pub(super) fn syncing<T>(work: impl FnOnce(&SyncSender<Finished>) -> Result<T, ImageError>) -> Result<T, ImageError> {
    let (whole, to_sync) = sync_channel(SYNC_QUEUE);
    thread::scope(|scope| {
        let syncing = scope.spawn(move || commit_all(&to_sync));
        let done = work(&whole);
        drop(whole);
        let committed = syncing.join().expect("syncing does not panic");
        // If both failed, the work did because blobs it needed were gone.
        committed?;
        done
    })
}

fn commit_all(whole: &Receiver<Finished>) -> Result<(), ContentError> {
    // After a failure the rest is dropped, and with it removed.
    whole.iter().try_for_each(|blob| {
        fault::point("load:ingested");
        blob.commit().map(drop)
    })
}

/// Reads the whole archive.
pub(super) fn read(
    images: &Images,
    archive: impl Read + Send,
    mut ahead: Option<Ahead>,
    whole: &SyncSender<Finished>,
) -> Result<(Contents, Option<Ahead>), ImageError> {
    let input = decoder(BufReader::with_capacity(READ, archive)).map_err(ArchiveError::Read)?;
    let mut archive = TarReader::new(BufReader::with_capacity(READ, input));
    let mut contents = Contents::default();
    let mut first = true;
    loop {
        let member = match archive.next_member() {
            Ok(Some(member)) => member,
            Ok(None) => break,
            // Too short to be an archive at all: other engines say just this.
            Err(ArchiveError::Truncated(_)) if first => return Err(ImageError::UnexpectedEof),
            Err(ArchiveError::Header { .. }) if first => return Err(ImageError::UnrecognizedFormat),
            Err(error) => return Err(error.into()),
        };
        first = false;
        let name = MemberName::parse(&member.name)?;
        match (member.kind, name.as_bytes()) {
            (Kind::File, b"index.json") => contents.index = Some(archive.read_all(MAX_DOCUMENT)?),
            (Kind::File, b"manifest.json") => contents.manifest = Some(archive.read_all(MAX_DOCUMENT)?),
            (Kind::File, b"oci-layout" | b"repositories") => {}
            (Kind::File, path) => {
                let (blob, is_fresh) = ingest(images, path, &member, &mut archive, ahead.as_mut(), whole)?;
                if is_fresh {
                    contents.fresh.insert(blob.0.clone());
                }
                contents.blobs.insert(path.to_vec(), blob);
            }
            (Kind::Symlink, path) => {
                // Relative to where the link stands.
                let target = [name.split().0, b"/", &member.link].concat();
                contents.links.insert(path.to_vec(), MemberName::parse(&target)?.as_bytes().to_vec());
            }
            (Kind::HardLink, path) => {
                contents.links.insert(path.to_vec(), MemberName::parse(&member.link)?.as_bytes().to_vec());
            }
            _ => {}
        }
    }
    Ok((contents, ahead))
}

/// A blob with its size, and whether it was not here before.
fn ingest<R: BufRead + Send>(
    images: &Images,
    path: &[u8],
    member: &Member,
    archive: &mut TarReader<R>,
    ahead: Option<&mut Ahead>,
    whole: &SyncSender<Finished>,
) -> Result<((Digest, u64), bool), ImageError> {
    let content = &images.inner.content;
    let promised = promised_digest(path);
    if let Some(digest) = &promised
        && content.size(digest) == Some(member.size)
        && content.hold(digest)?
    {
        return Ok(((digest.clone(), member.size), false));
    }
    let mut tee = Tee::new(content, archive, promised)?;
    if let Some(ahead) = ahead
        && may_be_layer(member, tee.peek()?)
    {
        ahead.unpack(images, &mut tee)?;
    }
    let finished = tee.finish()?;
    let blob = (finished.digest().clone(), finished.bytes());
    // Waiting for its sync, it can be read, but not be held yet: only one that was here before can.
    let is_fresh = !content.hold(&blob.0)?;
    // The other end is gone only after a failure, which is reported from there.
    let _ = whole.send(finished);
    Ok((blob, is_fresh))
}

/// Documents are JSON, and layers are not.
fn may_be_layer(member: &Member, beginning: &[u8]) -> bool {
    member.size > 0 && beginning.first().is_some_and(|byte| *byte != b'{')
}

/// The digest that a path of a layout promises: `blobs/sha256/<hex>`.
fn promised_digest(path: &[u8]) -> Option<Digest> {
    let (algorithm, hex) = std::str::from_utf8(path).ok()?.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
