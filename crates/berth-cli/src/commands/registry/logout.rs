//! `berth logout`.

use clap::Args;

use crate::credentials::{Credentials, host_of, server_key};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Logout>(
    "",
    "logout",
    "[SERVER]",
    "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    Arity::AtMost(1),
)
.top(&["logout"]);

/// Forgets credentials.
#[derive(Args)]
pub struct Logout {
    server: Option<String>,
}

impl Command for Logout {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let given = self.server.unwrap_or_default();
        let server = server_key(host_of(&given));
        cx.say(format!("Removing login credentials for {server}"))?;
        let mut credentials = Credentials::open(&cx.globals().config_dir())?;
        credentials
            .erase(&server)
            .map_err(|error| CliError::message(format!("WARNING: could not erase credentials:\n{server}: {error}")))
    }
}
