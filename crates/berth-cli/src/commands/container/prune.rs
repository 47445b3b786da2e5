//! `berth container prune`.

use berth_api::container::PruneResponse;
use berth_client::Client;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::prune::{Mode, Pruned, confirmed};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Prune>("container", "prune", "[OPTIONS]", "Remove all stopped containers", Arity::Exactly(0));

/// Removes all containers that do not run.
#[derive(Args)]
pub struct Prune {
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
        let warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
        let mode = Mode::of(self.dry_run);
        confirmed(cx, mode, self.force, warning)?;
        prune(cx.client()?, &Filters::of(&self.filter).with_configured(cx.config()), mode)?.tell(cx, mode)
    }
}

/// Removes the stopped containers that the filters leave.
pub(crate) fn prune(client: &Client, filters: &Filters, mode: Mode) -> Result<Pruned, CliError> {
    let request = client.post("/containers/prune").query_opt("filters", filters.to_query().as_deref());
    let answer: PruneResponse = mode.ask(request).send()?.json()?;
    let headline = mode.headline("Deleted Containers:", "Would delete containers:");
    Ok(Pruned::of_names(headline, answer.containers_deleted, answer.space_reclaimed))
}
