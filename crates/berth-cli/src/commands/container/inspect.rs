//! `berth container inspect`.

use berth_client::Client;
use clap::Args;

use crate::inspect::{self, Found};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Inspect>(
    "container",
    "inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    Arity::AtLeast(1),
);

/// Shows everything about containers.
#[derive(Args)]
pub struct Inspect {
    #[arg(short, long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    containers: Vec<String>,
}

impl Command for Inspect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        inspect::inspect(cx, &self.containers, &self.format, |name| fetch(cx.client()?, name, self.size))
    }
}

/// Fetches the document of one container.
pub(crate) fn fetch(client: &Client, name: &str, size: bool) -> Result<Found, CliError> {
    let request = client.get(Client::path("containers", name, "/json")).flag("size", size);
    Ok(Found { go_type: "container.InspectResponse", json: request.send()?.read_all()? })
}
