//! `berth volume prune`.

use berth_api::volume::PruneResponse;
use berth_client::Client;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::prune::{Mode, Pruned, confirmed};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Prune>("volume", "prune", "[OPTIONS]", "Remove unused local volumes", Arity::Exactly(0));

/// Removes volumes that no container uses.
#[derive(Args)]
pub struct Prune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Command for Prune {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let mut filters = Filters::of(&self.filter).with_configured(cx.config());
        if self.all {
            if filters.contains("all") {
                return Err(CliError::message("conflicting options: cannot specify both --all and --filter all=1"));
            }
            filters.add("all", "true");
        }
        let which = if self.all { "all local volumes" } else { "anonymous local volumes" };
        let warning = format!(
            "WARNING! This will remove {which} not used by at least one container.\nAre you sure you want to continue?"
        );
        let mode = Mode::of(self.dry_run);
        confirmed(cx, mode, self.force, &warning)?;
        prune(cx.client()?, &filters, mode, &[])?.tell(cx, mode)
    }
}

/// Removes the unused volumes that the filters leave; a plan is made as if the containers `without` were gone.
pub(crate) fn prune(client: &Client, filters: &Filters, mode: Mode, without: &[String]) -> Result<Pruned, CliError> {
    let request = client.post("/volumes/prune").query_opt("filters", filters.to_query().as_deref());
    let answer: PruneResponse = mode.ask_without(request, without).send()?.json()?;
    let headline = mode.headline("Deleted Volumes:", "Would delete volumes:");
    Ok(Pruned::of_names(headline, answer.volumes_deleted, answer.space_reclaimed))
}
