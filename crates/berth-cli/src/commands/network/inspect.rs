//! `berth network inspect`.

use berth_client::Client;
use clap::Args;

use crate::inspect::{self, Found};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Inspect>(
    "network",
    "inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    Arity::AtLeast(1),
);

/// Shows everything about networks.
#[derive(Args)]
pub struct Inspect {
    #[arg(short, long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
    networks: Vec<String>,
}

impl Command for Inspect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        inspect::inspect(cx, &self.networks, &self.format, |name| fetch(cx.client()?, name, self.verbose))
    }
}

/// Fetches the document of one network.
pub(crate) fn fetch(client: &Client, name: &str, verbose: bool) -> Result<Found, CliError> {
    let mut request = client.get(Client::path("networks", name, ""));
    if verbose {
        request = request.query("verbose", "true");
    }
    Ok(Found { go_type: "network.Inspect", json: request.send()?.read_all()? })
}
