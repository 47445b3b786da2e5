//! `berth unpause`.

use berth_client::Client;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Unpause>(
    "container",
    "unpause",
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    Arity::AtLeast(1),
)
.top(&["unpause"]);

/// Thaws every process of the given containers.
#[derive(clap::Args)]
pub struct Unpause {
    containers: Vec<String>,
}

impl Command for Unpause {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        cx.for_all(&self.containers, Client::container_unpause)
    }
}
