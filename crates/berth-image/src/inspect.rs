//! Everything about one image.

use std::sync::Arc;

use berth_model::{Digest, ImageRef, Platform, Timestamp};
use berth_oci::image::{Descriptor, ImageConfig};

use crate::{
    ImageError, Images, ManifestSummary,
    catalog::{created, descriptor_of, names_of, parent_of, total_size},
    documents::Configured,
};

/// Everything about one image.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// The id.
    pub id: Digest,
    /// What its names point to.
    pub descriptor: Descriptor,
    /// Its names with tags, in order.
    pub names: Vec<ImageRef>,
    /// Its names by digest, one for each repository.
    pub digests: Vec<ImageRef>,
    /// Bytes of content and of unpacked layers.
    pub size: u64,
    /// When it last got a name; `None` without names.
    pub last_tagged: Option<Timestamp>,
    /// The image it was made of by a commit here, if that is still known.
    pub parent: Option<Digest>,
    /// All its manifests.
    pub manifests: Vec<ManifestSummary>,
    configured: Arc<Configured>,
}

impl ImageDetails {
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.configured.document
    }
}

/// One step of how an image came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image that had this step as its last, where that is known.
    pub id: Option<Digest>,
    /// When.
    pub created: Timestamp,
    /// By which instruction.
    pub created_by: String,
    /// The names of that image.
    pub tags: Vec<ImageRef>,
    /// Bytes of the unpacked layer; 0 for a step that made none.
    pub size: u64,
    /// A word about it.
    pub comment: String,
}

impl Images {
    /// Everything about one image, for a platform or for this host.
    ///
    /// # Errors
    /// As [`Images::resolve_for`].
    pub fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageDetails, ImageError> {
        let (row, _) = self.find(name)?;
        let descriptor = descriptor_of(&row)?;
        let image = self.image_of(&descriptor, name, platform)?;
        let manifests = self.manifest_summaries(&descriptor)?;
        let (names, digests) = names_of(&row);
        Ok(ImageDetails {
            parent: parent_of(&row),
            id: row.digest,
            names,
            digests,
            size: total_size(&descriptor, &manifests),
            last_tagged: row.names.iter().map(|name| name.tagged).max().map(Timestamp::from_nanos),
            manifests,
            descriptor,
            configured: image.config,
        })
    }

    /// How an image came to be, the newest step first.
    ///
    /// # Errors
    /// As [`Images::resolve_for`].
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryEntry>, ImageError> {
        let (row, _) = self.find(name)?;
        let image = self.image_of(&descriptor_of(&row)?, name, platform)?;
        let mut chains = image.config.chains.iter();
        let mut entries = Vec::new();
        for step in &image.document().history {
            let chain = if step.empty_layer { None } else { chains.next() };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            entries.push(HistoryEntry {
                id: None,
                created: text(&step.created).parse().unwrap_or(Timestamp::from_nanos(0)),
                created_by: text(&step.created_by),
                tags: Vec::new(),
                size: chain.and_then(|chain| self.inner.layers.bytes(chain)).unwrap_or(0),
                comment: text(&step.comment),
            });
        }
        // Layers that nobody wrote a history for.
        for chain in chains {
            entries.push(HistoryEntry {
                id: None,
                created: created(&image.config),
                created_by: String::new(),
                tags: Vec::new(),
                size: self.inner.layers.bytes(chain).unwrap_or(0),
                comment: String::new(),
            });
        }
        entries.reverse();
        self.name_steps(row, &mut entries);
        Ok(entries)
    }

    /// Says of the newest step which image has it as its last, and likewise of the images that one was made of.
    fn name_steps(&self, mut row: berth_store::ImageRow, entries: &mut [HistoryEntry]) {
        let mut at = 0;
        while let Some(entry) = entries.get_mut(at) {
            entry.id = Some(row.digest.clone());
            entry.tags = names_of(&row).0;
            let parent = parent_of(&row).and_then(|id| self.inner.store.images().get(&id).ok().flatten());
            let Some(parent) = parent else { return };
            let steps = descriptor_of(&parent).and_then(|descriptor| self.image_of(&descriptor, "", None));
            let steps = steps.map_or(0, |image| image.document().history.len());
            // Each parent is older: this comes to an end.
            let next = entries.len().saturating_sub(steps);
            if next <= at {
                return;
            }
            (row, at) = (parent, next);
        }
    }
}
