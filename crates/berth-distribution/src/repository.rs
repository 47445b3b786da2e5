//! Reading a repository: what its names point to, its documents, its blobs and its tags.

use std::{io::Read, ops::Range, sync::Arc};

use berth_model::{Cancel, Digest, ImageRef};
use berth_oci::image::{Descriptor, media_type};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{
    error::DistributionError,
    http::Response,
    session::{Ask, Session, refusal},
    url::{Url, encode},
};

/// No manifest is larger, in bytes. Registries take 4 MiB.
const MAX_MANIFEST: u64 = 8 << 20;
/// No list of tags is longer, in bytes a page and in pages.
const MAX_TAGS: u64 = 32 << 20;
const MAX_PAGES: usize = 10_000;

/// One repository, as one user sees it: its mirrors and the registry itself. Cheap to clone; its calls block.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
    cancel: Cancel,
}

struct Inner {
    path: String,
    sessions: Vec<Session>,
    pull: String,
    push: String,
}

/// The bytes of a blob, or of a part of it.
pub struct BlobBody {
    response: Response,
    /// Where in the blob they begin: a server that does not know ranges begins at the beginning.
    pub start: u64,
    /// Whether the server gave a part, as it was asked to.
    pub is_part: bool,
}

impl Read for BlobBody {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.response.read(buffer)
    }
}

impl Repository {
    pub(crate) fn new(path: &str, sessions: Vec<Session>, cancel: Cancel) -> Self {
        let scope = |actions: &str| format!("repository:{path}:{actions}");
        let inner = Inner { path: path.to_owned(), sessions, pull: scope("pull"), push: scope("pull,push") };
        Self { inner: Arc::new(inner), cancel }
    }

    /// Its path within the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    pub(crate) fn registry(&self) -> &Session {
        self.inner.sessions.last().expect("the registry itself is always one of them")
    }

    pub(crate) fn push_scope(&self) -> &str {
        &self.inner.push
    }

    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// What a tag or digest of the repository points to just now.
    ///
    /// # Errors
    /// [`DistributionError`]; of several servers that of the last, the registry itself.
    pub fn resolve(&self, reference: &ImageRef) -> Result<Descriptor, DistributionError> {
        let name = name_of(reference);
        self.first(|session| {
            let url = session.url(&format!("{}/manifests/{name}", self.inner.path));
            let ask = Ask::new("HEAD", url.clone(), &self.inner.pull).header("Accept", accepted());
            let by_document = || self.get_manifest(session, reference, &name).map(|(descriptor, _)| descriptor);
            let response = match session.send(ask, &self.cancel) {
                // A body may say why, which a head cannot.
                Err(DistributionError::RateLimited { .. }) => return by_document(),
                response => response?,
            };
            match response.status() {
                200 => {}
                404 => return Err(DistributionError::NotFound(reference.to_string())),
                405 | 501 => return by_document(),
                _ => return Err(refusal(response, "HEAD", &url)),
            }
            match described(&response, reference) {
                Some(descriptor) => Ok(descriptor),
                // Not every server tells the digest; then the document itself has to.
                None => by_document(),
            }
        })
    }

    /// A manifest or index by its digest. Its bytes are checked against it.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, DistributionError> {
        let name = descriptor.digest.to_string();
        self.first(|session| {
            let url = session.url(&format!("{}/manifests/{name}", self.inner.path));
            let kind = if descriptor.media_type.is_empty() {
                accepted()
            } else {
                format!("{}, */*;q=0.5", descriptor.media_type)
            };
            let ask = Ask::new("GET", url.clone(), &self.inner.pull).header("Accept", kind);
            let mut response = session.send(ask, &self.cancel)?;
            match response.status() {
                200 => {}
                404 => return Err(DistributionError::NotFound(name.clone())),
                _ => return Err(refusal(response, "GET", &url)),
            }
            refuse_html(&response, &url)?;
            read_document(&mut response, &url)
        })
    }

    fn get_manifest(
        &self,
        session: &Session,
        reference: &ImageRef,
        name: &str,
    ) -> Result<(Descriptor, Vec<u8>), DistributionError> {
        let url = session.url(&format!("{}/manifests/{name}", self.inner.path));
        let ask = Ask::new("GET", url.clone(), &self.inner.pull).header("Accept", accepted());
        let mut response = session.send(ask, &self.cancel)?;
        match response.status() {
            200 => {}
            404 => return Err(DistributionError::NotFound(reference.to_string())),
            _ => return Err(refusal(response, "GET", &url)),
        }
        refuse_html(&response, &url)?;
        let kind = media_type_of(&response);
        let bytes = read_document(&mut response, &url)?;
        let digest = Digest::sha256(&Sha256::digest(&bytes).into());
        if let Some(wanted) =
            reference.digest().filter(|wanted| **wanted != digest && wanted.algorithm() == digest.algorithm())
        {
            return Err(DistributionError::Invalid(format!("{url} has digest {digest}, but should have {wanted}")));
        }
        let digest = reference.digest().cloned().unwrap_or(digest);
        Ok((Descriptor::new(&kind, digest, bytes.len() as u64), bytes))
    }

    /// The bytes of a blob within a range. The caller checks them: a server may send others, or too few.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn blob(&self, blob: &Descriptor, range: Range<u64>) -> Result<BlobBody, DistributionError> {
        let part = if range.start == 0 && range.end >= blob.size { None } else { Some(&range) };
        let path = format!("{}/blobs/{}", self.inner.path, blob.digest);
        let found = self.first(|session| self.get_blob(session, &session.url(&path), part));
        match found {
            // Some layers may not be handed on: whoever made them says where they are.
            Err(DistributionError::NotFound(_)) if !blob.urls.is_empty() => self.foreign(blob, part),
            found => found,
        }
    }

    fn foreign(&self, blob: &Descriptor, part: Option<&Range<u64>>) -> Result<BlobBody, DistributionError> {
        let mut failed = DistributionError::NotFound(blob.digest.to_string());
        for url in blob.urls.iter().filter_map(|url| Url::parse(url)) {
            match self.get_blob(self.registry(), &url, part) {
                Ok(body) => return Ok(body),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn get_blob(&self, session: &Session, url: &Url, part: Option<&Range<u64>>) -> Result<BlobBody, DistributionError> {
        // Bytes as they are: no server is to compress what has a digest.
        let mut ask = Ask::new("GET", url.clone(), &self.inner.pull).header("Accept-Encoding", "identity");
        if let Some(range) = part {
            ask = ask.header("Range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let response = session.send(ask, &self.cancel)?;
        let is_part = response.status() == 206;
        let start = match response.status() {
            200 => 0,
            206 => match response.header("content-range").and_then(range_start) {
                Some(start) if part.is_some_and(|range| start <= range.start) => start,
                _ => {
                    return Err(DistributionError::Invalid(format!(
                        "{url} answers with another range than was asked for"
                    )));
                }
            },
            404 => return Err(DistributionError::NotFound(url.to_string())),
            _ => return Err(refusal(response, "GET", url)),
        };
        refuse_html(&response, url)?;
        Ok(BlobBody { response, start, is_part })
    }

    /// All tags, as the registry orders them.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn tags(&self) -> Result<Vec<String>, DistributionError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        self.first(|session| {
            let mut url = session.url(&format!("{}/tags/list", self.inner.path));
            let mut tags = Vec::new();
            for _ in 0..MAX_PAGES {
                let mut response = session.send(Ask::new("GET", url.clone(), &self.inner.pull), &self.cancel)?;
                match response.status() {
                    200 => {}
                    404 => return Err(DistributionError::NotFound(self.inner.path.clone())),
                    _ => return Err(refusal(response, "GET", &url)),
                }
                refuse_html(&response, &url)?;
                let next = response.header("link").and_then(next_page).and_then(|next| url.join(&next));
                let body = response.whole(MAX_TAGS).map_err(|source| broken("Get", &url, source))?;
                let page: Page = serde_json::from_slice(&body)
                    .map_err(|error| DistributionError::Invalid(format!("list of tags {url}: {error}")))?;
                tags.extend(page.tags.unwrap_or_default());
                match next.filter(|next| next.origin == url.origin && *next != url) {
                    Some(next) => url = next,
                    None => return Ok(tags),
                }
            }
            Err(DistributionError::Invalid(format!("the list of tags of {} does not end", self.inner.path)))
        })
    }

    /// Asks mirrors and registry in order, until one has it.
    fn first<T>(&self, mut ask: impl FnMut(&Session) -> Result<T, DistributionError>) -> Result<T, DistributionError> {
        let (registry, mirrors) = self.inner.sessions.split_last().expect("the registry itself is always one of them");
        for mirror in mirrors {
            match ask(mirror) {
                Ok(found) => return Ok(found),
                Err(DistributionError::Cancelled) => return Err(DistributionError::Cancelled),
                Err(error) => tracing::debug!(mirror = %mirror.endpoint.origin, %error, "asking the next one"),
            }
        }
        ask(registry)
    }
}

/// The digest, if the reference has one, or else the tag.
fn name_of(reference: &ImageRef) -> String {
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => encode(reference.tag().unwrap_or_default()),
    }
}

