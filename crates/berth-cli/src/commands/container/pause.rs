//! `berth pause`.

use berth_client::Client;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Pause>(
    "container",
    "pause",
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    Arity::AtLeast(1),
)
.top(&["pause"]);

/// Freezes every process of the given containers.
#[derive(clap::Args)]
pub struct Pause {
    containers: Vec<String>,
}

impl Command for Pause {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        cx.for_all(&self.containers, Client::container_pause)
    }
}
