//! An image made of another one and a writable layer on top of it (B174).

use std::{
    io::{self, Write},
    os::fd::BorrowedFd,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use berth_archive::{Hasher, PackOptions, Whiteouts, pack};
use berth_content::{Finished, Ingest};
use berth_model::{Algorithm, Digest, ImageRef, Platform, Timestamp};
use berth_oci::image::{ContainerConfig, Descriptor, History, ImageConfig, Manifest, RootFs, media_type};

use crate::{Image, ImageError, Images, hello::to_json, remove::now};

/// How much of a layer is passed on at a time, in bytes.
const CHUNK: usize = 256 * 1024;
/// How many chunks may wait to be compressed.
const CHUNKS: usize = 4;
/// Twice as fast as the usual level 6, and 5 % larger.
const GZIP_LEVEL: u32 = 3;

/// What a commit says about the image it makes.
#[derive(Clone, Debug)]
pub struct CommitOptions {
    /// The image below.
    pub parent: Digest,
    /// Its platform.
    pub platform: Platform,
    /// The new image's name, if it is to have one.
    pub reference: Option<ImageRef>,
    /// Who makes it.
    pub author: String,
    /// A word about it.
    pub comment: String,
    /// What ran in the layer.
    pub created_by: String,
    /// What its containers run.
    pub config: ContainerConfig,
}

/// A layer that was packed.
struct Packed {
    blob: Finished,
    diff_id: Digest,
}

impl Images {
    /// Makes an image of the directory `upper`, an overlay's upper one, above the layers of an image. Gives the image's id.
    ///
    /// The layer is packed and compressed in two lanes. An upper directory with nothing in it makes no layer.
    ///
    /// # Errors
    /// [`ImageError::Content`] if a layer of the parent is gone; what reading `upper` gives.
    pub fn commit(&self, upper: BorrowedFd<'_>, options: CommitOptions) -> Result<Digest, ImageError> {
        let _lease = self.inner.content.lease("commit")?;
        let target = Descriptor::new("", options.parent.clone(), 0);
        let parent = self.image_of(&target, options.parent.as_str(), Some(&options.platform))?;
        for blob in std::iter::once(&parent.manifest.config).chain(&parent.manifest.layers) {
            self.inner.content.hold(&blob.digest)?;
        }
        let packed = if is_empty(upper)? { None } else { Some(self.pack_layer(upper)?) };
        let names = options.reference.clone();
        let id = options.parent.clone();
        let (descriptor, manifest) = self.write_commit(&parent, packed, options)?;
        // Its size is told from now on, and its first container does not wait.
        let config = self.config(&manifest.config.digest)?;
        let mut hold = self.hold();
        self.unpacked(&manifest, &config, &mut hold, &mut |_, _| {})?;
        self.record_child(&descriptor, names.as_slice(), Some(id))?;
        Ok(descriptor.digest)
    }

    fn pack_layer(&self, upper: BorrowedFd<'_>) -> Result<Packed, ImageError> {
        let ingest = self.inner.content.ingest(Algorithm::Sha256)?;
        let (chunks, to_compress) = sync_channel::<Vec<u8>>(CHUNKS);
        thread::scope(|scope| {
            let compressing = scope.spawn(move || compress(ingest, &to_compress));
            let output = Lane { chunks, buffer: Vec::with_capacity(CHUNK), hasher: Hasher::new(Algorithm::Sha256) };
            let packed = pack(upper, output, PackOptions { whiteouts: Whiteouts::Overlay, living: true });
            let packed = packed.map(|lane| lane.hasher.finish());
            // If both failed, packing did because compressing had.
            let blob = compressing.join().expect("compressing does not panic")?;
            Ok(Packed { blob, diff_id: packed? })
        })
    }

    fn write_commit(
        &self,
        parent: &Image,
        packed: Option<Packed>,
        options: CommitOptions,
    ) -> Result<(Descriptor, Manifest), ImageError> {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let created = Some(Timestamp::from_nanos(now()).to_string());
        let base = parent.document();
        let mut layers: Vec<Descriptor> = parent.manifest.layers.iter().map(as_oci).collect();
        let mut diff_ids = base.rootfs.diff_ids.clone();
        let mut history = base.history.clone();
        history.push(History {
            created: created.clone(),
            created_by: text(options.created_by),
            author: text(options.author.clone()),
            comment: text(options.comment.clone()),
            empty_layer: packed.is_none(),
            ..History::default()
        });
        if let Some(Packed { blob, diff_id }) = packed {
            let size = blob.bytes();
            layers.push(Descriptor::new(media_type::LAYER_GZIP, blob.commit()?, size));
            diff_ids.push(diff_id);
        }
        let config = to_json(&ImageConfig {
            created,
            author: text(options.author),
            architecture: base.architecture.clone(),
            variant: base.variant.clone(),
            os: base.os.clone(),
            os_version: base.os_version.clone(),
            os_features: base.os_features.clone(),
            rootfs: RootFs { diff_ids, ..RootFs::default() },
            history,
            config: options.config,
            comment: text(options.comment),
            ..ImageConfig::default()
        });
        let content = &self.inner.content;
        let config = Descriptor::new(media_type::CONFIG, content.put(&config)?, config.len() as u64);
        let manifest = Manifest::image(config, layers);
        let bytes = to_json(&manifest);
        let descriptor = Descriptor::new(media_type::MANIFEST, content.put(&bytes)?, bytes.len() as u64);
        Ok((descriptor, manifest))
    }
}

/// The bytes of a layer are the same in either form; its name must be the one that belongs into an OCI manifest.
fn as_oci(layer: &Descriptor) -> Descriptor {
    let kind = match layer.media_type.as_str() {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => media_type::LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar" => media_type::LAYER,
        kind => kind,
    };
    Descriptor { media_type: kind.to_owned(), ..layer.clone() }
}

fn is_empty(directory: BorrowedFd<'_>) -> Result<bool, ImageError> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory));
    let mut entries = std::fs::read_dir(path).map_err(berth_archive::ArchiveError::Read)?;
    Ok(entries.next().is_none())
}

/// The packing lane's output: hashed, and handed over in chunks.
struct Lane {
    chunks: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    hasher: Hasher,
}

impl Write for Lane {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.hasher.update(&chunk);
        // The other lane is gone only after a failure, which it reports.
        self.chunks.send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The compressing lane, which ends with its chunks.
pub(crate) fn compress(ingest: Ingest, chunks: &Receiver<Vec<u8>>) -> Result<Finished, ImageError> {
    let mut encoder = flate2::write::GzEncoder::new(ingest, flate2::Compression::new(GZIP_LEVEL));
    let written = chunks.iter().try_for_each(|chunk| encoder.write_all(&chunk));
    let written = written.and_then(|()| encoder.try_finish());
    if let Err(error) = written {
        return Err(encoder.get_ref().failed(error).into());
    }
    Ok(encoder.finish().map_err(berth_archive::ArchiveError::Output)?.finish(None)?)
}