/// Every kind of manifest that is understood (REG-007).
fn accepted() -> String {
    [media_type::INDEX, media_type::MANIFEST, media_type::DOCKER_LIST, media_type::DOCKER_MANIFEST, "*/*;q=0.5"]
        .join(", ")
}

fn media_type_of(response: &Response) -> String {
    let kind = response.header("content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_owned()
}

/// What the headers alone tell, if they tell all.
fn described(response: &Response, reference: &ImageRef) -> Option<Descriptor> {
    let told = response.header("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
    let digest = reference.digest().cloned().or(told)?;
    let size = response.header("content-length")?.trim().parse().ok().filter(|size| *size > 0)?;
    let kind = media_type_of(response);
    let known = media_type::is_index(&kind) || media_type::is_manifest(&kind);
    known.then(|| Descriptor::new(&kind, digest, size))
}

fn read_document(response: &mut Response, url: &Url) -> Result<Vec<u8>, DistributionError> {
    response.whole(MAX_MANIFEST).map_err(|source| broken("Get", url, source))
}

pub(crate) fn broken(method: &str, url: &Url, source: std::io::Error) -> DistributionError {
    DistributionError::Request { method: method.to_owned(), url: url.to_string(), source }
}

/// A login page is no manifest, however friendly its status.
fn refuse_html(response: &Response, url: &Url) -> Result<(), DistributionError> {
    let kind = media_type_of(response);
    if kind.eq_ignore_ascii_case("text/html") {
        return Err(DistributionError::NotARegistry {
            url: url.to_string(),
            what: "a web page (text/html)".to_owned(),
        });
    }
    Ok(())
}

/// `bytes 5-9/10` begins at 5.
fn range_start(header: &str) -> Option<u64> {
    header.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// `<URL>; rel="next"`.
fn next_page(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.replace(['"', ' '], "").split(';').any(|parameter| parameter == "rel=next");
        is_next.then(|| url.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_ranges_and_pages_are_read() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(
            next_page("</v2/x/tags/list?last=b&n=2>; rel=\"next\"").as_deref(),
            Some("/v2/x/tags/list?last=b&n=2")
        );
        assert_eq!(next_page("</a>; rel=prev, </b>;rel=next").as_deref(), Some("/b"));
        assert_eq!(next_page("nonsense"), None);
    }
}
