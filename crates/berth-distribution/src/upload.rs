//! Writing to a repository: what is there is not sent, what breaks off goes on where it stopped.

use std::{
    io::{Read, Seek, SeekFrom},
    time::Duration,
};

use berth_model::{Digest, ImageRef};
use berth_oci::image::Descriptor;
use sha2::{Digest as _, Sha256};

use crate::{
    error::DistributionError,
    http::{Body, Response},
    repository::Repository,
    session::{Ask, Session, pause, refusal},
    url::Url,
};

/// How often a blob is begun or gone on with before the push fails.
const ATTEMPTS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Blobs up to this size travel with the request that ends the upload; larger ones before it, so that they can go on after a break.
const WHOLE: u64 = 4 << 20;

/// What became of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The repository had it.
    Existed,
    /// The registry had it in another repository.
    Mounted(String),
    /// It was sent.
    Uploaded,
}

/// A file that counts what was read of it.
struct Metered<'a, R> {
    inner: R,
    at: u64,
    told: &'a mut (dyn FnMut(u64) + Send),
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at += count as u64;
        (self.told)(self.at);
        Ok(count)
    }
}

impl Repository {
    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, DistributionError> {
        self.exists(&format!("{}/blobs/{digest}", self.path()))
    }

    /// Whether the repository has a manifest.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn has_manifest(&self, digest: &Digest) -> Result<bool, DistributionError> {
        self.exists(&format!("{}/manifests/{digest}", self.path()))
    }

    fn exists(&self, path: &str) -> Result<bool, DistributionError> {
        let session = self.registry();
        let url = session.url(path);
        let response =
            session.send(Ask::new("HEAD", url.clone(), self.push_scope()).header("Accept", "*/*"), self.cancel())?;
        match response.status() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refusal(response, "HEAD", &url)),
        }
    }

    /// Sees to it that the repository has a blob. `from` are other repositories of the registry that probably have it; `open` gives its bytes;
    /// `told` hears how many were sent.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn push_blob<R: Read + Seek + Send>(
        &self,
        blob: &Descriptor,
        from: &[String],
        open: impl Fn() -> std::io::Result<R>,
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Sent, DistributionError> {
        if self.has_blob(&blob.digest)? {
            return Ok(Sent::Existed);
        }
        let mut location = None;
        for other in from {
            match self.begin(Some((&blob.digest, other)))? {
                None => return Ok(Sent::Mounted(other.clone())),
                Some(url) => location = Some(url),
            }
        }
        let mut location = match location {
            Some(url) => url,
            None => self
                .begin(None)?
                .ok_or_else(|| DistributionError::Invalid("a mount that nobody asked for".to_owned()))?,
        };
        let mut offset = 0;
        for attempt in 1.. {
            let mut file =
                open().map_err(|error| DistributionError::Invalid(format!("reading {}: {error}", blob.digest)))?;
            match self.upload(blob, &mut location, offset, &mut file, told) {
                Ok(()) => return Ok(Sent::Uploaded),
                Err(error) if attempt < ATTEMPTS && goes_on(&error) => {
                    tracing::debug!(blob = %blob.digest, %error, "going on with an upload that broke off");
                    pause(FIRST_WAIT * 2_u32.pow(attempt - 1), self.cancel())?;
                }
                Err(error) => return Err(error),
            }
            // What arrived need not be sent again; an upload that is not known any more is begun anew. The last answer may have been lost.
            offset = match self.arrived(&mut location, blob.size) {
                Ok(Some(offset)) => offset,
                Ok(None) if self.has_blob(&blob.digest).unwrap_or(false) => return Ok(Sent::Uploaded),
                Ok(None) => {
                    location = self.begin(None)?.unwrap_or(location);
                    0
                }
                Err(_) => offset,
            };
        }
        unreachable!("the last attempt gives its error")
    }

    /// Sees to it that the repository has a blob that another repository of the registry has, without sending it. `false` if the registry does
    /// not do that.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, DistributionError> {
        Ok(self.has_blob(digest)? || self.begin(Some((digest, from)))?.is_none())
    }

    /// Opens an upload; with a digest and another repository the registry may take the blob from there, and then there is nothing to send.
    fn begin(&self, mount: Option<(&Digest, &str)>) -> Result<Option<Url>, DistributionError> {
        let session = self.registry();
        let mut url = session.url(&format!("{}/blobs/uploads/", self.path()));
        let mut scope = self.push_scope().to_owned();
        if let Some((digest, from)) = mount {
            url = url.with_query("mount", digest.as_str()).with_query("from", from);
            scope.push_str(&format!(" repository:{from}:pull"));
        }
        let sent = session.send(Ask::new("POST", url.clone(), &scope), self.cancel());
        let response = match sent {
            // Whoever may not read the other repository can still send the blob.
            Err(DistributionError::Denied { .. } | DistributionError::Refused { .. }) if mount.is_some() => {
                let url = session.url(&format!("{}/blobs/uploads/", self.path()));
                session.send(Ask::new("POST", url, self.push_scope()), self.cancel())?
            }
            sent => sent?,
        };
        match response.status() {
            201 if mount.is_some() => Ok(None),
            202 => located(session, &response, &url).map(Some),
            _ => Err(refusal(response, "POST", &url)),
        }
    }

    fn upload<R: Read + Seek + Send>(
        &self,
        blob: &Descriptor,
        location: &mut Url,
        offset: u64,
        file: &mut R,
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), DistributionError> {
        let session = self.registry();
        let failed = |error: std::io::Error| DistributionError::Invalid(format!("reading {}: {error}", blob.digest));
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let left = blob.size - offset;
        let mut source = Metered { inner: file, at: offset, told };
        if left > WHOLE || (offset > 0 && left > 0) {
            let ask = Ask::new("PATCH", location.clone(), self.push_scope())
                .header("Content-Type", "application/octet-stream")
                .header("Content-Range", format!("{offset}-{}", blob.size - 1))
                .body(Body::Stream(&mut source, left));
            let response = session.send(ask, self.cancel())?;
            if response.status() != 202 {
                return Err(refusal(response, "PATCH", location));
            }
            let next = located(session, &response, location)?;
            response.forget();
            *location = next;
            return self.finish(blob, location, Body::Nothing);
        }
        self.finish(blob, location, Body::Stream(&mut source, left))
    }

    fn finish<'a>(&'a self, blob: &Descriptor, location: &Url, body: Body<'a>) -> Result<(), DistributionError> {
        let url = location.clone().with_query("digest", blob.digest.as_str());
        let ask = Ask::new("PUT", url.clone(), self.push_scope())
            .header("Content-Type", "application/octet-stream")
            .body(body);
        let response = self.registry().send(ask, self.cancel())?;
        match response.status() {
            201 | 204 => {
                response.forget();
                Ok(())
            }
            _ => Err(refusal(response, "PUT", &url)),
        }
    }

    /// How much of an upload arrived; `None` if it is not known any more, or cannot be gone on with.
    fn arrived(&self, location: &mut Url, size: u64) -> Result<Option<u64>, DistributionError> {
        let session = self.registry();
        let response = session.send(Ask::new("GET", location.clone(), self.push_scope()), self.cancel())?;
        if response.status() != 204 {
            response.forget();
            return Ok(None);
        }
        // `0-0` is said for one byte and for none: then it is begun again.
        let end = response.header("range").and_then(|range| range.rsplit_once('-')?.1.trim().parse::<u64>().ok());
        *location = located(session, &response, location)?;
        Ok(end.filter(|end| *end > 0 && *end < size).map(|end| end + 1))
    }

    /// Puts a manifest or index under its digest, or under a tag, and gives the digest (SHA-256) of its bytes.
    ///
    /// # Errors
    /// [`DistributionError`].
    pub fn push_manifest(
        &self,
        kind: &str,
        bytes: &[u8],
        reference: &ManifestName,
    ) -> Result<Digest, DistributionError> {
        let session = self.registry();
        let url = session.url(&format!("{}/manifests/{}", self.path(), reference.0));
        let ask = Ask::new("PUT", url.clone(), self.push_scope()).header("Content-Type", kind).body(Body::Bytes(bytes));
        let response = session.send(ask, self.cancel())?;
        match response.status() {
            200..=204 => {
                response.forget();
                Ok(Digest::sha256(&Sha256::digest(bytes).into()))
            }
            _ => Err(refusal(response, "PUT", &url)),
        }
    }
}

/// Under which name a manifest is put.
pub struct ManifestName(String);

impl ManifestName {
    /// Its digest.
    #[must_use]
    pub fn digest(digest: &Digest) -> Self {
        Self(digest.to_string())
    }

    /// The tag of a reference; `None` if it has none.
    #[must_use]
    pub fn tag(reference: &ImageRef) -> Option<Self> {
        reference.tag().map(|tag| Self(tag.to_owned()))
    }
}

/// Where an upload goes on.
fn located(session: &Session, response: &Response, url: &Url) -> Result<Url, DistributionError> {
    let location = response.header("location").and_then(|location| url.join(location));
    let mut location =
        location.ok_or_else(|| DistributionError::Invalid(format!("{url} does not say where the upload goes on")))?;
    // A registry behind a proxy may take itself for a plain one.
    let own = session.origin();
    if own.secure && !location.origin.secure && location.origin.host == own.host {
        location.origin = own;
    }
    Ok(location)
}

/// Whether an upload that failed so may go on.
fn goes_on(error: &DistributionError) -> bool {
    let of_upload = matches!(error, DistributionError::Status { status, .. } if matches!(status.0, 408 | 416));
    error.is_transient() || of_upload || matches!(error, DistributionError::Refused { .. })
}
