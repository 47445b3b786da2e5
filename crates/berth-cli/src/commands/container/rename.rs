//! `berth rename`.

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Rename>("container", "rename", "CONTAINER NEW_NAME", "Rename a container", Arity::Exactly(2))
        .top(&["rename"]);

/// Gives a container another name.
#[derive(clap::Args)]
pub struct Rename {
    container: String,
    new_name: String,
}

impl Command for Rename {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let (old, new) = (self.container.trim(), self.new_name.trim());
        if old.is_empty() || new.is_empty() {
            return Err(CliError::message("Error: Neither old nor new names may be empty"));
        }
        Ok(cx.client()?.container_rename(old, new)?)
    }
}
