//! A cache of another registry: what is asked for and not here is fetched, kept, and handed on while it comes.
//!
//! Tags are looked up again after a while; when the other registry does not answer, what is here is served with a warning. Blobs are
//! fetched once, however many clients ask, and only those that a manifest here needs.

pub mod upstreams;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use berth_distribution::{BlobBody, Credentials, DistributionError, Registries, Repository};
use berth_model::{Cancel, Digest, ImageRef};
use berth_oci::image::{Descriptor, Index, Manifest, media_type};
use tokio::sync::watch;

use crate::{
    http::response::Growth,
    manifest::{self, MAX_MANIFEST},
    names::{Reference, RepositoryName},
    refusal::{Code, Refusal},
    resources::manifests,
    storage::{Storage, StorageError, blobs::digest_of},
};

/// How long a tag counts as fresh.
pub const TAG_LIFE: Duration = Duration::from_secs(300);
/// How often a broken download is gone on with.
const TRIES: u32 = 5;

/// The other registry.
pub struct Proxy {
    registries: Registries,
    domain: String,
    /// What the names of its repositories begin with here.
    prefix: String,
    credentials: Credentials,
    tag_life: Duration,
    fresh: Mutex<HashMap<(RepositoryName, String), Instant>>,
    running: Mutex<HashMap<Digest, Download>>,
}

/// A blob that is being fetched.
#[derive(Clone)]
pub struct Download {
    /// What there is of it.
    pub file: Arc<File>,
    /// How far it is.
    pub growth: watch::Receiver<Growth>,
}

/// Whether what is served is what the other registry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It is, or was a moment ago.
    Fresh,
    /// The other registry does not answer.
    Stale,
}

impl Proxy {
    /// A cache of the registry `domain`.
    pub fn new(registries: Registries, domain: String, credentials: Credentials, tag_life: Duration) -> Self {
        let (fresh, running) = (Mutex::default(), Mutex::default());
        Self { registries, domain, prefix: String::new(), credentials, tag_life, fresh, running }
    }

    /// The same with names that begin so here.
    fn beneath(self, prefix: String) -> Self {
        Self { prefix, ..self }
    }

    /// The registry that this is a cache of.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Sees to it that a manifest is here, if the other registry has it.
    ///
    /// # Errors
    /// `MANIFEST_UNKNOWN` if it has not; 502 if it does not answer and nothing is here.
    pub async fn manifest(
        &self,
        storage: &Arc<Storage>,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Served, Refusal> {
        let here = manifests::find(storage, name, reference)?;
        let tag = match reference {
            Reference::Digest(_) if here.is_some() => return Ok(Served::Fresh),
            Reference::Digest(_) => None,
            Reference::Tag(tag) => Some(tag.as_str().to_owned()),
        };
        if let Some(tag) = tag.clone().filter(|_| here.is_some()) {
            let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            if fresh.get(&(name.clone(), tag)).is_some_and(|at| at.elapsed() < self.tag_life) {
                return Ok(Served::Fresh);
            }
        }
        let known = here.as_ref().map(|row| row.digest.clone());
        match self.fetch_manifest(name, reference, known).await {
            Ok(Some((digest, bytes))) => self.keep(storage, name, tag.as_deref(), &digest, bytes).await?,
            Ok(None) => {}
            Err(DistributionError::NotFound(_)) => return Err(manifests::unknown(reference)),
            Err(error) if here.is_some() => {
                tracing::warn!(%error, upstream = self.domain, "serving what is here");
                return Ok(Served::Stale);
            }
            Err(error) => return Err(self.failed(&error)),
        }
        if let Some(tag) = tag {
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert((name.clone(), tag), Instant::now());
        }
        Ok(Served::Fresh)
    }

    /// The manifest that the other registry has, unless it is the one that is here.
    async fn fetch_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        known: Option<Digest>,
    ) -> Result<Option<(Digest, Vec<u8>)>, DistributionError> {
        let (image, repository) = self.repository(name, reference)?;
        let reference = reference.clone();
        let fetched = tokio::task::spawn_blocking(move || {
            let descriptor = match reference {
                Reference::Digest(digest) => Descriptor::new("", digest, 0),
                Reference::Tag(_) => repository.resolve(&image)?,
            };
            if known.as_ref() == Some(&descriptor.digest) {
                return Ok(None);
            }
            let bytes = repository.manifest(&descriptor)?;
            let found = digest_of(descriptor.digest.algorithm(), &bytes);
            if found != descriptor.digest || bytes.len() > MAX_MANIFEST {
                return Err(DistributionError::Invalid(format!("{} has digest {found}", descriptor.digest)));
            }
            Ok(Some((found, bytes)))
        });
        fetched.await.unwrap_or(Err(DistributionError::Cancelled))
    }

    async fn keep(
        &self,
        storage: &Arc<Storage>,
        name: &RepositoryName,
        tag: Option<&str>,
        digest: &Digest,
        bytes: Vec<u8>,
    ) -> Result<(), Refusal> {
        let facts = manifest::examine(None, &bytes).map_err(|error| self.failed(&error))?;
        let tags = tag.map(str::parse).transpose()?;
        manifests::keep(storage, name, digest, bytes, facts, tags.as_slice(), manifests::Check::Nothing).await
    }

