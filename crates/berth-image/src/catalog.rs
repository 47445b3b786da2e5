//! Finding images, and the list of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_model::{Digest, ImageRef, Platform, Timestamp};
use berth_oci::image::Descriptor;
use berth_store::ImageRow;

use crate::{
    Image, ImageError, Images,
    attestations::subject,
    documents::{Configured, Target, is_attestation},
};

/// How many hex digits a short id has at least.
const SHORTEST_ID: usize = 4;

/// What the list should tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions {
    /// How much of each image others have too.
    pub shared_size: bool,
    /// The manifests of each image.
    pub manifests: bool,
}

/// One entry of the list.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// The id.
    pub id: Digest,
    /// What its names point to.
    pub descriptor: Descriptor,
    /// Its names with tags, in order.
    pub names: Vec<ImageRef>,
    /// Its names by digest, one for each repository.
    pub digests: Vec<ImageRef>,
    /// When it was made, as it says itself; 1970 where it does not.
    pub created: Timestamp,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Bytes of content and of unpacked layers.
    pub size: u64,
    /// How many of them other images have too, if that was asked for.
    pub shared_size: Option<u64>,
    /// Its manifests, if they were asked for.
    pub manifests: Vec<ManifestSummary>,
}

/// One manifest of an image.
#[derive(Clone, Debug)]
pub struct ManifestSummary {
    /// Where it is.
    pub descriptor: Descriptor,
    /// Whether all its content is here.
    pub available: bool,
    /// Bytes of its content that is here.
    pub content: u64,
    /// What it is.
    pub kind: ManifestKind,
}

/// What a manifest of an image is.
#[derive(Clone, Debug)]
pub enum ManifestKind {
    /// An image for a platform.
    Image {
        /// The platform.
        platform: Platform,
        /// Bytes of its unpacked layers.
        unpacked: u64,
    },
    /// Says something about another manifest.
    Attestation {
        /// That manifest, as its annotation names it.
        subject: String,
    },
    /// Not known: its content is not here.
    Unknown,
}

/// What an image's record keeps for the list, so that a thousand images need not be read from as many documents.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Recorded {
    /// Nanoseconds since 1970.
    created: i64,
    labels: Option<BTreeMap<String, String>>,
    /// Bytes of manifest, configuration and layers.
    content: u64,
    chains: Vec<Digest>,
    /// The image it was made of by a commit here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Digest>,
}

/// The image that a recorded one was made of.
pub(crate) fn parent_of(row: &ImageRow) -> Option<Digest> {
    row.summary.as_deref().and_then(|text| serde_json::from_str::<Recorded>(text).ok())?.parent
}

/// How a name of a request led to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundBy {
    /// By a name that is recorded.
    Name(ImageRef),
    /// By a repository and the id.
    Digest(ImageRef),
    /// By the id or its beginning, or the configuration's.
    Id,
}

impl Images {
    /// Finds an image by id, beginning of an id, name, or name and digest (B074); of an index the manifest for this host, or else the first
    /// that is here.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::AmbiguousPrefix`], [`ImageError::Reference`].
    pub fn resolve(&self, name: &str) -> Result<Image, ImageError> {
        self.resolve_for(name, None)
    }

