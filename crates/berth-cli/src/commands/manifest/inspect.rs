//! `berth manifest inspect`: a manifest or list as it is in a registry, or as it will be from a local list.

use std::io::Write;

use berth_api::auth::{RemoteManifest, RemoteManifests};
use clap::Args;

use super::document::{Known, List, laid_out, raw, write};
use super::local::LocalLists;
use super::{name, remote};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Inspect>(
    "manifest",
    "inspect",
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    Arity::Between(1, 2),
);

/// Shows a manifest.
#[derive(Args)]
pub struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    names: Vec<String>,
}

impl Command for Inspect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let found = self.find(cx)?;
        let mut out = cx.stdout();
        match (found.index, self.verbose) {
            // As it is, but for its lines.
            (false, false) => writeln!(out, "{}", laid_out("\t", &*raw(&one(found.manifests)?)?)?)?,
            (false, true) => write(&mut out, "\t", &Known::of(&one(found.manifests)?)?)?,
            (true, false) => writeln!(out, "{}", List::of(&found.manifests).text()?)?,
            (true, true) => {
                let all = found.manifests.iter().map(Known::of).collect::<Result<Vec<_>, _>>()?;
                write(&mut out, "\t", &all)?;
            }
        }
        Ok(out.flush()?)
    }
}

impl Inspect {
    /// In a local list, as a local list, in a registry.
    fn find(&self, cx: &mut Context) -> Result<RemoteManifests, CliError> {
        let lists = LocalLists::of(&cx.globals().config_dir());
        if let [list, manifest] = self.names.as_slice() {
            let (list, manifest) = (name(list)?, name(manifest)?);
            let found = lists.manifest(&list, &manifest)?;
            let missing = || CliError::message(format!("No such manifest: {manifest}"));
            return Ok(RemoteManifests { index: false, manifests: vec![found.ok_or_else(missing)?] });
        }
        let reference = name(self.names.first().map_or("", String::as_str))?;
        match lists.list(&reference)? {
            Some(manifests) => Ok(RemoteManifests { index: true, manifests }),
            None => remote(cx, &reference, self.insecure),
        }
    }
}

fn one(manifests: Vec<RemoteManifest>) -> Result<RemoteManifest, CliError> {
    manifests.into_iter().next().ok_or_else(|| CliError::message("the daemon answered without a manifest"))
}
