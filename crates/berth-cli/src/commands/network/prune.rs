//! `berth network prune`.

use clap::Args;

use super::prune;
use crate::filter::{Filter, Filters};
use crate::prune::{Mode, confirmed};
use crate::{Arity, CliError, Command, Context, Entry};

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Prune>("network", "prune", "[OPTIONS]", "Remove all unused networks", Arity::Exactly(0));

/// Removes networks that no container uses.
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
        let filters = Filters::of(&self.filter).with_configured(cx.config());
        let mode = Mode::of(self.dry_run);
        confirmed(cx, mode, self.force, WARNING)?;
        // Networks take no space, so there is no sum.
        let pruned = prune(cx.client()?, &filters, mode)?;
        if pruned.text.is_empty() { Ok(()) } else { cx.say(&pruned.text) }
    }
}
