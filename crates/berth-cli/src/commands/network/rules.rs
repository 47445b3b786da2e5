//! `berth network rules`: what the firewall does, and what stands in its way.

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Rules>(
    "network",
    "rules",
    "",
    "Show the firewall rules in force and what stands in their way",
    Arity::Exactly(0),
);

/// Shows what is in force. Not a command of Docker's.
#[derive(clap::Args)]
pub struct Rules {}

impl Command for Rules {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let lines: Vec<String> = cx.client()?.get("/berth/firewall").send()?.json()?;
        lines.iter().try_for_each(|line| cx.say(line))
    }
}
