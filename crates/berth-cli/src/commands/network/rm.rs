//! `berth network rm`.

use berth_client::Client;
use clap::Args;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Rm>("network", "rm", "NETWORK [NETWORK...]", "Remove one or more networks", Arity::AtLeast(1))
        .aliases(&["remove"]);

/// Removes networks that no running container is on.
#[derive(Args)]
pub struct Rm {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    networks: Vec<String>,
}

impl Command for Rm {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let mut failures = Vec::new();
        for name in &self.networks {
            match cx.client()?.delete(Client::path("networks", name, "")).send().and_then(|answer| answer.finish()) {
                Ok(()) => cx.say(name)?,
                Err(error) if self.force && error.is_not_found() => {}
                Err(error) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(CliError::message(failures.join("\n"))) }
    }
}
