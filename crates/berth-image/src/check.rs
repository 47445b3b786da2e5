//! Checks everything the store has against what it should be, and puts right what can be.
//!
//! What is named is looked at from its name down: record, documents, blobs, unpacked layers. Blobs are hashed; layers are compared with
//! their blobs member by member. A repair takes away what is bad, and only that, then fetches it again or makes it again of what is good.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Display,
    fs::File,
    io::BufReader,
    os::fd::AsFd,
};

use berth_archive::{decoder, digest_file, verify};
use berth_content::ContentError;
use berth_model::{Digest, ImageRef};
use berth_oci::image::{Descriptor, Manifest};
use berth_store::ImageRow;

use crate::{
    ImageError, Images,
    catalog::descriptor_of,
    documents::{Configured, Target, is_attestation},
};

/// How much is read at a time, in bytes.
const READ: usize = 256 * 1024;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing: `image`, `blob` or `layer`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
    /// What was done about it; `None` where nothing was.
    pub repaired: Option<String>,
}

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records of images.
    pub images: usize,
    /// Blobs.
    pub blobs: usize,
    /// Unpacked layers.
    pub layers: usize,
    /// Faults that were found.
    pub faults: usize,
    /// Faults that are still there.
    pub left: usize,
}

/// How a check goes about it.
pub struct CheckOptions<'a> {
    /// Puts right what can be.
    pub repair: bool,
    /// Brings the missing content of an image, by a name and its digest.
    pub fetch: &'a dyn Fn(&ImageRef) -> Result<(), ImageError>,
    /// The images that containers use; the layers of those with `true`, which run, are not replaced under their feet.
    pub in_use: &'a [(Digest, bool)],
}

/// One check.
struct Check<'a> {
    images: &'a Images,
    options: &'a CheckOptions<'a>,
    tell: &'a mut dyn FnMut(&Fault),
    checked: Checked,
    /// Blobs that were looked at, with whether they are good.
    blobs: BTreeMap<Digest, bool>,
    layers: HashSet<Digest>,
    /// Layers that programs run from.
    busy: HashSet<Digest>,
}

impl Images {
    /// Checks every record, blob and layer; `tell` hears of each fault. Nothing else changes meanwhile that a repair could hurt: names are
    /// held, and what comes in is held by its lease.
    ///
    /// # Errors
    /// [`ImageError`] if records cannot be read at all.
    pub fn check(&self, options: &CheckOptions<'_>, tell: &mut dyn FnMut(&Fault)) -> Result<Checked, ImageError> {
        let mut check = Check {
            images: self,
            options,
            tell,
            checked: Checked::default(),
            blobs: BTreeMap::new(),
            layers: HashSet::new(),
            busy: HashSet::new(),
        };
        check.find_busy_layers();
        check.busy.extend(self.mounted_layers()?);
        for row in self.inner.store.images().list()? {
            check.image(&row)?;
        }
        check.orphans()?;
        Ok(check.checked)
    }
}

