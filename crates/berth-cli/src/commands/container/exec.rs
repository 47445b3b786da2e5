//! `berth exec`.

use std::time::Duration;

use berth_api::ConsoleSize;
use berth_api::exec::{ExecCreateRequest, ExecStartRequest};
use berth_client::Client;
use berth_client::containers::AttachOptions;

use super::attached;
use super::options::{value, variables};
use crate::stream::session::{End, Process};
use crate::stream::terminal;
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// How long at most the client waits between two questions for an exit code: an eighth of a second altogether.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// The command.
pub static ENTRY: Entry = Entry::new::<Exec>(
    "container",
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    Arity::AtLeast(2),
)
.top(&["exec"])
.place(Place::Common(2));

/// Runs a further command in a running container.
#[derive(clap::Args)]
pub struct Exec {
    /// Run the command in the background
    #[arg(long, short = 'd')]
    detach: bool,
    /// Key sequence that detaches the terminal
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set NAME=value; NAME alone copies the client value
    #[arg(long, short = 'e', value_name = "list", value_parser = value::environment)]
    env: Vec<String>,
    /// Read NAME=value lines from a file
    #[arg(long = "env-file", value_name = "list")]
    env_files: Vec<String>,
    /// Keep stdin open
    #[arg(long, short = 'i')]
    interactive: bool,
    /// Give all capabilities to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-terminal
    #[arg(long, short = 't')]
    tty: bool,
    /// User[:group] by name or number
    #[arg(long, short = 'u', value_name = "string", default_value = "")]
    user: String,
    /// Working directory of the command
    #[arg(long, short = 'w', value_name = "string", default_value = "")]
    workdir: String,
    /// The container, then the command: flags end at the container.
    #[arg(trailing_var_arg = true)]
    words: Vec<String>,
}

impl Command for Exec {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let Some((container, command)) = self.words.split_first() else {
            return Err(CliError::message("no container"));
        };
        let environment = variables(&self.env_files, &self.env).map_err(CliError::message)?;
        let (keys_text, keys) = attached::detach_keys(cx, self.detach_keys.as_deref())?;
        let stdin = self.interactive && !self.detach;
        attached::check_terminal(stdin, self.tty)?;
        let size =
            terminal::size().filter(|_| self.tty).map(|(height, width)| ConsoleSize([height.into(), width.into()]));
        let request = ExecCreateRequest {
            user: self.user.clone(),
            privileged: self.privileged,
            tty: self.tty,
            console_size: size,
            attach_stdin: stdin,
            attach_stderr: !self.detach,
            attach_stdout: !self.detach,
            detach_keys: keys_text.clone(),
            env: (!environment.is_empty()).then_some(environment),
            working_dir: self.workdir.clone(),
            cmd: Some(command.to_vec()),
        };
        let client = cx.client()?;
        let id = client.exec_create(container, &request)?;
        let start = ExecStartRequest { detach: self.detach, tty: self.tty, console_size: size };
        if self.detach {
            return Ok(client.exec_start_detached(&id, &start)?);
        }
        let response = client.exec_start(&id, &start)?;
        let options = AttachOptions { stdin, stdout: true, stderr: true, logs: false, detach_keys: keys_text };
        // The API has no way to signal such a process: signals end the client.
        let mut session = attached::begin(response, &options, self.tty, keys, false)?;
        let end = session.run(&ExecProcess { client, id: &id, tty: self.tty })?;
        drop(session);
        match end {
            End::Detached => Err(CliError::message("read escape sequence")),
            End::Signalled(code) => Err(CliError::exit(code)),
            End::StreamOver => attached::exit_with(exit_code(client, &id)?),
        }
    }
}

/// The exit code of a process whose stream is over. The stream may end a moment before the exit is known; a process that has closed its
/// output and runs on is not waited for, and counts as well ended.
fn exit_code(client: &Client, id: &str) -> Result<i64, CliError> {
    let mut pause = Duration::from_millis(1);
    loop {
        let process = client.exec_inspect(id)?;
        match process.exit_code {
            Some(code) => return Ok(code),
            None if pause > LONGEST_PAUSE => return Ok(0),
            None => std::thread::sleep(pause),
        }
        pause *= 2;
    }
}

struct ExecProcess<'c> {
    client: &'c Client,
    id: &'c str,
    tty: bool,
}

impl Process for ExecProcess<'_> {
    fn kill(&self, _signal: i32) {}

    fn resize(&self) -> bool {
        match terminal::size().filter(|_| self.tty) {
            Some((height, width)) => self.client.exec_resize(self.id, height, width).is_ok(),
            None => true,
        }
    }
}
