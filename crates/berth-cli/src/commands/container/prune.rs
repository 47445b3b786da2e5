//! `berth container prune`.

use berth_api::container::PruneResponse;
use berth_client::Client;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::prune::{Pruned, confirmed};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Prune>("container", "prune", "[OPTIONS]", "Remove all stopped containers", Arity::Exactly(0));

/// Removes all containers that do not run.
#[derive(Args)]
pub struct Prune {
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
        confirmed(cx, self.force, warning)?;
        prune(cx.client()?, &Filters::of(&self.filter).with_configured(cx.config()))?.tell(cx)
    }
}

/// Removes the stopped containers that the filters leave.
pub(crate) fn prune(client: &Client, filters: &Filters) -> Result<Pruned, CliError> {
    let request = client.post("/containers/prune").query_opt("filters", filters.to_query().as_deref());
    let answer: PruneResponse = request.send()?.json()?;
    Ok(Pruned::of_names("Deleted Containers:", answer.containers_deleted, answer.space_reclaimed))
}
