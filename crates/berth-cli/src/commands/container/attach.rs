//! `berth attach`.

use berth_client::containers::{AttachOptions, WaitCondition};

use super::attached::{self, MainProcess};
use crate::stream::session::End;
use crate::stream::terminal;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Attach>(
    "container",
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    Arity::Exactly(1),
)
.top(&["attach"]);

/// Connects the terminal to the stdio of a running container.
#[derive(clap::Args)]
pub struct Attach {
    /// Key sequence that detaches the terminal
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not connect stdin
    #[arg(long)]
    no_stdin: bool,
    /// Forward signals received by the client to the process
    #[arg(long, action = clap::ArgAction::SetFalse)]
    sig_proxy: bool,
    container: String,
}

impl Command for Attach {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let client = cx.client()?;
        let container = client.container_inspect(&self.container)?;
        let state = container.state.unwrap_or_default();
        let refusal = match () {
            () if !state.running => Some("cannot attach to a stopped container, start it first"),
            () if state.paused => Some("cannot attach to a paused container, unpause it first"),
            () if state.restarting => Some("cannot attach to a restarting container, wait until it is running"),
            () => None,
        };
        if let Some(text) = refusal {
            return Err(CliError::message(text));
        }
        let config = container.config.unwrap_or_default();
        let (keys_text, keys) = attached::detach_keys(cx, self.detach_keys.as_deref())?;
        let stdin = !self.no_stdin && config.open_stdin;
        attached::check_terminal(stdin, config.tty)?;
        let options = AttachOptions { stdin, stdout: true, stderr: true, logs: false, detach_keys: keys_text };
        let id = container.id.as_str();
        // An end between attach and wait must not be waited for for ever: not-running is answered in either case.
        let wait = client.container_wait(id, WaitCondition::NotRunning)?;
        let attach = client.container_attach(id, &options)?.response()?;
        let wait = wait.response()?;
        let mut session = attached::begin(attach, &options, config.tty, keys, self.sig_proxy && !config.tty)?;
        if let Some((height, width)) = terminal::size().filter(|_| config.tty) {
            // A terminal of another size for a moment makes the program draw what we have not seen.
            let _ = client.container_resize(id, height.saturating_add(1), width.saturating_add(1));
        }
        let end = session.run(&MainProcess { client, id, tty: config.tty })?;
        drop(session);
        match end {
            End::Detached => Err(CliError::message("read escape sequence")),
            End::Signalled(code) => Err(CliError::exit(code)),
            End::StreamOver => attached::exit_with_code_of(wait),
        }
    }
}
