//! Docker's own form: `manifest.json` names a configuration and layers by their paths. A manifest is made for them, always the same.

use std::io::{Read as _, Write as _};

use berth_archive::{ArchiveError, Compression, decoder};
use berth_model::{Algorithm, Digest, ImageRef};
use berth_oci::image::{Descriptor, Manifest, media_type};
use serde::Deserialize;

use super::{Found, stream::Contents};
use crate::{ImageError, Images, hello::to_json};

/// One image of `manifest.json`.
#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "Config")]
    pub config: String,
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

impl Entry {
    /// The names it has. One that is none is passed over.
    pub fn names(&self) -> Vec<ImageRef> {
        self.repo_tags.iter().flatten().filter_map(|name| name.parse().ok()).collect()
    }
}

pub(super) fn interpret(images: &Images, contents: &Contents, manifest: &[u8]) -> Result<Vec<Found>, ImageError> {
    let entries: Vec<Entry> = serde_json::from_slice(manifest)
        .map_err(|error| ImageError::Invalid(format!("manifest.json of the archive: {error}")))?;
    entries.iter().map(|entry| image(images, contents, entry)).collect()
}

fn image(images: &Images, contents: &Contents, entry: &Entry) -> Result<Found, ImageError> {
    let (config, size) = contents.blob(&entry.config)?;
    let config = Descriptor::new(media_type::CONFIG, config, size);
    let mut layers = Vec::new();
    for path in entry.layers.iter().flatten() {
        let (digest, size) = contents.blob(path)?;
        layers.push(layer(images, digest, size)?);
    }
    let manifest = to_json(&Manifest::image(config, layers));
    let digest = images.inner.content.put(&manifest)?;
    let target = Descriptor::new(media_type::MANIFEST, digest, manifest.len() as u64);
    Ok(Found { target, names: entry.names() })
}

/// A layer as it is, if its compression is one that images may have; else uncompressed.
fn layer(images: &Images, digest: Digest, size: u64) -> Result<Descriptor, ImageError> {
    let content = &images.inner.content;
    let mut prefix = Vec::new();
    let file = content.open_blob(&digest)?;
    (&file).take(Compression::PREFIX as u64).read_to_end(&mut prefix).map_err(ArchiveError::Read)?;
    match layer_media_type(Compression::of(&prefix)) {
        Some(kind) => Ok(Descriptor::new(kind, digest, size)),
        None => uncompressed(images, &digest),
    }
}

/// The media type of a layer of that compression, if there is one.
pub(crate) fn layer_media_type(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => Some(media_type::LAYER),
        Compression::Gzip => Some(media_type::LAYER_GZIP),
        Compression::Zstd => Some(media_type::LAYER_ZSTD),
        Compression::Bzip2 | Compression::Xz => None,
    }
}

fn uncompressed(images: &Images, digest: &Digest) -> Result<Descriptor, ImageError> {
    let content = &images.inner.content;
    let file = content.open_blob(digest)?;
    let mut input = decoder(std::io::BufReader::new(file)).map_err(ArchiveError::Read)?;
    let mut ingest = content.ingest(Algorithm::Sha256)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = input.read(&mut buffer).map_err(|error| match error.downcast::<ArchiveError>() {
            Ok(error) => ImageError::from(error),
            Err(error) => ArchiveError::Read(error).into(),
        })?;
        if n == 0 {
            break;
        }
        ingest.write_all(&buffer[..n]).map_err(|error| ingest.failed(error))?;
    }
    let finished = ingest.finish(None)?;
    let size = finished.bytes();
    let digest = finished.commit()?;
    Ok(Descriptor::new(media_type::LAYER, digest, size))
}
