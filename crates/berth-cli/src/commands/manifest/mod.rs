//! `berth manifest ...`.

pub mod annotate;
pub mod create;
mod document;
pub mod inspect;
mod local;
pub mod push;
pub mod rm;

use berth_api::auth::RemoteManifests;
use berth_client::Client;
use berth_model::ImageRef;

use crate::credentials::Credentials;
use crate::{CliError, Context};

fn name(text: &str) -> Result<ImageRef, CliError> {
    text.parse().map_err(|error| CliError::message(format!("{error}")))
}

/// What a registry has under a name. The daemon asks it, with its mirrors and certificates.
fn remote(cx: &mut Context, reference: &ImageRef, insecure: bool) -> Result<RemoteManifests, CliError> {
    let credentials = Credentials::open(&cx.globals().config_dir())?.header(reference.domain())?;
    let path = Client::path("distribution", &reference.to_string(), "/manifests");
    let request = cx.client()?.get(path).flag("insecure", insecure).header("X-Registry-Auth", credentials);
    Ok(request.send()?.json()?)
}
