//! `berth image pin` and `unpin`: images that the store's budget never removes. Not of the reference client.

use berth_client::Client;
use clap::Args;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command that pins.
pub static PIN: Entry = Entry::new::<Pin>(
    "image",
    "pin",
    "IMAGE [IMAGE...]",
    "Keep images whatever the size budget of the daemon is",
    Arity::AtLeast(1),
);

/// The command that lets go.
pub static UNPIN: Entry = Entry::new::<Unpin>(
    "image",
    "unpin",
    "IMAGE [IMAGE...]",
    "Let the size budget remove images again",
    Arity::AtLeast(1),
);

/// Pins images.
#[derive(Args)]
pub struct Pin {
    images: Vec<String>,
}

/// Unpins images.
#[derive(Args)]
pub struct Unpin {
    images: Vec<String>,
}

impl Command for Pin {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        cx.for_each(&self.images, |client, name| client.post(Client::path("images", name, "/pin")).send()?.finish())
    }
}

impl Command for Unpin {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        cx.for_each(&self.images, |client, name| client.post(Client::path("images", name, "/unpin")).send()?.finish())
    }
}
