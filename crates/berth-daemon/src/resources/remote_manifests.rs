//! The manifests behind a name, as they are at its registry, and lists of manifests on their way there. Not of the reference API: its client
//! asks registries itself, which knows neither the daemon's mirrors nor its certificates.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::auth::{ManifestList, PushedManifestList, RemoteManifest, RemoteManifests};
use berth_distribution::{DistributionError, ManifestName, Registries, Repository};
use berth_image::image_name;
use berth_model::{Cancel, Digest, ImageRef};
use berth_oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::registry::credentials;
use crate::translate::image;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/distribution/{name}/manifests", "DistributionManifests", manifests),
    endpoint!("POST" "/distribution/{name}/manifests", "DistributionPushManifests", push),
];

/// No configuration is larger, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

async fn manifests(call: Call) -> Result<Reply, ApiError> {
    let reference = image_name(&call.object, "")?;
    let (registries, credentials) = (registries(&call, &reference), credentials(&call));
    let found = Daemon::blocking(move || {
        let repository = registries.repository(&reference, &credentials, &Cancel::default());
        let found = repository.and_then(|repository| look(&repository, &reference));
        found.map_err(|error| match error {
            DistributionError::NotFound(_) => {
                ApiError::not_found(format!("no such manifest: {}", reference.familiar()))
            }
            error => ApiError::new(error.kind(), error.to_string()),
        })
    });
    Ok(Reply::json(&found.await?))
}

/// The daemon's registries; that of the reference also without a certificate, if the caller wants that.
fn registries(call: &Call, reference: &ImageRef) -> Registries {
    let registries = call.daemon.registries.clone();
    if !call.query.flag("insecure") {
        return registries;
    }
    let mut settings = registries.settings().clone();
    settings.insecure.push(reference.domain().to_owned());
    Registries::new(settings)
}

async fn push(mut call: Call) -> Result<Reply, ApiError> {
    let reference = image_name(&call.object, "")?;
    let tag = ManifestName::tag(&reference).filter(|_| reference.digest().is_none());
    let tag = tag.ok_or_else(|| ApiError::invalid("a manifest list is put under a tag, not under a digest"))?;
    let list = call.document::<ManifestList>()?.unwrap_or_default();
    let (registries, credentials) = (registries(&call, &reference), credentials(&call));
    let pushed = Daemon::blocking(move || {
        let failed = |error: DistributionError| ApiError::new(error.kind(), error.to_string());
        let repository = registries.repository(&reference, &credentials, &Cancel::default()).map_err(failed)?;
        let mut moved = Vec::new();
        for manifest in &list.manifests {
            moved.extend(bring(&repository, &reference, manifest)?);
        }
        let bytes = decoded(&list.raw)?;
        let digest = repository.push_manifest(&list.media_type, &bytes, &tag).map_err(failed)?;
        Ok(PushedManifestList { digest: digest.to_string(), manifests: moved })
    });
    Ok(Reply::json(&pushed.await?))
}

/// Brings a manifest, with what it names, from another repository of the registry. Gives its name there, if it was not there before.
fn bring(repository: &Repository, target: &ImageRef, manifest: &RemoteManifest) -> Result<Option<String>, ApiError> {
    let failed = |error: DistributionError| ApiError::new(error.kind(), error.to_string());
    let source = image_name(&manifest.reference, "")?;
    if source.domain() != target.domain() {
        return Err(ApiError::invalid(format!("{source} is not in the registry of {target}")));
    }
    if source.path() == target.path() {
        return Ok(None);
    }
    let bytes = decoded(&manifest.raw)?;
    let document: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid(format!("manifest of {source}: {error}")))?;
    for blob in std::iter::once(&document.config).chain(&document.layers) {
        // What may not be handed on is at neither of them.
        if blob.urls.is_empty() && !repository.mount_blob(&blob.digest, source.path()).map_err(failed)? {
            return Err(ApiError::internal(format!(
                "error mounting {}@{} to {target}: push the image there first",
                source.repository(),
                blob.digest
            )));
        }
    }
    let digest: Digest = manifest.descriptor.digest.parse().map_err(|error| ApiError::invalid(format!("{error}")))?;
    let kind = &manifest.descriptor.media_type;
    repository.push_manifest(kind, &bytes, &ManifestName::digest(&digest)).map_err(failed)?;
    Ok(Some(format!("{}@{digest}", target.repository())))
}

fn decoded(base64: &str) -> Result<Vec<u8>, ApiError> {
    STANDARD.decode(base64).map_err(|error| ApiError::invalid(format!("a manifest's bytes: {error}")))
}

fn look(repository: &Repository, reference: &ImageRef) -> Result<RemoteManifests, DistributionError> {
    let target = repository.resolve(reference)?;
    let bytes = repository.manifest(&target)?;
    if !media_type::is_index(&target.media_type) {
        let platform = platform(repository, &target, &bytes)?;
        let descriptor = Descriptor { platform: platform.or_else(|| target.platform.clone()), ..target };
        return Ok(RemoteManifests {
            index: false,
            manifests: vec![shown(reference.to_string(), &descriptor, &bytes)],
        });
    }
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| invalid(&target, &error))?;
    let mut manifests = Vec::with_capacity(index.manifests.len());
    for inner in &index.manifests {
        // Annotations are the index's, not the manifest's.
        let descriptor = Descriptor { annotations: Default::default(), ..inner.clone() };
        manifests.push(shown(format!("{reference}@{}", inner.digest), &descriptor, &repository.manifest(inner)?));
    }
    Ok(RemoteManifests { index: true, manifests })
}

/// What an image's configuration says about its platform. Of what is no image nothing is known.
fn platform(
    repository: &Repository,
    target: &Descriptor,
    manifest: &[u8],
) -> Result<Option<berth_oci::image::Platform>, DistributionError> {
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(|error| invalid(target, &error))?;
    if !matches!(manifest.config.media_type.as_str(), media_type::CONFIG | media_type::DOCKER_CONFIG) {
        return Ok(None);
    }
    let body = repository.blob(&manifest.config, 0..manifest.config.size)?;
    let mut config = Vec::new();
    let read = body.take(MAX_CONFIG).read_to_end(&mut config);
    read.map_err(|error| DistributionError::Invalid(error.to_string()))?;
    let config: ImageConfig = serde_json::from_slice(&config).map_err(|error| invalid(&manifest.config, &error))?;
    Ok(Some(config.platform().into()))
}

fn invalid(what: &Descriptor, error: &serde_json::Error) -> DistributionError {
    DistributionError::Invalid(format!("{}: {error}", what.digest))
}

fn shown(reference: String, descriptor: &Descriptor, bytes: &[u8]) -> RemoteManifest {
    RemoteManifest { reference, descriptor: image::descriptor(descriptor), raw: STANDARD.encode(bytes) }
}
