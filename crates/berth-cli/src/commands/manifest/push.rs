//! `berth manifest push`: the daemon puts the list where it belongs, with its mirrors and certificates, and the manifests with it that lie in
//! other repositories of that registry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_api::auth::{ManifestList, PushedManifestList, RemoteManifest};
use berth_client::Client;
use berth_model::ImageRef;
use clap::Args;

use super::document::List;
use super::local::LocalLists;
use super::name;
use crate::credentials::Credentials;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Push>(
    "manifest",
    "push",
    "[OPTIONS] MANIFEST_LIST",
    "Push a manifest list to a repository",
    Arity::Exactly(1),
);

/// Sends a local list to its registry.
#[derive(Args)]
pub struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    list: String,
}

impl Command for Push {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let target = name(&self.list)?;
        let lists = LocalLists::of(&cx.globals().config_dir());
        let manifests = lists.existing(&target)?;
        if manifests.is_empty() {
            return Err(CliError::message(format!("{target} not found")));
        }
        manifests.iter().try_for_each(|manifest| check(&target, manifest))?;
        let list = List::of(&manifests);
        let media_type = list.media_type.to_owned();
        let document = ManifestList { media_type, raw: STANDARD.encode(list.text()?), manifests };
        let credentials = Credentials::open(&cx.globals().config_dir())?.header(target.domain())?;
        let request = cx.client()?.post(Client::path("distribution", &target.to_string(), "/manifests"));
        let request = request.flag("insecure", self.insecure).header("X-Registry-Auth", credentials);
        let pushed: PushedManifestList = request.json(&document).send()?.json()?;
        for reference in &pushed.manifests {
            let digest = reference.rsplit_once('@').map_or(reference.as_str(), |(_, digest)| digest);
            cx.say(format!("Pushed ref {reference} with digest: {digest}"))?;
        }
        cx.say(&pushed.digest)?;
        if self.purge { lists.remove(&target) } else { Ok(()) }
    }
}

/// A manifest of a list must be for some platform, and in the registry that the list goes to.
fn check(target: &ImageRef, manifest: &RemoteManifest) -> Result<(), CliError> {
    let platform = manifest.descriptor.platform.as_ref();
    if platform.is_none_or(|platform| platform.architecture.is_empty() || platform.os.is_empty()) {
        let reference = &manifest.reference;
        return Err(CliError::message(format!(
            "manifest {reference} must have an OS and Architecture to be pushed to a registry"
        )));
    }
    let (own, theirs) = (target.domain(), name(&manifest.reference)?);
    if theirs.domain() != own {
        return Err(CliError::message(format!(
            "cannot use source images from a different registry than the target image: {} != {own}",
            theirs.domain()
        )));
    }
    Ok(())
}
