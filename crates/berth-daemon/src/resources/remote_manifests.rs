//! The manifests behind a name, as they are at its registry. Not of the reference API: its client asks registries itself, which knows neither
//! the daemon's mirrors nor its certificates.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::auth::{RemoteManifest, RemoteManifests};
use berth_distribution::{DistributionError, Registries, Repository};
use berth_image::image_name;
use berth_model::{Cancel, ImageRef};
use berth_oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::registry::credentials;
use crate::translate::image;

pub static ENDPOINTS: &[Endpoint] =
    &[endpoint!("GET" "/distribution/{name}/manifests", "DistributionManifests", manifests)];

/// No configuration is larger, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

async fn manifests(call: Call) -> Result<Reply, ApiError> {
    let reference = image_name(&call.object, "")?;
    let mut registries = call.daemon.registries.clone();
    if call.query.flag("insecure") {
        let mut settings = registries.settings().clone();
        settings.insecure.push(reference.domain().to_owned());
        registries = Registries::new(settings);
    }
    let credentials = credentials(&call);
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
