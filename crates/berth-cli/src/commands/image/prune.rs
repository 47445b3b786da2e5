//! `berth image prune`.

use std::fmt::Write;

use berth_api::image::PruneResponse;
use berth_client::Client;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::prune::{Mode, Pruned, confirmed};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Prune>("image", "prune", "[OPTIONS]", "Remove unused images", Arity::Exactly(0));

/// Removes images that nothing uses.
#[derive(Args)]
pub struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Command for Prune {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let filters = Filters::of(&self.filter).with_configured(cx.config());
        let what = if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        let warning = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
        let mode = Mode::of(self.dry_run);
        confirmed(cx, mode, self.force, &warning)?;
        prune(cx.client()?, self.all, filters, mode, &[])?.tell(cx, mode)
    }
}

/// Removes dangling images, or all that no container uses; a plan is made as if the containers `without` were gone.
pub(crate) fn prune(
    client: &Client,
    all: bool,
    mut filters: Filters,
    mode: Mode,
    without: &[String],
) -> Result<Pruned, CliError> {
    filters.add("dangling", if all { "false" } else { "true" });
    let request = client.post("/images/prune").query_opt("filters", filters.to_query().as_deref());
    let headline = mode.headline("Deleted Images:\n", "Would delete images:\n");
    let (untagged, deleted) = (mode.headline("untagged", "would untag"), mode.headline("deleted", "would delete"));
    let answer: PruneResponse = mode.ask_without(request, without).send()?.json()?;
    let mut text = String::new();
    for item in answer.images_deleted.unwrap_or_default() {
        if text.is_empty() {
            text.push_str(headline);
        }
        let (word, name) = if item.untagged.is_empty() { (deleted, item.deleted) } else { (untagged, item.untagged) };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{word}: {name}");
    }
    Ok(Pruned { text, bytes: answer.space_reclaimed, names: Vec::new() })
}
