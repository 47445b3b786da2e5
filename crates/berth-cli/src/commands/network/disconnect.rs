//! `berth network disconnect`.

use berth_api::network::DisconnectRequest;
use berth_client::Client;
use clap::Args;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Disconnect>(
    "network",
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    Arity::Exactly(2),
);

/// Takes a container off a network, running or not.
#[derive(Args)]
pub struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    network: String,
    container: String,
}

impl Command for Disconnect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let request = DisconnectRequest { container: self.container, force: self.force };
        cx.client()?.post(Client::path("networks", &self.network, "/disconnect")).json(&request).send()?.finish()?;
        Ok(())
    }
}