    /// The id of the image that a name means now; `None` if it means none, or more than one.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<Digest> {
        self.find(name).ok().map(|(row, _)| row.digest)
    }

    /// How often images or their names have changed since the engine began: what a name means stays while this does.
    #[must_use]
    pub fn name_changes(&self) -> u64 {
        self.inner.store.images().changes()
    }

    /// Finds an image for a platform.
    ///
    /// # Errors
    /// As [`Images::resolve`], and [`ImageError::NoSuchPlatform`].
    pub fn resolve_for(&self, name: &str, platform: Option<&Platform>) -> Result<Image, ImageError> {
        let (row, _) = self.find(name)?;
        self.image_of(&descriptor_of(&row)?, name, platform)
    }

    pub(crate) fn image_of(
        &self,
        target: &Descriptor,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Image, ImageError> {
        let missing = || ImageError::NoSuchPlatform {
            name: name.to_owned(),
            platform: platform.map_or_else(|| Platform::host().to_string(), ToString::to_string),
        };
        let manifest_descriptor = self.choose(target, platform)?.ok_or_else(missing)?;
        let Target::Manifest(manifest) = self.target(&manifest_descriptor)? else {
            return Err(missing());
        };
        let config = self.config(&manifest.config.digest)?;
        Ok(Image { target: target.clone(), manifest_descriptor, manifest, config })
    }

    /// Finds an image's record.
    pub(crate) fn find(&self, name: &str) -> Result<(ImageRow, FoundBy), ImageError> {
        let records = self.inner.store.images();
        let reference = name.parse::<ImageRef>();
        if let Ok(reference) = &reference {
            if let Some(digest) = reference.digest() {
                let row = records.get(digest)?.filter(|row| has_repository(row, reference));
                return match row {
                    Some(row) => Ok((row, FoundBy::Digest(reference.clone()))),
                    None => Err(ImageError::NotFound(reference.familiar())),
                };
            }
            if let Some(row) = records.by_name(&reference.to_string())? {
                return Ok((row, FoundBy::Name(reference.clone())));
            }
        }
        if let Some(hex) = id_digits(name) {
            return match self.find_by_id(name, hex)? {
                Some(row) => Ok((row, FoundBy::Id)),
                None => Err(ImageError::NotFound(match &reference {
                    Ok(reference) if !name.starts_with("sha256:") => reference.familiar(),
                    _ => format!("sha256:{hex}"),
                })),
            };
        }
        match reference {
            Ok(reference) => Err(ImageError::NotFound(reference.familiar())),
            Err(error) => Err(error.into()),
        }
    }

    fn find_by_id(&self, given: &str, hex: &str) -> Result<Option<ImageRow>, ImageError> {
        let records = self.inner.store.images();
        let prefix = format!("sha256:{hex}");
        let mut found = records.by_prefix(&prefix)?;
        if found.is_empty() {
            found = self.find_by_config(&prefix)?;
        }
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(records.get(one)?),
            _ => Err(ImageError::AmbiguousPrefix(given.to_owned())),
        }
    }

    /// Ids of images whose configuration has that digest, or begins so: older engines call that the image's id.
    fn find_by_config(&self, prefix: &str) -> Result<Vec<Digest>, ImageError> {
        let mut found = Vec::new();
        for row in self.inner.store.images().list()? {
            let descriptor = descriptor_of(&row)?;
            let Ok(manifests) = self.manifests(&descriptor) else { continue };
            let has_config = |manifest: &Descriptor| match self.target(manifest) {
                Ok(Target::Manifest(manifest)) => manifest.config.digest.as_str().starts_with(prefix),
                _ => false,
            };
            if manifests.iter().any(has_config) {
                found.push(row.digest);
            }
        }
        Ok(found)
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// [`ImageError`] if the records cannot be read. An image whose content is damaged is listed with what is known of it.
    pub fn list(&self, options: ListOptions) -> Result<Vec<ImageSummary>, ImageError> {
        let mut list = Vec::new();
        let mut chains = Vec::new();
        for row in self.inner.store.images().list()? {
            let descriptor = descriptor_of(&row)?;
            let recorded = row.summary.as_deref().and_then(|text| serde_json::from_str::<Recorded>(text).ok());
            let (told, size, manifests) = match recorded {
                Some(told) if !options.manifests => {
                    let size = told.content + self.inner.layers.bytes_of(&told.chains);
                    (Some(told), size, Vec::new())
                }
                told => {
                    let manifests = self.manifest_summaries(&descriptor).unwrap_or_default();
                    let size = total_size(&descriptor, &manifests);
                    (told.or_else(|| self.told_by_documents(&descriptor)), size, manifests)
                }
            };
            let told = told.unwrap_or_default();
            let (names, digests) = names_of(&row);
            list.push(ImageSummary {
                id: row.digest,
                descriptor,
                names,
                digests,
                created: Timestamp::from_nanos(told.created),
                labels: told.labels,
                size,
                shared_size: None,
                manifests: if options.manifests { manifests } else { Vec::new() },
            });
            chains.push(told.chains);
        }
        if options.shared_size {
            self.add_shared_sizes(&mut list, &chains);
        }
        list.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(list)
    }

    /// What an image's record keeps for the list: of one manifest everything that can be known never changes. An index may get further platforms.
    pub(crate) fn summary_of(&self, descriptor: &Descriptor, parent: Option<Digest>) -> Option<String> {
        let Ok(Target::Manifest(_)) = self.target(descriptor) else {
            return None;
        };
        serde_json::to_string(&Recorded { parent, ..self.told_by_documents(descriptor)? }).ok()
    }

    fn told_by_documents(&self, descriptor: &Descriptor) -> Option<Recorded> {
        let image = self.image_of(descriptor, "", None).ok()?;
        let blobs = std::iter::once(&image.manifest.config).chain(&image.manifest.layers);
        Some(Recorded {
            created: created(&image.config).nanos(),
            labels: image.config.document.config.labels.clone(),
            content: descriptor.size + blobs.map(|blob| blob.size).sum::<u64>(),
            chains: image.config.chains.clone(),
            parent: None,
        })
    }

    fn add_shared_sizes(&self, list: &mut [ImageSummary], chains: &[Vec<Digest>]) {
        let mut users: HashMap<&Digest, usize> = HashMap::new();
        for chain in chains.iter().flatten() {
            *users.entry(chain).or_default() += 1;
        }
        for (image, chains) in list.iter_mut().zip(chains) {
            let shared = chains.iter().filter(|chain| users[chain] > 1);
            image.shared_size = Some(shared.filter_map(|chain| self.inner.layers.bytes(chain)).sum());
        }
    }

    /// What each manifest of an image is and takes.
    pub(crate) fn manifest_summaries(&self, target: &Descriptor) -> Result<Vec<ManifestSummary>, ImageError> {
        let manifests = self.manifests(target)?;
        // Of an index some platforms may be here and others not; a manifest alone came with all it names.
        let in_index = manifests.first().is_none_or(|first| first.digest != target.digest);
        manifests.into_iter().map(|descriptor| self.manifest_summary(descriptor, in_index)).collect()
    }

    fn manifest_summary(&self, descriptor: Descriptor, in_index: bool) -> Result<ManifestSummary, ImageError> {
        let Ok(Target::Manifest(manifest)) = self.target(&descriptor) else {
            return Ok(ManifestSummary { descriptor, available: false, content: 0, kind: ManifestKind::Unknown });
        };
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
        let (mut content, mut available) = (descriptor.size, true);
        for blob in blobs {
            if in_index && self.inner.content.size(&blob.digest).is_none() {
                available = false;
            } else {
                content += blob.size;
            }
        }
        let kind = match self.config(&manifest.config.digest) {
            _ if is_attestation(&descriptor) => {
                ManifestKind::Attestation { subject: subject(&descriptor).unwrap_or_default().to_owned() }
            }
            Ok(config) => ManifestKind::Image {
                platform: config.document.platform(),
                unpacked: self.inner.layers.bytes_of(&config.chains),
            },
            Err(_) => ManifestKind::Unknown,
        };
        Ok(ManifestSummary { descriptor, available, content, kind })
    }
}

