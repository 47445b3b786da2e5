//! `berth manifest inspect`: what a registry has under a name. The daemon asks it, with its mirrors and certificates.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_api::auth::{RemoteManifest, RemoteManifests};
use berth_api::descriptor::{Descriptor, Platform};
use berth_client::Client;
use berth_model::ImageRef;
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::credentials::Credentials;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Inspect>(
    "manifest",
    "inspect",
    "[OPTIONS] MANIFEST",
    "Display an image manifest, or manifest list",
    Arity::Exactly(1),
);

/// Shows a manifest of a registry.
#[derive(Args)]
pub struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    manifest: String,
}

/// The media types of Docker's own manifests and of their list.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Command for Inspect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let reference: ImageRef = self.manifest.parse().map_err(|error| CliError::message(format!("{error}")))?;
        let credentials = Credentials::open(&cx.globals().config_dir())?.header(reference.domain())?;
        let path = Client::path("distribution", &reference.to_string(), "/manifests");
        let request = cx.client()?.get(path).flag("insecure", self.insecure).header("X-Registry-Auth", credentials);
        let found: RemoteManifests = request.send()?.json()?;
        let mut out = cx.stdout();
        match (found.index, self.verbose) {
            // As it is, but for its lines.
            (false, false) => out.write_all(laid_out("\t", &*raw(&one(found.manifests)?)?)?.as_bytes())?,
            (false, true) => write(&mut out, "\t", &verbose(&one(found.manifests)?)?)?,
            (true, false) => write(&mut out, "   ", &list(found.manifests))?,
            (true, true) => {
                let all = found.manifests.iter().map(verbose).collect::<Result<Vec<_>, _>>()?;
                write(&mut out, "\t", &all)?;
            }
        }
        Ok(out.flush()?)
    }
}

fn one(manifests: Vec<RemoteManifest>) -> Result<RemoteManifest, CliError> {
    manifests.into_iter().next().ok_or_else(|| CliError::message("the daemon answered without a manifest"))
}

/// A manifest with what is known about it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verbose<'a> {
    #[serde(rename = "Ref")]
    reference: &'a str,
    descriptor: &'a Descriptor,
    raw: &'a str,
    #[serde(rename = "SchemaV2Manifest", skip_serializing_if = "Option::is_none")]
    docker: Option<serde_json::Value>,
    #[serde(rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci: Option<serde_json::Value>,
}

fn verbose(manifest: &RemoteManifest) -> Result<Verbose<'_>, CliError> {
    let document: serde_json::Value = serde_json::from_str(raw(manifest)?.get()).map_err(broken)?;
    let is_docker = manifest.descriptor.media_type == DOCKER_MANIFEST;
    Ok(Verbose {
        reference: &manifest.reference,
        descriptor: &manifest.descriptor,
        raw: &manifest.raw,
        docker: is_docker.then(|| document.clone()),
        oci: (!is_docker).then_some(document),
    })
}

/// An index made anew of what is known about its manifests.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Member>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    media_type: String,
    size: i64,
    digest: String,
    platform: Platform,
}

fn list(manifests: Vec<RemoteManifest>) -> List {
    let is_oci = manifests.first().is_some_and(|first| first.descriptor.media_type == OCI_MANIFEST);
    let member = |manifest: RemoteManifest| {
        let Descriptor { media_type, size, digest, platform, .. } = manifest.descriptor;
        Member { media_type, size, digest, platform: platform.unwrap_or_default() }
    };
    List {
        schema_version: 2,
        media_type: if is_oci { OCI_INDEX } else { DOCKER_LIST },
        manifests: manifests.into_iter().map(member).collect(),
    }
}

fn raw(manifest: &RemoteManifest) -> Result<Box<RawValue>, CliError> {
    let bytes = STANDARD.decode(&manifest.raw).map_err(|error| CliError::message(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(broken)
}

fn broken(error: serde_json::Error) -> CliError {
    CliError::message(format!("the manifest is no JSON document: {error}"))
}

/// Prints a document of our own, with the characters escaped that docker's clients escape.
fn write(out: &mut dyn Write, indent: &str, document: &impl Serialize) -> Result<(), CliError> {
    let text = laid_out(indent, document)?;
    // These stand in strings only.
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Ok(out.write_all(text.as_bytes())?)
}

/// A document with one field a line.
fn laid_out(indent: &str, document: &(impl Serialize + ?Sized)) -> Result<String, CliError> {
    let value = serde_json::to_string(document).and_then(|text| serde_json::from_str::<serde_json::Value>(&text));
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.and_then(|value| value.serialize(&mut serializer)).map_err(broken)?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}
