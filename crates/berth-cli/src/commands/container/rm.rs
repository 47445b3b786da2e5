//! `berth rm`.

use berth_client::containers::RemoveOptions;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Rm>(
    "container",
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    Arity::AtLeast(1),
)
.aliases(&["remove"])
.top(&["rm"]);

/// Deletes containers.
#[derive(clap::Args)]
pub struct Rm {
    /// Kill a running container first
    #[arg(long, short = 'f')]
    force: bool,
    /// Remove a legacy link instead of the container
    #[arg(long, short = 'l')]
    link: bool,
    /// Also remove anonymous volumes
    #[arg(long, short = 'v')]
    volumes: bool,
    containers: Vec<String>,
}

impl Command for Rm {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let options = RemoveOptions { force: self.force, volumes: self.volumes, link: self.link };
        // `/name` is how inspect shows it, and means the same.
        cx.for_all(&self.containers, |client, name| client.container_remove(name.trim_matches('/'), options))
    }
}
