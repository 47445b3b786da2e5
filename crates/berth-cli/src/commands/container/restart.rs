//! `berth restart`.

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Restart>(
    "container",
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    Arity::AtLeast(1),
)
.top(&["restart"]);

/// Stops and starts containers.
#[derive(clap::Args)]
pub struct Restart {
    /// Signal name or number to send
    #[arg(long, short = 's', value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before a forced kill, -1 waits forever
    #[arg(long, short = 't', alias = "time", value_name = "int")]
    timeout: Option<i64>,
    containers: Vec<String>,
}

impl Command for Restart {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let signal = self.signal.as_deref().filter(|signal| !signal.is_empty());
        cx.for_all(&self.containers, |client, name| client.container_restart(name, signal, self.timeout))
    }
}
