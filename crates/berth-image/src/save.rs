//! Images into an archive: an OCI layout that is also what Docker's `save` writes (B177), streamed.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
};

use berth_archive::{Kind, Member, TarWriter};
use berth_model::{Digest, ImageRef, Platform};
use berth_oci::image::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Index, Layout};
use serde::Serialize;

use crate::{
    ImageError, Images,
    catalog::{FoundBy, descriptor_of},
    documents::Target,
    hello::to_json,
};

/// One image of `manifest.json`.
#[derive(Serialize)]
struct Entry {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// What goes into the archive.
#[derive(Default)]
struct Plan {
    /// By path, so that they are written in order.
    blobs: BTreeMap<String, (Digest, u64)>,
    manifests: Vec<Descriptor>,
    entries: Vec<Entry>,
}

impl Images {
    /// Writes images to `output`, with all platforms that are here or with those named. An image given by its id is written without a name.
    /// Gives the ids of the images.
    ///
    /// # Errors
    /// As [`Images::resolve_for`]; [`berth_archive::ArchiveError::Output`].
    pub fn save(
        &self,
        names: &[String],
        platforms: &[Platform],
        output: impl Write,
    ) -> Result<Vec<Digest>, ImageError> {
        // Holds the blobs against being collected while they are written.
        let _lease = self.inner.content.lease("save")?;
        let (mut plan, mut ids) = (Plan::default(), Vec::new());
        for name in names {
            ids.push(self.plan(name, platforms, &mut plan)?);
        }
        for (digest, _) in plan.blobs.values() {
            self.inner.content.hold(digest)?;
        }
        self.write(plan, output)?;
        ids.dedup();
        Ok(ids)
    }

    fn plan(&self, name: &str, platforms: &[Platform], plan: &mut Plan) -> Result<Digest, ImageError> {
        let (row, by) = self.find(name)?;
        let mut target = descriptor_of(&row)?;
        // What reads only one platform reads the first.
        let image = self.image_of(&target, name, platforms.first())?;
        let mut chosen = None;
        match platforms {
            [] => {}
            [_] => target = image.manifest_descriptor.clone(),
            several => {
                let manifest = |platform| Ok(self.image_of(&target, name, Some(platform))?.manifest_descriptor.digest);
                let manifests = several.iter().map(manifest).collect::<Result<Vec<_>, ImageError>>()?;
                chosen = Some(self.with_attestations(&target, &manifests)?);
            }
        }
        let reference = match by {
            FoundBy::Name(reference) => Some(reference),
            FoundBy::Digest(_) | FoundBy::Id => None,
        };
        self.add_blobs(&target, chosen.as_ref(), plan)?;
        let config = blob_path(&image.manifest.config.digest);
        let tag = reference.as_ref().map(ImageRef::familiar);
        match plan.entries.iter_mut().find(|entry| entry.config == config) {
            Some(entry) => entry.repo_tags.get_or_insert_default().extend(tag),
            None => plan.entries.push(Entry {
                config,
                repo_tags: tag.map(|tag| vec![tag]),
                layers: image.manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
            }),
        }
        target.platform = None;
        if let Some(reference) = reference {
            target.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), reference.to_string());
            target.annotations.insert(ANNOTATION_REF_NAME.to_owned(), reference.tag().unwrap_or_default().to_owned());
        }
        if !plan.manifests.contains(&target) {
            plan.manifests.push(target);
        }
        Ok(row.digest)
    }

    /// Adds what a descriptor leads to. Of an index only the platforms that are wholly here, and of those only the chosen ones.
    fn add_blobs(
        &self,
        descriptor: &Descriptor,
        chosen: Option<&HashSet<Digest>>,
        plan: &mut Plan,
    ) -> Result<(), ImageError> {
        let content = &self.inner.content;
        let mut add = |descriptor: &Descriptor| {
            plan.blobs.insert(blob_path(&descriptor.digest), (descriptor.digest.clone(), descriptor.size));
        };
        match self.target(descriptor)? {
            Target::Index(index) => {
                add(descriptor);
                for inner in index.manifests.iter().filter(|inner| content.size(&inner.digest).is_some()) {
                    self.add_blobs(inner, chosen, plan)?;
                }
            }
            Target::Manifest(_) if chosen.is_some_and(|chosen| !chosen.contains(&descriptor.digest)) => {}
            Target::Manifest(manifest) => {
                let blobs = || std::iter::once(&manifest.config).chain(&manifest.layers);
                if blobs().all(|blob| content.size(&blob.digest).is_some()) {
                    add(descriptor);
                    blobs().for_each(add);
                }
            }
        }
        Ok(())
    }

    fn write(&self, plan: Plan, output: impl Write) -> Result<(), ImageError> {
        let mut archive = TarWriter::new(output);
        let mut directories = Vec::new();
        for path in plan.blobs.keys() {
            let directory = path.rsplit_once('/').map(|(directory, _)| directory.to_owned()).unwrap_or_default();
            directories.extend([Some("blobs".to_owned()), Some(directory)].into_iter().flatten());
        }
        directories.sort();
        directories.dedup();
        let mut directories = directories.into_iter().peekable();
        for (path, (digest, size)) in &plan.blobs {
            while let Some(directory) = directories.next_if(|directory| directory < path) {
                archive.append_bytes(&member(&directory, Kind::Directory, 0o755), b"")?;
            }
            let file = self.inner.content.open_blob(digest)?;
            let mut member = member(path, Kind::File, 0o444);
            member.size = *size;
            archive.append(&member, file)?;
        }
        archive.append_bytes(&member("index.json", Kind::File, 0o644), &to_json(&Index::new(plan.manifests)))?;
        if !plan.entries.is_empty() {
            archive.append_bytes(&member("manifest.json", Kind::File, 0o644), &to_json(&plan.entries))?;
        }
        let layout = Layout { version: Layout::VERSION.to_owned() };
        archive.append_bytes(&member("oci-layout", Kind::File, 0o444), &to_json(&layout))?;
        archive.finish()?;
        Ok(())
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().word(), digest.hex())
}

fn member(path: &str, kind: Kind, mode: u32) -> Member {
    let mut member = Member::new(path.as_bytes(), kind);
    member.mode = mode;
    member
}
