//! The OCI layout in an archive: `index.json` leads to the images.

use berth_model::ImageRef;
use berth_oci::image::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Index};

use super::{Found, docker::Entry};
use crate::{ImageError, Images, documents::Target};

/// The images that `index.json` names. Where it gives no name, a `manifest.json` beside it may.
pub(super) fn interpret(images: &Images, index: &[u8], docker: Option<&[u8]>) -> Result<Vec<Found>, ImageError> {
    let invalid = |file: &str, error: serde_json::Error| ImageError::Invalid(format!("{file} of the archive: {error}"));
    let index: Index = serde_json::from_slice(index).map_err(|error| invalid("index.json", error))?;
    let docker: Vec<Entry> = match docker {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| invalid("manifest.json", error))?,
        None => Vec::new(),
    };
    let mut found: Vec<Found> = Vec::new();
    for descriptor in index.manifests {
        images.check_blob(&descriptor)?;
        let mut names: Vec<ImageRef> = name_of(&descriptor).into_iter().collect();
        if names.is_empty() {
            names = names_beside(images, &descriptor, &docker)?;
        }
        // One image that was saved under several names stands here once for each.
        match found.iter_mut().find(|image| image.target.digest == descriptor.digest) {
            Some(image) => image.names.extend(names),
            None => found.push(Found { target: without_names(descriptor), names }),
        }
    }
    Ok(found)
}

/// The name that the annotations give. A lone word is a tag of a repository that nobody knows, and names nothing.
fn name_of(descriptor: &Descriptor) -> Option<ImageRef> {
    let full = descriptor.annotations.get(ANNOTATION_IMAGE_NAME);
    let given = descriptor.annotations.get(ANNOTATION_REF_NAME).filter(|name| name.contains(['/', ':']));
    full.or(given)?.parse().ok()
}

fn names_beside(images: &Images, descriptor: &Descriptor, docker: &[Entry]) -> Result<Vec<ImageRef>, ImageError> {
    if docker.is_empty() {
        return Ok(Vec::new());
    }
    let Target::Manifest(manifest) = images.target(descriptor)? else {
        return Ok(Vec::new());
    };
    let config = manifest.config.digest.hex();
    let entries = docker.iter().filter(|entry| entry.config.contains(config));
    Ok(entries.flat_map(Entry::names).collect())
}

/// The record of an image keeps what was said about it, but not the names it once had.
fn without_names(mut descriptor: Descriptor) -> Descriptor {
    descriptor.annotations.remove(ANNOTATION_IMAGE_NAME);
    descriptor.annotations.remove(ANNOTATION_REF_NAME);
    descriptor
}
