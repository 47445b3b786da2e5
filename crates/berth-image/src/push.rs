//! Sending images to a registry: blobs that it has not, then manifests, then what the tag points to.
//!
//! Blobs go as they are. A layer is compressed when its image is made (build, commit) and never again, so that its digest stays and a
//! registry that has it is not sent it twice.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use berth_distribution::{DistributionError, ManifestName, Repository, Sent};
use berth_model::{Cancel, Digest, ImageRef, Platform};
use berth_oci::image::{Descriptor, media_type};

use crate::{
    Detail, ImageError, Images, Progress, RegistryResolver,
    catalog::descriptor_of,
    documents::{MAX_DOCUMENT, Target},
    remove::now,
};

/// How often the progress of a blob is told.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// So many repositories are asked whether a blob can be taken from there.
const MOUNT_FROM: usize = 3;

/// How images are pushed.
#[derive(Clone)]
pub struct PushOptions {
    /// Only the manifest for one platform.
    pub platform: Option<Platform>,
    /// Blobs that are sent at once.
    pub uploads: usize,
    /// Ends the push early.
    pub cancel: Cancel,
}

/// What a tag of the registry points to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The name.
    pub reference: ImageRef,
    /// The manifest or index.
    pub digest: Digest,
}

/// What belongs to one image, in the order in which a registry wants it.
#[derive(Default)]
struct Plan {
    blobs: Vec<Descriptor>,
    /// Those that others point to come first; the last one is what the tag points to.
    manifests: Vec<Descriptor>,
    /// Manifests of an index that are not here: the registry has them, or the index cannot be pushed.
    absent: Vec<Descriptor>,
}

/// What happened to a blob.
enum Event {
    Begun(usize),
    Done(usize, Sent),
}

