//! Manifests, indexes and configurations, parsed once: their digest names them, so they never change.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use berth_content::{ContentError, digest_of};
use berth_model::{Algorithm, Digest, Platform};
use berth_oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use serde::de::DeserializeOwned;

use crate::{ImageError, Images};

/// How large a manifest, an index or a configuration may be, in bytes. Registries take 4 MiB.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
/// How many indexes may lie within one another.
const MAX_DEPTH: usize = 4;
/// Marks a manifest that says something about another one and is no image.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Parsed documents by digest.
#[derive(Default)]
pub(crate) struct Documents {
    parsed: RwLock<HashMap<Digest, Document>>,
}

#[derive(Clone)]
enum Document {
    Index(Arc<Index>),
    Manifest(Arc<Manifest>),
    Config(Arc<Configured>),
}

/// A configuration, and what follows from it.
#[derive(Debug)]
pub(crate) struct Configured {
    pub document: ImageConfig,
    /// The chain ids of its layers, lowest first.
    pub chains: Vec<Digest>,
}

/// What a name points to.
pub(crate) enum Target {
    Index(Arc<Index>),
    Manifest(Arc<Manifest>),
}

impl Images {
    /// The manifest or index that a descriptor points to.
    pub(crate) fn target(&self, descriptor: &Descriptor) -> Result<Target, ImageError> {
        match self.inner.documents.get(&descriptor.digest) {
            Some(Document::Index(index)) => return Ok(Target::Index(index)),
            Some(Document::Manifest(manifest)) => return Ok(Target::Manifest(manifest)),
            Some(Document::Config(_)) => {
                return Err(ImageError::Invalid(format!("{} is a configuration, not a manifest", descriptor.digest)));
            }
            None => {}
        }
        let bytes = self.document(&descriptor.digest)?;
        let digest = &descriptor.digest;
        let target = parse_target(digest, &descriptor.media_type, &bytes)?;
        match &target {
            Target::Index(index) => self.inner.documents.put(digest, Document::Index(Arc::clone(index))),
            Target::Manifest(manifest) => self.inner.documents.put(digest, Document::Manifest(Arc::clone(manifest))),
        }
        Ok(target)
    }

    /// The configuration of an image.
    pub(crate) fn config(&self, digest: &Digest) -> Result<Arc<Configured>, ImageError> {
        if let Some(Document::Config(config)) = self.inner.documents.get(digest) {
            return Ok(config);
        }
        let document: ImageConfig = parse(digest, "configuration", &self.document(digest)?)?;
        let chains = chain_ids(&document.rootfs.diff_ids);
        let config = Arc::new(Configured { document, chains });
        self.inner.documents.put(digest, Document::Config(Arc::clone(&config)));
        Ok(config)
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        Ok(self.inner.content.read(digest, MAX_DOCUMENT)?)
    }

    /// All image manifests that a descriptor leads to, itself or those of its index, whether they are here or not.
    pub(crate) fn manifests(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, ImageError> {
        let mut found = Vec::new();
        self.collect_manifests(descriptor, 0, &mut found)?;
        Ok(found)
    }

    fn collect_manifests(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        found: &mut Vec<Descriptor>,
    ) -> Result<(), ImageError> {
        if depth > MAX_DEPTH {
            return Err(ImageError::Invalid(format!("index {} lies too deep within others", descriptor.digest)));
        }
        match self.target(descriptor) {
            Ok(Target::Manifest(_)) => found.push(descriptor.clone()),
            Ok(Target::Index(index)) => {
                for inner in &index.manifests {
                    self.collect_manifests(inner, depth + 1, found)?;
                }
            }
            // An image may hold some platforms of an index only.
            Err(ImageError::Content(ContentError::NotFound { .. })) if depth > 0 => found.push(descriptor.clone()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The manifest for a platform; without one for this host, or else the first that is here.
    pub(crate) fn choose(
        &self,
        descriptor: &Descriptor,
        wanted: Option<&Platform>,
    ) -> Result<Option<Descriptor>, ImageError> {
        let host = Platform::host();
        let mut fallback = None;
        for manifest in self.manifests(descriptor)? {
            if is_attestation(&manifest) {
                continue;
            }
            let Some(platform) = self.platform_of(&manifest)? else {
                continue;
            };
            if platform.matches(wanted.unwrap_or(&host)) {
                return Ok(Some(with_platform(manifest, &platform)));
            }
            if wanted.is_none() && fallback.is_none() {
                fallback = Some(with_platform(manifest, &platform));
            }
        }
        Ok(fallback)
    }

    /// The platform of a manifest that is here, with its configuration.
    pub(crate) fn platform_of(&self, descriptor: &Descriptor) -> Result<Option<Platform>, ImageError> {
        let manifest = match self.target(descriptor) {
            Ok(Target::Manifest(manifest)) => manifest,
            Ok(Target::Index(_)) | Err(ImageError::Content(ContentError::NotFound { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.config(&manifest.config.digest) {
            Ok(config) => Ok(Some(config.document.platform())),
            Err(ImageError::Content(ContentError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn forget_documents(&self, digests: &[Digest]) {
        let mut parsed = self.inner.documents.parsed.write().unwrap_or_else(PoisonError::into_inner);
        for digest in digests {
            parsed.remove(digest);
        }
    }
}

impl Documents {
    fn get(&self, digest: &Digest) -> Option<Document> {
        self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn put(&self, digest: &Digest, document: Document) {
        self.parsed.write().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), document);
    }
}

/// The names of stacks of layers: of the lowest its own digest, of each other one the digest of the name below and its own (B176).
fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => diff_id.clone(),
            Some(below) => digest_of(Algorithm::Sha256, format!("{below} {diff_id}").as_bytes()),
        });
    }
    chains
}

/// Whether a manifest of an index is an attestation about another one.
pub(crate) fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key(ATTESTATION)
}

fn with_platform(mut descriptor: Descriptor, platform: &Platform) -> Descriptor {
    descriptor.platform.get_or_insert_with(|| platform.clone().into());
    descriptor
}

/// Reads a manifest or an index, as its media type says; one that says nothing is known by its fields.
pub(crate) fn parse_target(digest: &Digest, kind: &str, bytes: &[u8]) -> Result<Target, ImageError> {
    #[derive(serde::Deserialize)]
    struct Sniff {
        #[serde(rename = "mediaType", default)]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let sniff: Sniff = parse(digest, "manifest", bytes)?;
    let inside = sniff.media_type.as_str();
    if !inside.is_empty() && !kind.is_empty() && media_type::is_index(inside) != media_type::is_index(kind) {
        return Err(ImageError::Invalid(format!("{digest} says it is {inside}, but was announced as {kind}")));
    }
    let known = if inside.is_empty() { kind } else { inside };
    let is_index = match known {
        "" => sniff.manifests.is_some(),
        known if media_type::is_index(known) => true,
        known if media_type::is_manifest(known) => false,
        other => return Err(ImageError::Invalid(format!("{digest} has the unknown media type {other:?}"))),
    };
    if is_index {
        return Ok(Target::Index(Arc::new(parse(digest, "index", bytes)?)));
    }
    Ok(Target::Manifest(Arc::new(parse(digest, "manifest", bytes)?)))
}

fn parse<T: DeserializeOwned>(digest: &Digest, what: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::Invalid(format!("{what} {digest}: {error}")))
}
