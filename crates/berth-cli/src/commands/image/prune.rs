//! `berth image prune`.

use std::fmt::Write;

use berth_api::image::PruneResponse;
use berth_client::Client;
use berth_model::decimal_size;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::prune::{Pruned, confirmed};
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
        if self.dry_run {
            let pruned = ask(cx.client()?, self.all, filters, true)?;
            if !pruned.text.is_empty() {
                cx.say(&pruned.text)?;
            }
            return cx.say(format!("Total reclaimable space: {}", decimal_size(pruned.bytes as f64, 4)));
        }
        let what = if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        let warning = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
        confirmed(cx, self.force, &warning)?;
        prune(cx.client()?, self.all, filters)?.tell(cx)
    }
}

/// Removes dangling images, or all that no container uses.
pub(crate) fn prune(client: &Client, all: bool, filters: Filters) -> Result<Pruned, CliError> {
    ask(client, all, filters, false)
}

fn ask(client: &Client, all: bool, mut filters: Filters, dry_run: bool) -> Result<Pruned, CliError> {
    filters.add("dangling", if all { "false" } else { "true" });
    let request = client.post("/images/prune").query_opt("filters", filters.to_query().as_deref());
    let request = request.flag("dry-run", dry_run);
    let (headline, untagged, deleted) = match dry_run {
        true => ("Would delete images:\n", "would untag", "would delete"),
        false => ("Deleted Images:\n", "untagged", "deleted"),
    };
    let answer: PruneResponse = request.send()?.json()?;
    let mut text = String::new();
    for item in answer.images_deleted.unwrap_or_default() {
        if text.is_empty() {
            text.push_str(headline);
        }
        let (word, name) = if item.untagged.is_empty() { (deleted, item.deleted) } else { (untagged, item.untagged) };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{word}: {name}");
    }
    Ok(Pruned { text, bytes: answer.space_reclaimed })
}
