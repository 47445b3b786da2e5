//! `berth wait`.

use berth_client::containers::{WaitCondition, finish_wait};

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Wait>(
    "container",
    "wait",
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    Arity::AtLeast(1),
)
.top(&["wait"]);

/// Prints the exit code of each container when it has ended (B011).
#[derive(clap::Args)]
pub struct Wait {
    containers: Vec<String>,
}

impl Command for Wait {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let client = cx.client()?;
        let mut failures = Vec::new();
        for name in &self.containers {
            let end =
                client.container_wait(name, WaitCondition::NotRunning).and_then(|wait| finish_wait(wait.response()?));
            match end.map(|end| (end.status_code, end.error.map(|error| error.message).unwrap_or_default())) {
                Ok((code, message)) if message.is_empty() => cx.say(code.to_string())?,
                Ok((_, message)) => failures.push(message),
                Err(error) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(CliError::message(failures.join("\n"))) }
    }
}
