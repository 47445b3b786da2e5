//! `berth export`.

use std::path::PathBuf;

use berth_client::Client;
use clap::Args;

use crate::commands::image::save::Output;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Export>(
    "container",
    "export",
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    Arity::Exactly(1),
)
.top(&["export"]);

/// Writes the files of a container to an archive.
#[derive(Args)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    container: String,
}

impl Command for Export {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let output = Output::open(cx, self.output, "failed to export container")?;
        output.take(&mut cx.client()?.get(Client::path("containers", &self.container, "/export")).send()?)
    }
}
