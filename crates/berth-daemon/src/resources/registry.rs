//! Registries: push, login, and what they say about an image.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use berth_api::auth::{AuthConfig, AuthResponse, DistributionInspect};
use berth_api::descriptor::Platform as WirePlatform;
use berth_distribution::{Credentials, DistributionError, Repository};
use berth_image::{ImageError, Progress, PushOptions, Pushed, RegistryResolver, image_name};
use berth_model::{Cancel, ErrorKind, ImageRef};
use berth_oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::image_transfer::while_listened_to;
use crate::resources::images::publish;
use crate::translate::image;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("POST" "/images/{name}/push", "ImagePush", push),
    endpoint!("POST" "/auth", "SystemAuth", log_in),
    endpoint!("GET" "/distribution/{name}/json", "DistributionInspect", inspect),
];

/// Where login goes when nobody says where.
const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";

/// Who asks, as the header `X-Registry-Auth` says: base64url of a document. One that cannot be read counts for nothing (golden).
pub(super) fn credentials(call: &Call) -> Credentials {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let header = call.header("x-registry-auth").unwrap_or_default().trim();
    // Some clients use the other alphabet of base64.
    let decoded = LENIENT.decode(header.replace('+', "-").replace('/', "_")).unwrap_or_default();
    serde_json::from_slice::<AuthConfig>(&decoded).map(understood).unwrap_or_default()
}

fn understood(config: AuthConfig) -> Credentials {
    let (mut username, mut password) = (config.username, config.password);
    if username.is_empty()
        && let Ok(both) = base64::engine::general_purpose::STANDARD.decode(&config.auth)
        && let Ok(both) = String::from_utf8(both)
        && let Some((user, secret)) = both.split_once(':')
    {
        (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    Credentials { username, password, identity_token: config.identity_token, registry_token: config.registry_token }
}

async fn push(call: Call) -> Result<Reply, ApiError> {
    let tag = call.query.text("tag").to_owned();
    let reference = image_name(&call.object, &tag)?;
    if reference.digest().is_some() {
        return Err(ApiError::invalid("cannot push a digest reference"));
    }
    let platform = image::platform(call.query.text("platform"))?;
    // Without a tag all images of the repository are meant.
    let all_tags = tag.is_empty() && !call.object.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let (daemon, credentials) = (Arc::clone(&call.daemon), credentials(&call));
    let cancel = Cancel::default();
    let options = PushOptions { platform, uploads: daemon.settings.uploads, cancel: cancel.clone() };
    while_listened_to(cancel, move |messages| {
        let registry = RegistryResolver::open(&daemon.registries, &reference, &credentials, &options.cancel);
        let registry = registry.map_err(ImageError::from)?;
        let mut show = |progress: Progress| messages.send(&image::progress(&progress));
        let mut pushed =
            |pushed: &Pushed| publish(&daemon.engine, "push", &pushed.digest, &pushed.reference.familiar());
        Ok(daemon.engine.images().push(&reference, all_tags, &registry, &options, &mut show, &mut pushed)?)
    })
    .await
}

async fn log_in(mut call: Call) -> Result<Reply, ApiError> {
    let document = call.document::<AuthConfig>();
    let config = document.map_err(|error| error.context("invalid X-Registry-Auth header"))?.unwrap_or_default();
    let server =
        if config.server_address.is_empty() { DEFAULT_SERVER.to_owned() } else { config.server_address.clone() };
    let daemon = Arc::clone(&call.daemon);
    let answer = Daemon::blocking(move || {
        let logged_in = daemon.registries.log_in(&domain_of(&server), understood(config), &Cancel::default());
        let logged_in = logged_in.map_err(|error| ApiError::new(error.kind(), error.to_string()))?;
        let identity_token = logged_in.identity_token.unwrap_or_default();
        Ok(AuthResponse { status: "Login Succeeded".to_owned(), identity_token })
    });
    Ok(Reply::json(&answer.await?))
}

/// The registry that a server address of `login` means: docker.io has had several.
fn domain_of(server: &str) -> String {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" | "" => berth_distribution::DEFAULT_DOMAIN.to_owned(),
        host => host.to_owned(),
    }
}

/// What a name points to at its registry, and for which platforms there is something.
async fn inspect(call: Call) -> Result<Reply, ApiError> {
    if call.object.len() == 64 && call.object.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ApiError::internal("no manifest found for full image ID"));
    }
    let reference = image_name(&call.object, "")?;
    let (daemon, credentials) = (Arc::clone(&call.daemon), credentials(&call));
    let found = Daemon::blocking(move || {
        let repository = daemon.registries.repository(&reference, &credentials, &Cancel::default());
        let repository = repository.map_err(|error| refused(&error))?;
        look(&repository, &reference).map_err(|error| refused(&error))
    });
    Ok(Reply::json(&found.await?))
}

fn look(repository: &Repository, reference: &ImageRef) -> Result<DistributionInspect, DistributionError> {
    let target = repository.resolve(reference)?;
    let platforms = platforms(repository, &target)?;
    Ok(DistributionInspect { descriptor: image::descriptor(&target), platforms })
}

fn platforms(repository: &Repository, target: &Descriptor) -> Result<Option<Vec<WirePlatform>>, DistributionError> {
    let invalid = |error: serde_json::Error| DistributionError::Invalid(format!("manifest {}: {error}", target.digest));
    let bytes = repository.manifest(target)?;
    if media_type::is_index(&target.media_type) {
        let index: Index = serde_json::from_slice(&bytes).map_err(invalid)?;
        let known = index.manifests.iter().filter_map(|inner| inner.platform.as_ref());
        return Ok(Some(known.map(|platform| image::platform_to_wire(&platform.target())).collect()));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(invalid)?;
    // Only of Docker's own type is the configuration looked at (golden).
    if target.media_type != media_type::DOCKER_MANIFEST {
        return Ok(None);
    }
    let mut body = repository.blob(&manifest.config, 0..manifest.config.size)?;
    let mut config = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(&mut body, 8 << 20), &mut config);
    read.map_err(|error| DistributionError::Invalid(error.to_string()))?;
    let config: ImageConfig = serde_json::from_slice(&config).map_err(invalid)?;
    Ok(Some(vec![image::platform_to_wire(&config.platform())]))
}

/// The words of this endpoint, which asks registries in an older way (golden).
fn refused(error: &DistributionError) -> ApiError {
    match error {
        DistributionError::NotFound(_) => ApiError::not_found("manifest unknown: manifest unknown"),
        DistributionError::Refused { .. } => ApiError::new(ErrorKind::Unauthorized, "unauthorized"),
        DistributionError::Request { method, url, source } => {
            ApiError::internal(format!("{method} \"{url}\": {source}"))
        }
        DistributionError::NoCredentials => ApiError::internal("no basic auth credentials"),
        error => ApiError::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_login_lead_to_registries() {
        for (server, domain) in [
            (DEFAULT_SERVER, "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("https://reg.example:5000/v2/", "reg.example:5000"),
            ("localhost:5000", "localhost:5000"),
        ] {
            assert_eq!(domain_of(server), domain, "{server}");
        }
    }
}