/// Bytes of all content and unpacked layers. Layers that several manifests share are rare, and counted for each.
pub(crate) fn total_size(target: &Descriptor, manifests: &[ManifestSummary]) -> u64 {
    let alone = manifests.len() == 1 && manifests[0].descriptor.digest == target.digest;
    let index = if alone { 0 } else { target.size };
    let size = |manifest: &ManifestSummary| match manifest.kind {
        ManifestKind::Image { unpacked, .. } => manifest.content + unpacked,
        _ => manifest.content,
    };
    index + manifests.iter().map(size).sum::<u64>()
}

pub(crate) fn created(config: &Configured) -> Timestamp {
    let text = config.document.created.as_deref().unwrap_or_default();
    text.parse().unwrap_or(Timestamp::from_nanos(0))
}

/// The names of an image with tags, and one by digest for each repository.
pub(crate) fn names_of(row: &ImageRow) -> (Vec<ImageRef>, Vec<ImageRef>) {
    let all: Vec<ImageRef> = row.names.iter().filter_map(|name| name.name.parse().ok()).collect();
    let digests: BTreeSet<ImageRef> = all.iter().map(|name| name.with_digest(row.digest.clone())).collect();
    let mut tagged: Vec<ImageRef> = all.into_iter().filter(|name| name.digest().is_none()).collect();
    tagged.sort_by_key(ImageRef::familiar);
    let mut digests: Vec<ImageRef> = digests.into_iter().collect();
    digests.sort_by_key(ImageRef::familiar);
    (tagged, digests)
}

/// The descriptor in an image's record.
pub(crate) fn descriptor_of(row: &ImageRow) -> Result<Descriptor, ImageError> {
    serde_json::from_str(&row.descriptor)
        .map_err(|error| ImageError::Invalid(format!("record of {}: {error}", row.digest)))
}

fn has_repository(row: &ImageRow, reference: &ImageRef) -> bool {
    row.names
        .iter()
        .any(|name| name.name.parse::<ImageRef>().is_ok_and(|name| name.repository() == reference.repository()))
}

/// The hex digits of a text that could be an id or the beginning of one.
fn id_digits(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ((SHORTEST_ID..=64).contains(&hex.len()) && is_hex).then_some(hex)
}
