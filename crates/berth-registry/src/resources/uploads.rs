//! Uploads: begun, gone on with, finished, mounted, cancelled. Section "Push".

use ::http::{StatusCode, header};
use berth_model::{Algorithm, Digest};
use berth_store::BlobRow;

use crate::{
    auth::rules::Action,
    http::{body::Body, response::Response},
    names::RepositoryName,
    notify::event::{Action as Done, Target},
    refusal::{Code, Refusal},
    registry::Request,
    storage::{now, uploads::Upload},
};

/// `POST`: begins an upload, takes a whole blob, or mounts one of another repository.
pub async fn post(request: Request<'_>, body: &mut Body<'_>, name: RepositoryName) -> Result<Response, Refusal> {
    request.may(&[Action::Pull, Action::Push], &name)?;
    let query = &request.head.query;
    if let Some(digest) = query.get("mount") {
        let digest: Digest = digest.parse()?;
        if let Some((from, size)) = mount(request, &name, &digest).await? {
            request.tell(Done::Mount, "blobs", || Target { from_repository: from, ..blob(&name, &digest, size) });
            return Ok(created(&name, &digest));
        }
    }
    if let Some(digest) = query.get("digest") {
        let digest: Digest = digest.parse()?;
        let mut upload = request.registry.storage.uploads.begin(&name, digest.algorithm())?;
        return match upload.append(body).await {
            Ok(()) => {
                let size = upload.written();
                request.registry.storage.commit(upload, &name, &digest).await?;
                request.tell(Done::Push, "blobs", || blob(&name, &digest, size));
                Ok(created(&name, &digest))
            }
            Err(error) => {
                // Nobody knows its name, so nobody could go on with it.
                request.registry.storage.uploads.cancel(upload)?;
                Err(error.into())
            }
        };
    }
    let algorithm = match query.get("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => {
            let shown: String = other.chars().take(32).collect();
            return Err(Refusal::new(
                Code::DigestInvalid,
                format!("unknown digest algorithm {shown:?}: use sha256 or sha512"),
            ));
        }
    };
    let upload = request.registry.storage.uploads.begin(&name, algorithm)?;
    Ok(progress(StatusCode::ACCEPTED, &name, &upload))
}

/// `GET`: how far it is. Section "Pushing a blob in chunks".
pub async fn get(request: Request<'_>, name: &RepositoryName, id: &str) -> Result<Response, Refusal> {
    request.may(&[Action::Pull, Action::Push], name)?;
    let upload = request.registry.storage.uploads.find(name, id).await?;
    Ok(progress(StatusCode::NO_CONTENT, name, &upload))
}

/// `PATCH`: one chunk, or a stream.
pub async fn patch(
    request: Request<'_>,
    body: &mut Body<'_>,
    name: &RepositoryName,
    id: &str,
) -> Result<Response, Refusal> {
    request.may(&[Action::Pull, Action::Push], name)?;
    let mut upload = request.registry.storage.uploads.find(name, id).await?;
    let end = check_range(request, body, name, &upload)?;
    let taken = upload.append(body).await;
    // Also what came before a break: the client is told of it when it asks how far it is.
    upload.sync().await?;
    taken?;
    check_end(&upload, end)?;
    Ok(progress(StatusCode::ACCEPTED, name, &upload))
}

/// `PUT`: the last chunk, if there is one, and the digest of all.
pub async fn put(
    request: Request<'_>,
    body: &mut Body<'_>,
    name: RepositoryName,
    id: &str,
) -> Result<Response, Refusal> {
    request.may(&[Action::Pull, Action::Push], &name)?;
    let digest = request.head.query.get("digest");
    let digest = digest.ok_or_else(|| Refusal::new(Code::DigestInvalid, "the query must have the blob's digest"))?;
    let digest: Digest = digest.parse()?;
    let mut upload = request.registry.storage.uploads.find(&name, id).await?;
    let end = check_range(request, body, &name, &upload)?;
    upload.append(body).await?;
    check_end(&upload, end)?;
    let size = upload.written();
    request.registry.storage.commit(upload, &name, &digest).await?;
    request.tell(Done::Push, "blobs", || blob(&name, &digest, size));
    Ok(created(&name, &digest))
}

/// `DELETE`: nobody will go on with it.
pub async fn delete(request: Request<'_>, name: &RepositoryName, id: &str) -> Result<Response, Refusal> {
    request.may(&[Action::Pull, Action::Push], name)?;
    let upload = request.registry.storage.uploads.find(name, id).await?;
    request.registry.storage.uploads.cancel(upload)?;
    Ok(Response::empty(StatusCode::NO_CONTENT))
}

