//! `berth stop`.

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Stop>(
    "container",
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    Arity::AtLeast(1),
)
.top(&["stop"]);

/// Sends the stop signal, then SIGKILL after the timeout.
#[derive(clap::Args)]
pub struct Stop {
    /// Signal name or number to send
    #[arg(long, short = 's', value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before a forced kill, -1 waits forever
    #[arg(long, short = 't', alias = "time", value_name = "int")]
    timeout: Option<i64>,
    containers: Vec<String>,
}

impl Command for Stop {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let signal = self.signal.as_deref().filter(|signal| !signal.is_empty());
        cx.for_all(&self.containers, |client, name| client.container_stop(name, signal, self.timeout))
    }
}