impl Images {
    /// Sends the image of a name to its registry, or all images of its repository. What was pushed is told to `pushed` one by one.
    ///
    /// # Errors
    /// [`ImageError::NoSuchTag`], [`ImageError::NoSuchPlatform`], [`ImageError::Push`].
    pub fn push(
        &self,
        reference: &ImageRef,
        all_tags: bool,
        registry: &RegistryResolver,
        options: &PushOptions,
        progress: &mut dyn FnMut(Progress),
        pushed: &mut dyn FnMut(&Pushed),
    ) -> Result<(), ImageError> {
        let repository = reference.repository();
        progress(Progress::status(format!("The push refers to repository [{repository}]")));
        // Holds the blobs against being collected while they are sent.
        let _lease = self.inner.content.lease("push")?;
        let names = if all_tags { self.tags_of(&repository)? } else { vec![reference.clone()] };
        if names.is_empty() {
            return Err(ImageError::Change(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_repository()
            )));
        }
        for name in names {
            let one = self.push_one(&name, registry.repository(), options, progress)?;
            pushed(&one);
        }
        Ok(())
    }

    fn tags_of(&self, repository: &str) -> Result<Vec<ImageRef>, ImageError> {
        let rows = self.inner.store.images().list()?;
        let names = rows.iter().flat_map(|row| &row.names).filter_map(|name| name.name.parse::<ImageRef>().ok());
        let mut names: Vec<ImageRef> =
            names.filter(|name| name.repository() == repository && name.digest().is_none()).collect();
        names.sort();
        Ok(names)
    }

    fn push_one(
        &self,
        reference: &ImageRef,
        repository: &Repository,
        options: &PushOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, ImageError> {
        let row = self.inner.store.images().by_name(&reference.to_string())?;
        let row = row.ok_or_else(|| ImageError::NoSuchTag(reference.familiar()))?;
        let mut target = descriptor_of(&row)?;
        if options.platform.is_some() {
            target = self.image_of(&target, &reference.familiar(), options.platform.as_ref())?.manifest_descriptor;
        }
        let mut plan = self.push_plan(&target)?;
        for absent in std::mem::take(&mut plan.absent) {
            if !repository.has_manifest(&absent.digest).map_err(ImageError::Push)? {
                // Some platforms are nowhere: what there is can only be pushed for itself.
                target = self.image_of(&target, &reference.familiar(), None)?.manifest_descriptor;
                plan = self.push_plan(&target)?;
                progress(Progress::status(format!(
                    "Not all platforms of {} are here: only {} is pushed",
                    reference.familiar(),
                    target.digest.short()
                )));
                break;
            }
        }
        self.push_blobs(reference, &plan.blobs, repository, options, progress)?;
        self.note_origin(reference, plan.blobs.iter());
        for manifest in &plan.manifests {
            let is_target = manifest.digest == target.digest;
            let name = ManifestName::tag(reference).filter(|_| is_target);
            let name = name.unwrap_or_else(|| ManifestName::digest(&manifest.digest));
            let bytes = self.inner.content.read(&manifest.digest, MAX_DOCUMENT)?;
            let kind = kind_of(manifest, &bytes);
            repository.push_manifest(&kind, &bytes, &name).map_err(ImageError::Push)?;
        }
        let tag = reference.tag().unwrap_or_default().to_owned();
        let (digest, size) = (target.digest.clone(), target.size);
        progress(Progress::status(format!("{tag}: digest: {digest} size: {size}")));
        progress(Progress::Pushed { tag, digest: digest.clone(), size });
        Ok(Pushed { reference: reference.clone(), digest })
    }

    /// What belongs to an image. Of an index only the platforms that are wholly here.
    fn push_plan(&self, target: &Descriptor) -> Result<Plan, ImageError> {
        let mut plan = Plan::default();
        self.plan_push(target, &mut plan, &mut HashSet::new())?;
        Ok(plan)
    }

    fn plan_push(
        &self,
        descriptor: &Descriptor,
        plan: &mut Plan,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), ImageError> {
        if !seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        let content = &self.inner.content;
        match self.target(descriptor)? {
            Target::Index(index) => {
                for inner in &index.manifests {
                    if content.hold(&inner.digest)? {
                        self.plan_push(inner, plan, seen)?;
                    } else {
                        plan.absent.push(inner.clone());
                    }
                }
            }
            Target::Manifest(manifest) => {
                let blobs: Vec<&Descriptor> = std::iter::once(&manifest.config).chain(&manifest.layers).collect();
                for blob in &blobs {
                    if !content.hold(&blob.digest)? {
                        plan.absent.push(descriptor.clone());
                        return Ok(());
                    }
                }
                // Layers first, so that they are told of in their order.
                for blob in blobs.into_iter().skip(1).chain([&manifest.config]) {
                    if seen.insert(blob.digest.clone()) {
                        plan.blobs.push(blob.clone());
                    }
                }
            }
        }
        plan.manifests.push(descriptor.clone());
        Ok(())
    }

    /// Other repositories of the same registry that images here with the same blobs are named after, or that were seen with them.
    fn mount_sources(
        &self,
        reference: &ImageRef,
        blobs: &[Descriptor],
    ) -> Result<BTreeMap<Digest, Vec<String>>, ImageError> {
        let wanted: HashSet<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
        let mut found: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for row in self.inner.store.images().list()? {
            let names = row.names.iter().filter_map(|name| name.name.parse::<ImageRef>().ok());
            let others: Vec<String> = names
                .filter(|name| name.domain() == reference.domain() && name.path() != reference.path())
                .map(|name| name.path().to_owned())
                .collect();
            if others.is_empty() {
                continue;
            }
            let Ok(plan) = self.push_plan(&descriptor_of(&row)?) else { continue };
            for blob in plan.blobs.iter().filter(|blob| wanted.contains(&blob.digest)) {
                let sources = found.entry(blob.digest.clone()).or_default();
                sources.extend(others.iter().filter(|other| !sources.contains(other)).cloned().collect::<Vec<_>>());
                sources.truncate(MOUNT_FROM);
            }
        }
        for blob in blobs {
            let sources = found.entry(blob.digest.clone()).or_default();
            let seen = self.inner.store.blob_origins().of(&blob.digest)?;
            let seen =
                seen.iter().filter_map(|repository| repository.strip_prefix(reference.domain())?.strip_prefix('/'));
            let seen = seen.filter(|path| *path != reference.path() && !sources.iter().any(|source| source == path));
            let more: Vec<String> = seen.take(MOUNT_FROM.saturating_sub(sources.len())).map(str::to_owned).collect();
            sources.extend(more);
        }
        Ok(found)
    }

    /// Remembers that a repository has blobs.
    pub(crate) fn note_origin<'a>(&self, reference: &ImageRef, blobs: impl Iterator<Item = &'a Descriptor>) {
        let digests = blobs.map(|blob| blob.digest.clone()).collect();
        self.inner.store.blob_origins().note(digests, reference.repository(), now());
    }

    fn push_blobs(
        &self,
        reference: &ImageRef,
        blobs: &[Descriptor],
        repository: &Repository,
        options: &PushOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImageError> {
        // One alone finds out whether we may push at all, so that what is refused is refused once.
        if let Some(Err(error)) = blobs.first().map(|first| repository.has_blob(&first.digest)) {
            tell_waiting(blobs.iter(), progress);
            return Err(ImageError::Push(error));
        }
        let upload = Upload {
            images: self,
            blobs,
            sources: self.mount_sources(reference, blobs)?,
            repository,
            next: AtomicUsize::new(0),
            sent: blobs.iter().map(|_| AtomicU64::new(0)).collect(),
            failed: Mutex::default(),
            cancel: &options.cancel,
        };
        let (events, heard) = channel();
        let mut told: Vec<Told> = blobs.iter().map(|_| Told::Nothing).collect();
        thread::scope(|scope| {
            for _ in 0..options.uploads.clamp(1, 32).min(blobs.len()) {
                let events = events.clone();
                let upload = &upload;
                scope.spawn(move || upload.work(&events));
            }
            drop(events);
            loop {
                match heard.recv_timeout(TELL_EVERY) {
                    Ok(Event::Begun(at)) => told[at] = Told::Begun,
                    Ok(Event::Done(at, sent)) => {
                        told[at] = Told::Done;
                        let status = match sent {
                            Sent::Existed => "Layer already exists".to_owned(),
                            Sent::Mounted(from) => format!("Mounted from {from}"),
                            Sent::Uploaded => "Pushed".to_owned(),
                        };
                        if is_shown(&blobs[at]) {
                            progress(Progress::layer(&blobs[at].digest, &status, Detail::Empty));
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        for (at, blob) in blobs.iter().enumerate() {
                            let current = upload.sent[at].load(Ordering::Relaxed);
                            if matches!(told[at], Told::Begun) && current > 0 && is_shown(blob) {
                                let detail = Detail::Bytes { current, total: blob.size };
                                progress(Progress::layer(&blob.digest, "Pushing", detail));
                            }
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        });
        let failed = upload.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = failed else { return Ok(()) };
        let open = blobs.iter().zip(&told).filter(|(_, told)| !matches!(told, Told::Done));
        tell_waiting(open.map(|(blob, _)| blob), progress);
        Err(error)
    }
}

fn tell_waiting<'a>(blobs: impl Iterator<Item = &'a Descriptor>, progress: &mut dyn FnMut(Progress)) {
    for blob in blobs.filter(|blob| is_shown(blob)) {
        progress(Progress::layer(&blob.digest, "Waiting", Detail::Empty));
    }
}

enum Told {
    Nothing,
    Begun,
    Done,
}

/// People are told of layers; configurations are small.
fn is_shown(blob: &Descriptor) -> bool {
    !matches!(blob.media_type.as_str(), media_type::CONFIG | media_type::DOCKER_CONFIG)
}

/// Old records have descriptors without a type; the document knows itself.
fn kind_of(manifest: &Descriptor, bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Sniff {
        #[serde(rename = "mediaType", default)]
        media_type: String,
    }
    if !manifest.media_type.is_empty() {
        return manifest.media_type.clone();
    }
    let inside = serde_json::from_slice::<Sniff>(bytes).map(|sniff| sniff.media_type).unwrap_or_default();
    if inside.is_empty() { media_type::MANIFEST.to_owned() } else { inside }
}

/// The blobs of one push, and how far they are.
struct Upload<'a> {
    images: &'a Images,
    blobs: &'a [Descriptor],
    sources: BTreeMap<Digest, Vec<String>>,
    repository: &'a Repository,
    next: AtomicUsize,
    sent: Arc<[AtomicU64]>,
    failed: Mutex<Option<ImageError>>,
    cancel: &'a Cancel,
}

impl Upload<'_> {
    fn work(&self, events: &Sender<Event>) {
        while !self.cancel.is_cancelled() {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(blob) = self.blobs.get(at) else { return };
            // Nobody may hear it any more.
            let _ = events.send(Event::Begun(at));
            match self.send(at, blob) {
                Ok(sent) => drop(events.send(Event::Done(at, sent))),
                Err(error) => {
                    self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return self.cancel.cancel();
                }
            }
        }
        let stopped = || ImageError::Push(DistributionError::Cancelled);
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(stopped);
    }

    fn send(&self, at: usize, blob: &Descriptor) -> Result<Sent, ImageError> {
        let content = &self.images.inner.content;
        self.images.check_blob(blob)?;
        let from = self.sources.get(&blob.digest).map(Vec::as_slice).unwrap_or_default();
        let open = || content.open_blob(&blob.digest).map_err(std::io::Error::other);
        let mut told = |sent| self.sent[at].store(sent, Ordering::Relaxed);
        self.repository.push_blob(blob, from, open, &mut told).map_err(ImageError::Push)
    }
}
