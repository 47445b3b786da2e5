//! `berth diff`.

use std::io::Write;

use berth_api::container::FilesystemChange;
use berth_client::Client;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Diff>(
    "container",
    "diff",
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    Arity::Exactly(1),
)
.top(&["diff"]);

/// Shows what a container has changed in the files of its image.
#[derive(clap::Args)]
pub struct Diff {
    container: String,
}

impl Command for Diff {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        if self.container.is_empty() {
            return Err(CliError::message("Container name cannot be empty"));
        }
        let request = cx.client()?.get(Client::path("containers", &self.container, "/changes"));
        let changes: Option<Vec<FilesystemChange>> = request.send()?.json()?;
        let mut out = cx.stdout();
        for change in changes.unwrap_or_default() {
            let letter = ["C", "A", "D"].get(usize::from(change.kind)).copied().unwrap_or("");
            writeln!(out, "{letter} {}", change.path)?;
        }
        Ok(out.flush()?)
    }
}
