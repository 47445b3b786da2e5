//! `berth volume rm`.

use berth_client::Client;
use clap::Args;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Rm>("volume", "rm", "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", Arity::AtLeast(1))
        .aliases(&["remove"]);

/// Removes volumes that no container uses.
#[derive(Args)]
pub struct Rm {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    volumes: Vec<String>,
}

impl Command for Rm {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        cx.for_each(&self.volumes, |client, name| {
            client.delete(Client::path("volumes", name, "")).flag("force", self.force).send()?.finish()
        })
    }
}
