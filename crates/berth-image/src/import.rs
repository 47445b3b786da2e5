//! An image of one layer out of a root file system's tar.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use berth_archive::{ArchiveError, BlobHash, Unpacked, decoder, peek};
use berth_content::{Finished, Ingest};
use berth_model::{Algorithm, Digest, ImageRef, Platform, Timestamp};
use berth_oci::image::{Descriptor, History, ImageConfig, Manifest, RootFs, media_type};
use berth_snapshot::PendingLayer;

use crate::{ImageError, Images, changes, hello::to_json, layers::CACHED, load::layer_media_type, remove::now};

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
    /// Makes an image of one layer from a tar, which may be compressed. Gives the image's id.
    ///
    /// # Errors
    /// [`ImageError::Change`] and [`ImageError::NotAChange`] before anything is read; [`ImageError::Archive`].
    pub fn import(&self, archive: impl Read + Send, options: ImportOptions) -> Result<Digest, ImageError> {
        let mut config = ImageConfig::default();
        changes::apply(&mut config.config, &options.changes)?;
        let _lease = self.inner.content.lease("import")?;
        let mut hold = self.hold();
        let (layer, pending, unpacked) = self.take_in(archive)?;
        let size = layer.bytes();
        let kind = layer_media_type(unpacked.compression).expect("other compressions were undone");
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
    fn take_in(&self, archive: impl Read + Send) -> Result<(Finished, PendingLayer, Unpacked), ImageError> {
        let input = kept_form(BufReader::with_capacity(READ, archive)).map_err(ArchiveError::Read)?;
        let ingest = self.inner.content.ingest(Algorithm::Sha256)?;
        let (copy, copied) = sync_channel::<Vec<u8>>(CHUNKS);
        thread::scope(|scope| {
            let keeping = scope.spawn(move || keep(ingest, &copied));
            let tee = Tee { input, copy };
            let unpacked = self.unpack_blob(tee, Some(&[]), BlobHash::Known, Algorithm::Sha256, CACHED);
            // If both failed, unpacking did because keeping had.
            let kept = keeping.join().expect("writing does not panic")?;
            let (pending, unpacked) = unpacked?;
            Ok((kept, pending, unpacked))
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

/// The stream as it is kept: as it came, or uncompressed where images may not have its compression.
fn kept_form<'a>(archive: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let (compression, input) = peek(archive)?;
    match layer_media_type(compression) {
        Some(_) => Ok(Box::new(input)),
        None => Ok(Box::new(decoder(input)?)),
    }
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
