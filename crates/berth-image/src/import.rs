//! An image of one layer out of a root file system's tar.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use berth_archive::{ArchiveError, BlobHash, Compression, Unpacked, decoder, peek};
use berth_content::{Finished, Ingest};
use berth_model::{Algorithm, Digest, ImageRef, Platform, Timestamp};
use berth_oci::image::{Descriptor, History, ImageConfig, Manifest, RootFs, media_type};
use berth_snapshot::PendingLayer;

use crate::{ImageError, Images, changes, commit::compress, hello::to_json, layers::CACHED, remove::now};

/// How an import is described.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The image's name, if it is to have one.
    pub reference: Option<ImageRef>,
    /// Instructions of a Dockerfile that set what a container of it runs: see [`changes`].
    pub changes: Vec<String>,
    /// A word about it; `Imported from -` and the like where the user gave none.
    pub message: String,
    /// What it runs on; this host's platform if not given.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of one layer from a tar. Gives the image's id.
    ///
    /// The layer is kept as it came where that is a form that images have and that is compressed, and compressed otherwise: once, not at
    /// each push.
    ///
    /// # Errors
    /// [`ImageError::Change`] and [`ImageError::NotAChange`] before anything is read; [`ImageError::Archive`].
    pub fn import(&self, archive: impl Read + Send, options: ImportOptions) -> Result<Digest, ImageError> {
        let mut config = ImageConfig::default();
        changes::apply(&mut config.config, &options.changes)?;
        let _lease = self.inner.content.lease("import")?;
        let mut hold = self.hold();
        let (kind, layer, pending, unpacked) = self.take_in(archive)?;
        let size = layer.bytes();
        let chain = unpacked.diff_id.clone();
        hold.add(&chain);
        let layer = Descriptor::new(kind, layer.commit()?, size);
        if self.inner.layers.bytes(&chain).is_none() {
            self.publish_layer(pending, &chain, None, &unpacked)?.wait()?;
        }
        let name = options.reference.clone();
        let target = self.write_image(config, layer, chain, options)?;
        self.record(&target, name.as_slice())?;
        Ok(target.digest)
    }

    /// Keeps the archive as a blob and unpacks it, both while it streams in.
    fn take_in(&self, archive: impl Read + Send) -> Result<TakenIn, ImageError> {
        let archive = BufReader::with_capacity(READ, archive);
        let (kind, input) = kept_form(archive).map_err(ArchiveError::Read)?;
        let ingest = self.inner.content.ingest(Algorithm::Sha256)?;
        let (copy, copied) = sync_channel::<Vec<u8>>(CHUNKS);
        thread::scope(|scope| {
            let keeping = scope.spawn(move || match kind {
                Kept::AsItCame(_) => keep(ingest, &copied),
                Kept::Compressed => compress(ingest, &copied),
            });
            let tee = Tee { input, copy };
            let unpacked = self.unpack_blob(tee, Some(&[]), BlobHash::Known, Algorithm::Sha256, CACHED);
            // If both failed, unpacking did because keeping had.
            let kept = keeping.join().expect("writing does not panic")?;
            let (pending, unpacked) = unpacked?;
            Ok((kind.media_type(), kept, pending, unpacked))
        })
    }

    fn write_image(
        &self,
        config: ImageConfig,
        layer: Descriptor,
        diff_id: Digest,
        options: ImportOptions,
    ) -> Result<Descriptor, ImageError> {
        let platform = options.platform.unwrap_or_else(Platform::host);
        let created = Some(Timestamp::from_nanos(now()).to_string());
        let comment = Some(options.message).filter(|message| !message.is_empty());
        let config = to_json(&ImageConfig {
            created: created.clone(),
            architecture: platform.architecture,
            variant: Some(platform.variant).filter(|variant| !variant.is_empty()),
            os: platform.os,
            rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
            history: vec![History { created, comment, ..History::default() }],
            ..config
        });
        let content = &self.inner.content;
        let config = Descriptor::new(media_type::CONFIG, content.put(&config)?, config.len() as u64);
        let manifest = to_json(&Manifest::image(config, vec![layer]));
        Ok(Descriptor::new(media_type::MANIFEST, content.put(&manifest)?, manifest.len() as u64))
    }
}

/// How much is read at a time, in bytes.
const READ: usize = 256 * 1024;
/// How many chunks may wait to be written.
const CHUNKS: usize = 8;

/// The layer's media type, its blob, its files, and what is known of both.
type TakenIn = (&'static str, Finished, PendingLayer, Unpacked);

/// How a layer is kept.
#[derive(Clone, Copy)]
enum Kept {
    /// Its media type.
    AsItCame(&'static str),
    /// By us, with gzip.
    Compressed,
}

impl Kept {
    fn media_type(self) -> &'static str {
        match self {
            Kept::AsItCame(kind) => kind,
            Kept::Compressed => media_type::LAYER_GZIP,
        }
    }
}

/// How an archive is to be kept, and the stream from which that is done: uncompressed where it is compressed by us.
fn kept_form<'a>(archive: impl BufRead + Send + 'a) -> io::Result<(Kept, Box<dyn Read + Send + 'a>)> {
    let (compression, input) = peek(archive)?;
    Ok(match compression {
        Compression::Gzip => (Kept::AsItCame(media_type::LAYER_GZIP), Box::new(input)),
        Compression::Zstd => (Kept::AsItCame(media_type::LAYER_ZSTD), Box::new(input)),
        Compression::None => (Kept::Compressed, Box::new(input)),
        Compression::Bzip2 | Compression::Xz => (Kept::Compressed, Box::new(decoder(input)?)),
    })
}

/// Passes bytes on, and a copy of them to whoever keeps them.
struct Tee<R> {
    input: R,
    copy: SyncSender<Vec<u8>>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        if n > 0 && self.copy.send(buffer[..n].to_vec()).is_err() {
            // Keeping failed, and says why: there is no use in unpacking the rest.
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(n)
    }
}

fn keep(mut ingest: Ingest, chunks: &Receiver<Vec<u8>>) -> Result<Finished, ImageError> {
    for chunk in chunks {
        ingest.write_all(&chunk).map_err(|error| ingest.failed(error))?;
    }
    Ok(ingest.finish(None)?)
}
