//! `berth manifest create`.

use berth_api::auth::RemoteManifest;
use berth_model::ImageRef;
use clap::Args;

use super::local::LocalLists;
use super::{name, remote};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Create>(
    "manifest",
    "create",
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry",
    Arity::AtLeast(2),
);

/// Makes a list of manifests that are in a registry.
#[derive(Args)]
pub struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    names: Vec<String>,
}

impl Command for Create {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let (list, manifests) = self.names.split_first().expect("the parser has counted them");
        let target = name(list)
            .map_err(|error| CliError::message(format!("error parsing name for manifest list {list}: {error}")))?;
        let lists = LocalLists::of(&cx.globals().config_dir());
        if lists.list(&target)?.is_some() && !self.amend {
            return Err(CliError::message("refusing to amend an existing manifest list with no --amend flag"));
        }
        for manifest in manifests {
            let reference = name(manifest)?;
            let known = match lists.manifest(&target, &reference)?.filter(|known| !known.raw.is_empty()) {
                Some(known) => known,
                None => self.fetch(cx, &reference)?,
            };
            lists.save(&target, &reference, &known)?;
        }
        cx.say(format!("Created manifest list {target}"))
    }
}

impl Create {
    fn fetch(&self, cx: &mut Context, reference: &ImageRef) -> Result<RemoteManifest, CliError> {
        let found = remote(cx, reference, self.insecure)?;
        match found.manifests.into_iter().next() {
            Some(manifest) if !found.index => Ok(manifest),
            _ => Err(CliError::message(format!("{} is a manifest list", reference.familiar()))),
        }
    }
}
