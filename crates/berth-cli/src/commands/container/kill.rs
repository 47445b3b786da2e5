//! `berth kill`.

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Kill>(
    "container",
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    Arity::AtLeast(1),
)
.top(&["kill"]);

/// Sends a signal, SIGKILL unless another is named.
#[derive(clap::Args)]
pub struct Kill {
    /// Signal name or number to send
    #[arg(long, short = 's', value_name = "string")]
    signal: Option<String>,
    containers: Vec<String>,
}

impl Command for Kill {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let signal = self.signal.as_deref().filter(|signal| !signal.is_empty());
        cx.for_all(&self.containers, |client, name| client.container_kill(name, signal))
    }
}
