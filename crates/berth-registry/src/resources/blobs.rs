//! Blobs: whole, in parts, and gone. Sections "Pulling blobs" and "Deleting Blobs".

use std::{fs::File, sync::Arc};

use ::http::{StatusCode, header};
use berth_model::Digest;
use bytes::Bytes;

use crate::{
    auth::rules::Action,
    http::{
        range::{self, Span, Wanted},
        response::{Growth, Piece, Response},
    },
    names::RepositoryName,
    notify::event::{Action as Done, Target},
    proxy::Download,
    refusal::{Code, Refusal},
    registry::Request,
    resources::{is_unchanged, known},
};

const MEDIA_TYPE: &str = "application/octet-stream";

/// `GET` and `HEAD`.
pub async fn get(request: Request<'_>, name: &RepositoryName, digest: &Digest) -> Result<Response, Refusal> {
    request.may(&[Action::Pull], name)?;
    request.registry.limits.may_fetch(request.peer, request.caller)?;
    let response = find(request, name, digest).await?;
    if request.head.method == ::http::Method::GET {
        let size = response.length();
        request.registry.limits.fetched(request.peer, request.caller, size);
        // Parts are parts of a pull that was told, or will be.
        if response.status == StatusCode::OK {
            request.tell(Done::Pull, "blobs", || Target::of(name.as_str(), MEDIA_TYPE, digest.as_str(), size));
        }
    }
    Ok(response)
}

async fn find(request: Request<'_>, name: &RepositoryName, digest: &Digest) -> Result<Response, Refusal> {
    let storage = &request.registry.storage;
    if let Some(response) = from_upstream(request, name, digest).await? {
        return Ok(response);
    }
    let repository = known(request, name)?;
    let size = storage.read(|view| match view.blob(repository, digest)? {
        Some(size) => Ok(Some(size)),
        // Some clients fetch what a descriptor names as a blob, whatever it is.
        None => Ok(view.manifest(repository, digest)?.map(|row| row.size)),
    })?;
    let file = storage.blobs.open_blob(digest)?;
    let (Some(size), Some(file)) = (size, file) else { return Err(unknown(digest)) };
    storage.touch(repository, digest);
    Ok(content(request, digest, size, &Arc::new(file)))
}

/// Of a cache: a blob that is not here yet, while it comes.
async fn from_upstream(
    request: Request<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Response>, Refusal> {
    let Some(proxy) = request.upstream else { return Ok(None) };
    let storage = &request.registry.storage;
    let is_here = storage.read(|view| match view.repository(name.as_str())? {
        Some(repository) => Ok(view.blob(repository, digest)?.is_some()),
        None => Ok(false),
    })?;
    if is_here {
        return Ok(None);
    }
    let only_head = request.head.method == ::http::Method::HEAD;
    let Some((length, download)) = proxy.blob(storage, name, digest, only_head)? else { return Ok(None) };
    let piece = match download {
        None => Piece::Promised(length),
        Some(Download { mut growth, .. }) if request.head.headers.contains_key(header::RANGE) => {
            // A part is served from the whole.
            let done = growth.wait_for(|growth| !matches!(growth, Growth::Bytes(_))).await.map(|growth| *growth);
            return match done {
                Ok(Growth::Done) => Ok(None),
                _ => Err(Refusal::new(Code::Unavailable, format!("{} does not give the blob", proxy.domain()))
                    .status(StatusCode::BAD_GATEWAY)),
            };
        }
        Some(Download { file, growth }) => Piece::Growing { file, length, growth },
    };
    let response = Response::empty(StatusCode::OK).with("Content-Type", MEDIA_TYPE);
    let response = response.with("Docker-Content-Digest", digest.as_str()).with("ETag", format!("\"{digest}\""));
    Ok(Some(response.piece(piece)))
}

fn content(request: Request<'_>, digest: &Digest, size: u64, file: &Arc<File>) -> Response {
    let headers = |response: Response| {
        response
            .with("Docker-Content-Digest", digest.as_str())
            .with("ETag", format!("\"{digest}\""))
            .with("Accept-Ranges", "bytes")
            .with("Cache-Control", "max-age=31536000")
    };
    if is_unchanged(&request.head.headers, digest) {
        return headers(Response::empty(StatusCode::NOT_MODIFIED));
    }
    let part = |span: Span| Piece::File { file: Arc::clone(file), offset: span.offset, length: span.length };
    match range::wanted(asked_range(request, digest), size) {
        Wanted::Whole => {
            let response = Response::empty(StatusCode::OK).with("Content-Type", MEDIA_TYPE);
            headers(response).piece(part(Span { offset: 0, length: size }))
        }
        Wanted::Nothing => headers(
            Refusal::new(Code::SizeInvalid, format!("none of this range lies within the {size} bytes of the blob"))
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .response(),
        )
        .with("Content-Range", format!("bytes */{size}")),
        Wanted::Parts(spans) => match spans.as_slice() {
            [span] => {
                let response = Response::empty(StatusCode::PARTIAL_CONTENT).with("Content-Type", MEDIA_TYPE);
                headers(response).with("Content-Range", span.content_range(size)).piece(part(*span))
            }
            spans => headers(several(spans, size, digest, part)),
        },
    }
}

/// The range that counts: a condition that does not hold asks for the whole. RFC 9110, section 13.1.5.
fn asked_range<'a>(request: Request<'a>, digest: &Digest) -> Option<&'a str> {
    let condition = request.head.header(&header::IF_RANGE);
    let holds = condition.is_none_or(|tag| tag.trim() == format!("\"{digest}\""));
    request.head.header(&header::RANGE).filter(|_| holds)
}

/// Several parts. RFC 9110, section 14.6.
fn several(spans: &[Span], size: u64, digest: &Digest, part: impl Fn(Span) -> Piece) -> Response {
    // The boundary must not occur in the parts; guessing 64 bits of the digest of the content in itself is not to be feared.
    let boundary = &digest.hex()[..16];
    let response = Response::empty(StatusCode::PARTIAL_CONTENT);
    let mut response = response.with("Content-Type", format!("multipart/byteranges; boundary={boundary}"));
    for span in spans {
        let range = span.content_range(size);
        let head = format!("\r\n--{boundary}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Range: {range}\r\n\r\n");
        response = response.piece(Piece::Bytes(Bytes::from(head))).piece(part(*span));
    }
    response.piece(Piece::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))))
}

/// `DELETE`: the blob leaves this repository; its file goes with the next collection, if no other one has it.
pub async fn delete(request: Request<'_>, name: &RepositoryName, digest: Digest) -> Result<Response, Refusal> {
    request.may(&[Action::Delete], name)?;
    let repository = known(request, name)?;
    let gone = digest.clone();
    let removed = request.registry.storage.change(move |change| change.remove_blob(repository, &gone)).await?;
    if !removed {
        return Err(unknown(&digest));
    }
    request.tell(Done::Delete, "blobs", || {
        let (digest, repository) = (digest.to_string(), name.as_str().to_owned());
        Target { digest, repository, ..Target::default() }
    });
    Ok(Response::empty(StatusCode::ACCEPTED).with("Docker-Content-Digest", digest.as_str()))
}

fn unknown(digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, "blob unknown to registry").detail(serde_json::json!({"digest": digest.as_str()}))
}
