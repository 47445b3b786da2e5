//! `berth volume inspect`.

use berth_client::Client;
use clap::Args;

use crate::inspect::{self, Found};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Inspect>(
    "volume",
    "inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    Arity::AtLeast(1),
);

/// Shows everything about volumes.
#[derive(Args)]
pub struct Inspect {
    #[arg(short, long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
    volumes: Vec<String>,
}

impl Command for Inspect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        inspect::inspect(cx, &self.volumes, &self.format, |name| fetch(cx.client()?, name))
    }
}

/// Fetches the document of one volume.
pub(crate) fn fetch(client: &Client, name: &str) -> Result<Found, CliError> {
    let json = client.get(Client::path("volumes", name, "")).send()?.read_all()?;
    Ok(Found { go_type: "volume.Volume", json })
}
