//! `berth start`.

use berth_client::Client;
use berth_client::containers::{AttachOptions, WaitCondition};

use super::attached::{self, MainProcess};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Start>(
    "container",
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    Arity::AtLeast(1),
)
.top(&["start"]);

/// Starts containers, or one and stays with it.
#[derive(clap::Args)]
pub struct Start {
    /// Stream stdout and stderr and forward signals
    #[arg(long, short = 'a')]
    attach: bool,
    /// Key sequence that detaches the terminal
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Connect stdin
    #[arg(long, short = 'i')]
    interactive: bool,
    containers: Vec<String>,
}

impl Command for Start {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        if !self.attach && !self.interactive {
            return cx.for_each(&self.containers, Client::container_start);
        }
        let [name] = self.containers.as_slice() else {
            return Err(CliError::message("you cannot start and attach multiple containers at once"));
        };
        self.start_attached(cx, name)
    }
}

impl Start {
    fn start_attached(&self, cx: &Context, name: &str) -> Result<(), CliError> {
        let client = cx.client()?;
        let container = client.container_inspect(name)?;
        let config = container.config.unwrap_or_default();
        let removes = container.host_config.is_some_and(|host| host.auto_remove);
        let (keys_text, keys) = attached::detach_keys(cx, self.detach_keys.as_deref())?;
        let options = AttachOptions {
            stdin: self.interactive && config.open_stdin,
            stdout: true,
            stderr: true,
            logs: false,
            detach_keys: keys_text,
        };
        attached::check_terminal(options.stdin, config.tty)?;
        let id = container.id.as_str();
        let attach = client.container_attach(id, &options)?;
        let condition = if removes { WaitCondition::Removed } else { WaitCondition::NextExit };
        let wait = client.container_wait(id, condition)?;
        let (attach, wait) = (attach.response()?, wait.response()?);
        let mut session = attached::begin(attach, &options, config.tty, keys, !config.tty)?;
        if let Err(error) = client.container_start(id) {
            drop(session);
            return Err(error.into());
        }
        let end = session.run(&MainProcess { client, id, tty: config.tty })?;
        drop(session);
        match attached::ended_early(end) {
            Some(ended) => ended,
            None => attached::exit_with_code_of(wait),
        }
    }
}