    /// A blob that is not here: its size, and the download that was begun or joined; nothing if no manifest here needs it.
    pub fn blob(
        self: &Arc<Self>,
        storage: &Arc<Storage>,
        name: &RepositoryName,
        digest: &Digest,
        only_head: bool,
    ) -> Result<Option<(u64, Option<Download>)>, Refusal> {
        let Some(descriptor) = described(storage, name, digest)? else { return Ok(None) };
        if only_head {
            return Ok(Some((descriptor.size, None)));
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(download) = running.get(digest) {
            return Ok(Some((descriptor.size, Some(download.clone()))));
        }
        let reference = Reference::Digest(digest.clone());
        let (_, repository) = self.repository(name, &reference).map_err(|error| self.failed(&error))?;
        let upload = storage.uploads.begin(name, digest.algorithm())?;
        let file = File::open(upload.path()).map_err(StorageError::io("opening", upload.path()))?;
        let (grow, growth) = watch::channel(Growth::Bytes(0));
        let download = Download { file: Arc::new(file), growth };
        running.insert(digest.clone(), download.clone());
        drop(running);
        let (proxy, storage, name, size) = (Arc::clone(self), Arc::clone(storage), name.clone(), descriptor.size);
        tokio::spawn(async move {
            let digest = descriptor.digest.clone();
            let done = fetch(&storage, &name, upload, repository, descriptor, grow.clone()).await;
            proxy.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
            if let Err(error) = &done {
                tracing::warn!(%error, %digest, upstream = proxy.domain, "fetching a blob");
            }
            grow.send_replace(if done.is_ok() { Growth::Done } else { Growth::Failed });
        });
        Ok(Some((size, Some(download))))
    }

    /// All tags of a repository, as the other registry has them.
    pub async fn tags(&self, name: &RepositoryName) -> Result<Vec<String>, DistributionError> {
        let latest = Reference::Tag("latest".parse().map_err(|_| DistributionError::Cancelled)?);
        let (_, repository) = self.repository(name, &latest)?;
        let listed = tokio::task::spawn_blocking(move || repository.tags()).await;
        listed.unwrap_or(Err(DistributionError::Cancelled))
    }

    fn repository(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<(ImageRef, Repository), DistributionError> {
        let separator = if matches!(reference, Reference::Tag(_)) { ":" } else { "@" };
        let own = name.as_str().strip_prefix(self.prefix.as_str()).unwrap_or(name.as_str());
        let text = format!("{}/{own}{separator}{reference}", self.domain);
        let image: ImageRef = text.parse().map_err(|error| DistributionError::Settings(format!("{text}: {error}")))?;
        let repository = self.registries.repository(&image, &self.credentials, &Cancel::default())?;
        Ok((image, repository))
    }

    fn failed(&self, error: &impl std::fmt::Display) -> Refusal {
        tracing::warn!(%error, upstream = self.domain, "the upstream registry fails");
        Refusal::new(Code::Unavailable, format!("{} does not give it: {error}", self.domain))
            .status(::http::StatusCode::BAD_GATEWAY)
    }
}

/// What a manifest that is here says of a blob.
fn described(storage: &Storage, name: &RepositoryName, digest: &Digest) -> Result<Option<Descriptor>, Refusal> {
    let manifest = storage.read(|view| match view.repository(name.as_str())? {
        Some(repository) => view.needing(repository, digest),
        None => Ok(None),
    })?;
    let Some(manifest) = manifest else { return Ok(None) };
    let bytes = std::fs::read(storage.blobs.path(&manifest)).unwrap_or_default();
    let mut all = Vec::new();
    if let Ok(image) = serde_json::from_slice::<Manifest>(&bytes) {
        all.push(image.config);
        all.extend(image.layers);
    } else if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
        let others = index.manifests.into_iter();
        all.extend(others.filter(|d| !media_type::is_manifest(&d.media_type) && !media_type::is_index(&d.media_type)));
    }
    Ok(all.into_iter().find(|descriptor| descriptor.digest == *digest))
}

async fn fetch(
    storage: &Arc<Storage>,
    name: &RepositoryName,
    mut upload: crate::storage::uploads::Upload,
    repository: Repository,
    descriptor: Descriptor,
    grow: watch::Sender<Growth>,
) -> Result<(), StorageError> {
    let digest = descriptor.digest.clone();
    let mut source = Source { repository, descriptor, body: None, at: 0, tries: 0 };
    let tell = move |bytes| {
        grow.send_replace(Growth::Bytes(bytes));
    };
    match upload.append_from(move |buffer| source.read(buffer), tell).await {
        Ok(()) => storage.commit(upload, name, &digest).await,
        Err(error) => {
            storage.uploads.cancel(upload)?;
            Err(error)
        }
    }
}

/// A blob of the other registry, gone on with where it broke.
struct Source {
    repository: Repository,
    descriptor: Descriptor,
    body: Option<BlobBody>,
    at: u64,
    tries: u32,
}

impl Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.at >= self.descriptor.size {
                return Ok(0);
            }
            match self.read_once(buffer) {
                Ok(n) if n > 0 => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Ok(_) | Err(_) if self.tries < TRIES => {
                    self.tries += 1;
                    self.body = None;
                    std::thread::sleep(Duration::from_millis(100 << self.tries));
                }
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            empty => {
                let range = self.at..self.descriptor.size;
                let mut body = self.repository.blob(&self.descriptor, range).map_err(io::Error::other)?;
                // A server that does not know ranges begins at the beginning.
                let skipped = self.at - body.start;
                io::copy(&mut (&mut body).take(skipped), &mut io::sink())?;
                empty.insert(body)
            }
        };
        let left = usize::try_from(self.descriptor.size - self.at).unwrap_or(usize::MAX).min(buffer.len());
        body.read(&mut buffer[..left])
    }
}