impl Check<'_> {
    fn find_busy_layers(&mut self) {
        for (id, _) in self.options.in_use.iter().filter(|(_, running)| *running) {
            let target = Descriptor::new("", id.clone(), 0);
            if let Ok(image) = self.images.image_of(&target, id.as_str(), None) {
                self.busy.extend(image.config.chains.iter().cloned());
            }
        }
    }

    fn fault(&mut self, kind: &'static str, id: &dyn Display, reason: &dyn Display, repaired: Option<String>) {
        let fault = Fault { kind, id: id.to_string(), reason: reason.to_string(), repaired };
        self.checked.faults += 1;
        self.checked.left += usize::from(fault.repaired.is_none());
        (self.tell)(&fault);
    }

    fn image(&mut self, row: &ImageRow) -> Result<(), ImageError> {
        self.checked.images += 1;
        let name = row.names.first().map_or_else(|| row.digest.to_string(), |name| name.name.clone());
        let descriptor = match descriptor_of(row) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                self.fault("image", &name, &error, None);
                return Ok(());
            }
        };
        let bad = self.bad_content(&descriptor);
        let mut refetched = None;
        if !bad.is_empty() && self.options.repair {
            refetched = Some(self.replace(row, &bad));
        }
        for (digest, reason) in bad {
            let done = match &refetched {
                None => None,
                Some(Ok(())) => Some("fetched again".to_owned()),
                Some(Err(error)) => {
                    self.fault(
                        "blob",
                        &digest,
                        &format!("{reason}; of {name}; cannot be fetched again: {error}"),
                        None,
                    );
                    continue;
                }
            };
            self.fault("blob", &digest, &format!("{reason}; of {name}"), done);
        }
        if matches!(refetched, Some(Err(_))) {
            return Ok(());
        }
        for manifest in self.images.manifests(&descriptor).unwrap_or_default() {
            if let Ok(Target::Manifest(document)) = self.images.target(&manifest)
                && !is_attestation(&manifest)
                && let Ok(config) = self.images.config(&document.config.digest)
            {
                self.unpacked_layers(&document, &config)?;
            }
        }
        Ok(())
    }

    /// The blobs of an image that are not what they should be, with the reason.
    fn bad_content(&mut self, descriptor: &Descriptor) -> Vec<(Digest, String)> {
        let mut bad = Vec::new();
        let mut todo = vec![(descriptor.clone(), true)];
        while let Some((blob, required)) = todo.pop() {
            if self.images.inner.content.size(&blob.digest).is_none() && !required {
                // An image may hold some platforms of an index.
                continue;
            }
            if self.blobs.get(&blob.digest) == Some(&true) && blob.media_type.contains("layer") {
                continue;
            }
            if let Some(reason) = self.blob(&blob) {
                bad.push((blob.digest.clone(), reason));
                continue;
            }
            match self.images.target(&blob) {
                Ok(Target::Index(index)) => todo.extend(index.manifests.iter().map(|inner| (inner.clone(), false))),
                Ok(Target::Manifest(manifest)) => {
                    let attestation = is_attestation(&blob);
                    let inner = std::iter::once(&manifest.config).chain(&manifest.layers);
                    todo.extend(inner.map(|inner| (inner.clone(), !attestation && self.has_any(&manifest))));
                }
                _ => {}
            }
        }
        bad
    }

    /// Whether anything of a manifest's image came here; one of which nothing did is no fault.
    fn has_any(&self, manifest: &Manifest) -> bool {
        manifest.layers.iter().any(|layer| self.images.inner.content.size(&layer.digest).is_some())
            || manifest.layers.is_empty()
    }

    /// What is wrong with a blob.
    fn blob(&mut self, blob: &Descriptor) -> Option<String> {
        let seen = self.blobs.contains_key(&blob.digest);
        self.checked.blobs += usize::from(!seen);
        let file = match self.images.inner.content.open_blob(&blob.digest) {
            Ok(file) => file,
            Err(ContentError::NotFound { .. }) => {
                self.blobs.insert(blob.digest.clone(), false);
                return Some("is missing".to_owned());
            }
            Err(error) => return Some(error.to_string()),
        };
        let reason = self.wrong_bytes(&file, blob);
        self.blobs.insert(blob.digest.clone(), reason.is_none());
        reason
    }

    fn wrong_bytes(&self, file: &File, blob: &Descriptor) -> Option<String> {
        let size = file.metadata().map(|data| data.len()).unwrap_or(0);
        if blob.size != 0 && size != blob.size {
            return Some(format!("has {size} bytes instead of {}", blob.size));
        }
        match digest_file(file, blob.digest.algorithm()) {
            Ok(found) if found == blob.digest => None,
            Ok(found) => Some(format!("is damaged: its bytes are {found}")),
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }

    /// Takes bad blobs away and fetches the image again, by one of its names.
    fn replace(&self, row: &ImageRow, bad: &[(Digest, String)]) -> Result<(), ImageError> {
        let digests: Vec<Digest> = bad.iter().map(|(digest, _)| digest.clone()).collect();
        let name = row.names.iter().find_map(|name| name.name.parse::<ImageRef>().ok());
        let Some(name) = name else {
            return Err(ImageError::Invalid("it has no name to fetch it by".to_owned()));
        };
        for digest in &digests {
            self.images.inner.content.delete(digest)?;
        }
        self.images.forget_documents(&digests);
        (self.options.fetch)(&name.with_digest(row.digest.clone()))?;
        // By its digest it got a name that nobody gave it.
        let extra = name.with_digest(row.digest.clone()).to_string();
        if !row.names.iter().any(|name| name.name == extra) {
            self.images.inner.store.images().remove(vec![extra], None)?;
        }
        Ok(())
    }

    fn unpacked_layers(&mut self, manifest: &Manifest, config: &Configured) -> Result<(), ImageError> {
        for (blob, chain) in manifest.layers.iter().zip(&config.chains) {
            if self.images.inner.layers.bytes(chain).is_none() || !self.layers.insert(chain.clone()) {
                continue;
            }
            self.checked.layers += 1;
            let Some(reason) = self.wrong_layer(blob, chain) else { continue };
            if !self.options.repair {
                self.fault("layer", chain, &reason, None);
            } else if self.busy.contains(chain) {
                self.fault(
                    "layer",
                    chain,
                    &format!("{reason}; a running container or a mount uses it: end that first"),
                    None,
                );
            } else {
                self.throw_away(chain)?;
                let mut hold = self.images.hold();
                match self.images.unpacked(manifest, config, &mut hold, &mut |_, _| {}) {
                    Ok(_) => self.fault("layer", chain, &reason, Some("unpacked again".to_owned())),
                    Err(error) => self.fault("layer", chain, &format!("{reason}; cannot be unpacked: {error}"), None),
                }
            }
        }
        Ok(())
    }

    /// What is wrong with an unpacked layer.
    fn wrong_layer(&self, blob: &Descriptor, chain: &Digest) -> Option<String> {
        let path = self.images.inner.snapshots.layer_path(chain);
        let directory = match File::open(&path) {
            Ok(directory) => directory,
            Err(error) => return Some(format!("cannot be opened: {error}")),
        };
        let file = self.images.inner.content.open_blob(&blob.digest).ok()?;
        let input = decoder(BufReader::with_capacity(READ, file)).map_err(berth_archive::ArchiveError::Read);
        let found = input.and_then(|input| verify(BufReader::with_capacity(READ, input), directory.as_fd()));
        match found {
            Ok(differences) => {
                let first = differences.first()?;
                let more =
                    if differences.len() > 1 { format!(", and {} more", differences.len() - 1) } else { String::new() };
                Some(format!("/{} {}{more}", first.path, first.reason))
            }
            Err(error) => Some(format!("cannot be compared with {}: {error}", blob.digest)),
        }
    }

    fn throw_away(&self, chain: &Digest) -> Result<(), ImageError> {
        self.images.inner.layers.forget(std::slice::from_ref(chain));
        self.images.inner.store.images().delete_layers(vec![chain.clone()])?;
        self.images.inner.snapshots.remove_layer(chain.hex());
        Ok(())
    }

    /// Content that nobody needs any more. It does no harm but to the disk, and a repair collects it.
    fn orphans(&mut self) -> Result<(), ImageError> {
        let in_use: Vec<Digest> = self.options.in_use.iter().map(|(id, _)| id.clone()).collect();
        let unneeded = self.images.unneeded(&in_use)?;
        if unneeded.is_empty() {
            return Ok(());
        }
        let done = if self.options.repair {
            self.images.collect(&in_use)?;
            Some("removed".to_owned())
        } else {
            None
        };
        for digest in unneeded {
            self.fault("blob", &digest, &"is needed by nothing", done.clone());
        }
        Ok(())
    }
}
