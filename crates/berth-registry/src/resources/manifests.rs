//! Manifests: by tag and by digest. Sections "Pulling manifests", "Pushing Manifests", "Deleting Manifests", "Deleting tags".

use std::fs::File;

use ::http::{Method, StatusCode, header};
use berth_model::{Algorithm, Digest};
use berth_store::{ManifestRow, RegistryChange, RepositoryId, StoreError, TagRow};

use crate::{
    auth::rules::Action,
    http::{body::Body, response::Response},
    manifest::{self, Facts, MAX_MANIFEST, Need},
    names::{Reference, RepositoryName, Tag},
    notify::event::{Action as Done, Target},
    proxy::Served,
    refusal::{Code, Refusal},
    registry::Request,
    resources::{is_unchanged, known},
    storage::{Storage, StorageError, blobs::digest_of, blocking, now},
};

/// Tags that one push may set.
const MAX_TAGS: usize = 100;

/// `GET` and `HEAD`: the bytes as they were pushed.
pub async fn get(request: Request<'_>, name: &RepositoryName, reference: &Reference) -> Result<Response, Refusal> {
    request.may(&[Action::Pull], name)?;
    let is_fetched = request.head.method == Method::GET;
    let pulls = request.registry.limits.pull(request.peer, request.caller, is_fetched)?;
    let storage = &request.registry.storage;
    let served = match request.upstream {
        Some(proxy) => proxy.manifest(storage, name, reference).await?,
        None => Served::Fresh,
    };
    let row = find(storage, name, reference)?.ok_or_else(|| unknown(reference))?;
    let headers = |response: Response| {
        let response = response.with("Docker-Content-Digest", row.digest.as_str());
        let response = response.with("ETag", format!("\"{}\"", row.digest));
        let response = pulls.iter().fold(response, |response, pulls| pulls.tell(response));
        match served {
            Served::Fresh => response,
            Served::Stale => {
                response.with("Warning", "299 - \"the upstream registry does not answer: this is what was cached\"")
            }
        }
    };
    if is_unchanged(&request.head.headers, &row.digest) {
        return Ok(headers(Response::empty(StatusCode::NOT_MODIFIED)));
    }
    let file = storage.blobs.open_blob(&row.digest)?.ok_or_else(|| unknown(reference))?;
    let bytes = read_whole(&file, &row).map_err(StorageError::io("reading", &storage.blobs.path(&row.digest)))?;
    if is_fetched {
        request
            .tell(Done::Pull, "manifests", || target(name, &row.media_type, &row.digest, row.size, tag_of(reference)));
    }
    Ok(headers(Response::text(StatusCode::OK, &row.media_type, bytes)))
}

/// A manifest as notifications tell of it.
fn target(name: &RepositoryName, media_type: &str, digest: &Digest, size: u64, tag: Option<&Tag>) -> Target {
    let tag = tag.map(|tag| tag.as_str().to_owned()).unwrap_or_default();
    Target { tag, ..Target::of(name.as_str(), media_type, digest.as_str(), size) }
}

fn tag_of(reference: &Reference) -> Option<&Tag> {
    match reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(_) => None,
    }
}