/// A blob as notifications tell of it.
fn blob(name: &RepositoryName, digest: &Digest, size: u64) -> Target {
    Target::of(name.as_str(), "application/octet-stream", digest.as_str(), size)
}

/// Makes a blob of another repository one of this, if there is one that the caller may read: that repository, and the blob's size.
async fn mount(request: Request<'_>, name: &RepositoryName, digest: &Digest) -> Result<Option<(String, u64)>, Refusal> {
    request.registry.gate.admit_mount(request.head, request.peer, request.caller, name)?;
    let storage = &request.registry.storage;
    let sources = match request.head.query.get("from") {
        Some(from) => vec![from.to_owned()],
        None => storage.read(|view| view.holders(digest))?,
    };
    let is_open = |source: &RepositoryName| request.registry.gate.allows(request.caller, source, Action::Pull);
    let sources: Vec<RepositoryName> = sources.iter().filter_map(|text| text.parse().ok()).filter(is_open).collect();
    let hold = storage.blobs.hold(digest);
    let (target, digest) = (name.clone(), digest.clone());
    let mounted = storage.change(move |change| {
        for source in &sources {
            let Some(from) = change.view().repository(source.as_str())? else { continue };
            if let Some(size) = change.view().blob(from, &digest)? {
                let target = change.repository(target.as_str())?;
                change.add_blob(target, &BlobRow { digest, size, added: now() })?;
                return Ok(Some((source.as_str().to_owned(), size)));
            }
        }
        Ok(None)
    });
    let mounted = mounted.await?;
    drop(hold);
    Ok(mounted)
}

/// Checks the place of a chunk, if it names one; gives the offset that the upload must have after it.
fn check_range(
    request: Request<'_>,
    body: &Body<'_>,
    name: &RepositoryName,
    upload: &Upload,
) -> Result<Option<u64>, Refusal> {
    let Some(text) = request.head.header(&header::CONTENT_RANGE) else { return Ok(None) };
    let (first, last) = content_range(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        Refusal::new(Code::BlobUploadInvalid, format!("the Content-Range {shown:?} is not FIRST-LAST"))
    })?;
    if first != upload.written() {
        let message = format!("the chunk begins at byte {first}, the upload has {} bytes", upload.written());
        return Err(Refusal::new(Code::BlobUploadInvalid, message)
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .with("Location", location(name, upload))
            .with("Range", range(upload))
            .with("Docker-Upload-UUID", upload.id()));
    }
    let length = last - first + 1;
    if body.length().is_some_and(|told| told != length) {
        return Err(Refusal::new(Code::SizeInvalid, format!("the Content-Range has {length} bytes, the body has not")));
    }
    Ok(Some(last + 1))
}

/// A chunk without a length of its own must end where it said.
fn check_end(upload: &Upload, end: Option<u64>) -> Result<(), Refusal> {
    match end {
        Some(end) if end != upload.written() => {
            let message = format!("the chunk should end at byte {end}, the upload has {} bytes", upload.written());
            Err(Refusal::new(Code::SizeInvalid, message))
        }
        _ => Ok(()),
    }
}

/// `FIRST-LAST`; some clients write it as RFC 9110 has it, `bytes FIRST-LAST/SIZE`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|n| is_number && *n < u64::MAX)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn progress(status: StatusCode, name: &RepositoryName, upload: &Upload) -> Response {
    Response::empty(status)
        .with("Location", location(name, upload))
        .with("Range", range(upload))
        .with("Docker-Upload-UUID", upload.id())
}

fn location(name: &RepositoryName, upload: &Upload) -> String {
    format!("/v2/{name}/blobs/uploads/{}", upload.id())
}

/// The first and last byte that are here. There is no way to say "none" but the one that clients know.
fn range(upload: &Upload) -> String {
    format!("0-{}", upload.written().saturating_sub(1))
}

fn created(name: &RepositoryName, digest: &Digest) -> Response {
    Response::empty(StatusCode::CREATED)
        .with("Location", format!("/v2/{name}/blobs/{digest}"))
        .with("Docker-Content-Digest", digest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        for (text, expected) in [
            ("0-9", Some((0, 9))),
            ("5-5", Some((5, 5))),
            ("bytes 0-9/10", Some((0, 9))),
            ("9-0", None),
            ("0-", None),
            ("-9", None),
            ("0", None),
            ("a-b", None),
            ("+0-9", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