/// The record of a manifest that is here.
pub fn find(
    storage: &Storage,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Option<ManifestRow>, StorageError> {
    storage.read(|view| {
        let Some(repository) = view.repository(name.as_str())? else { return Ok(None) };
        match reference {
            Reference::Tag(tag) => view.tagged(repository, tag.as_str()),
            Reference::Digest(digest) => view.manifest(repository, digest),
        }
    })
}

/// Manifests are small: one read is all it takes.
fn read_whole(file: &File, row: &ManifestRow) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; usize::try_from(row.size).unwrap_or_default().min(MAX_MANIFEST)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// `PUT`: checks, keeps and tags.
pub async fn put(
    request: Request<'_>,
    body: &mut Body<'_>,
    name: RepositoryName,
    reference: Reference,
) -> Result<Response, Refusal> {
    request.may(&[Action::Pull, Action::Push], &name)?;
    let bytes = body.whole(MAX_MANIFEST).await.map_err(StorageError::Client)?.ok_or_else(|| {
        Refusal::new(Code::ManifestInvalid, format!("the manifest is larger than {MAX_MANIFEST} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    })?;
    let tags = tags(request, &reference)?;
    let algorithm = match &reference {
        Reference::Digest(digest) => digest.algorithm(),
        Reference::Tag(_) => Algorithm::Sha256,
    };
    let digest = digest_of(algorithm, &bytes);
    if matches!(&reference, Reference::Digest(promised) if *promised != digest) {
        let message = format!("provided digest did not match uploaded content: expected {reference}, found {digest}");
        return Err(Refusal::new(Code::DigestInvalid, message));
    }
    let content_type = request.head.header(&header::CONTENT_TYPE);
    let facts = manifest::examine(content_type, &bytes).map_err(|error| Refusal::new(Code::ManifestInvalid, error))?;
    let (subject, kind, size) = (facts.subject.clone(), facts.media_type.clone(), bytes.len() as u64);
    keep(&request.registry.storage, &name, &digest, bytes, facts, &tags, Check::Needs).await?;
    request.tell(Done::Push, "manifests", || target(&name, &kind, &digest, size, tags.first()));
    let mut response = Response::empty(StatusCode::CREATED)
        .with("Location", format!("/v2/{name}/manifests/{digest}"))
        .with("Docker-Content-Digest", digest.as_str());
    if let Some(subject) = subject {
        response = response.with("OCI-Subject", subject.as_str());
    }
    if matches!(reference, Reference::Digest(_)) {
        response = tags.iter().fold(response, |response, tag| response.with("OCI-Tag", tag.as_str()));
    }
    Ok(response)
}

/// The tag of the path, or those of the query.
fn tags(request: Request<'_>, reference: &Reference) -> Result<Vec<Tag>, Refusal> {
    match reference {
        Reference::Tag(tag) => Ok(vec![tag.clone()]),
        Reference::Digest(_) => {
            let tags = request.head.query.all("tag").map(str::parse).collect::<Result<Vec<Tag>, _>>()?;
            if tags.len() > MAX_TAGS {
                let message = format!("at most {MAX_TAGS} tags can be set at once");
                return Err(Refusal::new(Code::TagInvalid, message).status(StatusCode::URI_TOO_LONG));
            }
            Ok(tags)
        }
    }
}

/// Whether what a manifest needs must be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// All of it.
    Needs,
    /// It comes when it is asked for: a cache.
    Nothing,
}

/// Writes the bytes, and then, in one transaction, checks that all it needs is here, and notes it and its tags.
pub async fn keep(
    storage: &Storage,
    name: &RepositoryName,
    digest: &Digest,
    bytes: Vec<u8>,
    facts: Facts,
    tags: &[Tag],
    check: Check,
) -> Result<(), Refusal> {
    let (blobs, hold) = (storage.blobs.clone(), storage.blobs.hold(digest));
    let size = bytes.len() as u64;
    let hold = blocking(move || blobs.put(&bytes, &hold).map(|()| hold)).await?;
    let row = ManifestRow {
        digest: digest.clone(),
        media_type: facts.media_type,
        size,
        added: now(),
        subject: facts.subject,
        artifact: facts.artifact,
        annotations: facts.annotations,
    };
    let (needs, name) = (facts.needs, name.clone());
    let tags: Vec<TagRow> = tags
        .iter()
        .map(|tag| TagRow { tag: tag.as_str().to_owned(), digest: digest.clone(), moved: row.added })
        .collect();
    let kept = storage.change(move |change| {
        let repository = change.repository(name.as_str())?;
        let faults = match check {
            Check::Needs => faults(change, repository, &needs)?,
            Check::Nothing => Vec::new(),
        };
        if faults.is_empty() {
            let needs: Vec<Digest> = needs.into_iter().map(|need| need.digest).collect();
            change.put_manifest(repository, &row, &needs)?;
            for tag in &tags {
                change.set_tag(repository, tag)?;
            }
        }
        Ok(faults)
    });
    let faults = kept.await?;
    drop(hold);
    match faults.into_iter().map(Refusal::from).reduce(Refusal::and) {
        None => Ok(()),
        Some(refusal) => Err(refusal),
    }
}

/// Something that a manifest needs, and that is not so.
enum Fault {
    Missing(Digest),
    Size { digest: Digest, told: u64, found: u64 },
}

fn faults(change: &RegistryChange<'_>, repository: RepositoryId, needs: &[Need]) -> Result<Vec<Fault>, StoreError> {
    let mut faults = Vec::new();
    let view = change.view();
    for need in needs {
        let found = match view.blob(repository, &need.digest)? {
            Some(size) => Some(size),
            None => view.manifest(repository, &need.digest)?.map(|row| row.size),
        };
        match found {
            None if need.is_foreign => {}
            None => faults.push(Fault::Missing(need.digest.clone())),
            Some(found) if found != need.size => {
                faults.push(Fault::Size { digest: need.digest.clone(), told: need.size, found });
            }
            Some(_) => {}
        }
    }
    Ok(faults)
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing(digest) => Refusal::new(Code::ManifestBlobUnknown, "blob unknown to registry")
                .detail(serde_json::json!({"digest": digest.as_str()})),
            Fault::Size { digest, told, found } => Refusal::new(
                Code::ManifestInvalid,
                format!("manifest invalid: it says that {digest} has {told} bytes, but it has {found}"),
            ),
        }
    }
}

/// `DELETE`: a tag alone, or a manifest with all its tags.
pub async fn delete(request: Request<'_>, name: &RepositoryName, reference: Reference) -> Result<Response, Refusal> {
    request.may(&[Action::Delete], name)?;
    let repository = known(request, name)?;
    let gone = reference.clone();
    let removed = request.registry.storage.change(move |change| match &gone {
        Reference::Tag(tag) => change.remove_tag(repository, tag.as_str()),
        Reference::Digest(digest) => change.remove_manifest(repository, digest),
    });
    if !removed.await? {
        return Err(unknown(&reference));
    }
    request.tell(Done::Delete, "manifests", || {
        let digest = if let Reference::Digest(digest) = &reference { digest.to_string() } else { String::new() };
        let tag = tag_of(&reference).map(|tag| tag.as_str().to_owned()).unwrap_or_default();
        Target { digest, tag, repository: name.as_str().to_owned(), ..Target::default() }
    });
    Ok(Response::empty(StatusCode::ACCEPTED))
}

/// `MANIFEST_UNKNOWN`.
pub fn unknown(reference: &Reference) -> Refusal {
    Refusal::new(Code::ManifestUnknown, "manifest unknown")
        .detail(serde_json::json!({"reference": reference.to_string()}))
}
