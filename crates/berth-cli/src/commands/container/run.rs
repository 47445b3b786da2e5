//! `berth run`: create, attach, wait, start - in this order, so that no output and no exit is missed (B037, B060).

use berth_api::ConsoleSize;
use berth_client::containers::{AttachOptions, WaitCondition};
use berth_client::{Client, ClientError, Response};

use super::attached::{self, MainProcess};
use super::create;
use super::options::ContainerOptions;
use super::options::request::Attached;
use crate::error::ENGINE_CODE;
use crate::flag;
use crate::seldom::Seldom;
use crate::stream::session::Session;
use crate::stream::terminal;
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry = Entry::new::<Run>(
    "container",
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    Arity::AtLeast(1),
)
.top(&["run"])
.place(Place::Common(1));

/// Pulls if needed, creates, starts and attaches.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Run {
    /// Start in the background and print the container ID
    #[arg(long, short = 'd')]
    detach: bool,
    #[command(flatten)]
    session: Seldom<SessionOptions>,
    #[command(flatten)]
    options: ContainerOptions,
}

/// What becomes of keys and signals while the client is attached.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SessionOptions {
    /// Key sequence that detaches the terminal
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Forward signals received by the client to the process (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = flag::boolean)]
    sig_proxy: Option<bool>,
}

impl Command for Run {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        if self.detach && !self.options.handling.attach.is_empty() {
            return Err(CliError::message("conflicting options: cannot specify both --attach and --detach"));
        }
        let attached = if self.detach { Attached::default() } else { self.options.attached() };
        let mut request = self.options.request(attached).map_err(CliError::refused)?;
        attached::check_terminal(attached.stdin, self.options.tty)?;
        if self.options.tty
            && let (Some((height, width)), Some(host)) = (terminal::size(), &mut request.host_config)
        {
            host.console_size = ConsoleSize([height.into(), width.into()]);
        }
        let made = create::create(cx, &self.options, request).map_err(refused)?;
        let client = cx.client()?;
        if attached == Attached::default() {
            client.container_start(&made.id).map_err(start_refused)?;
            return cx.say(made.id);
        }
        self.attach_and_start(cx, client, &made.id, attached)
    }
}

impl Run {
    fn attach_and_start(&self, cx: &Context, client: &Client, id: &str, attached: Attached) -> Result<(), CliError> {
        let (keys_text, keys) = attached::detach_keys(cx, self.session.detach_keys.as_deref()).map_err(refused)?;
        let options = AttachOptions {
            stdin: attached.stdin,
            stdout: attached.stdout,
            stderr: attached.stderr,
            logs: false,
            detach_keys: keys_text,
        };
        if !attached.stdout && !attached.stderr {
            cx.say(id)?;
        }
        // Both are sent before either is answered: the daemon works on them side by side.
        let attach = client.container_attach(id, &options).map_err(refused)?;
        let condition = if self.options.remove { WaitCondition::Removed } else { WaitCondition::NextExit };
        let wait = client.container_wait(id, condition).map_err(refused)?;
        let attach = attach.response().map_err(refused)?;
        let wait = wait.response().map_err(refused)?;
        let tty = self.options.tty;
        let mut session = attached::begin(attach, &options, tty, keys, self.session.sig_proxy.unwrap_or(true) && !tty)?;
        if let Err(error) = client.container_start(id) {
            return self.start_failed(session, wait, error);
        }
        let end = session.run(&MainProcess { client, id, tty })?;
        // The terminal is put right before anything else is said.
        drop(session);
        match attached::ended_early(end) {
            Some(ended) => ended,
            None => attached::exit_with_code_of(wait),
        }
    }

    /// A container that is to be removed is gone when the client is.
    fn start_failed(&self, session: Session, wait: Response<'_>, error: ClientError) -> Result<(), CliError> {
        drop(session);
        if self.options.remove && !matches!(error, ClientError::Broken { .. }) {
            let _ = wait.finish();
        }
        Err(start_refused(error))
    }
}

/// Failures before the process runs have a code that no process gives (B002).
fn refused(error: impl Into<CliError>) -> CliError {
    match error.into() {
        exit @ (CliError::Exit(_) | CliError::Refused(_)) => exit,
        other => CliError::refused(other),
    }
}

/// A program that is missing or cannot be executed gives the codes of a shell (B003, B004).
pub(super) fn start_refused(error: ClientError) -> CliError {
    match start_code(&error.to_string()) {
        ENGINE_CODE => CliError::refused(error),
        code => CliError::with_code(format!("berth: {error}\n\nRun 'berth run --help' for more information"), code),
    }
}

/// The exit code for the text of a start that failed.
pub(super) fn start_code(text: &str) -> u8 {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match () {
        () if has(&["executable file not found", "no such file or directory"]) => 127,
        () if has(&["permission denied", "is a directory"]) => 126,
        () => ENGINE_CODE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_has_the_code_of_a_shell() {
        for (text, code) in [
            ("exec: \"nope\": executable file not found in $PATH", 127),
            ("exec /nope: no such file or directory", 127),
            ("exec /etc/passwd: permission denied", 126),
            ("exec /etc: is a directory", 126),
            ("invalid mount", 125),
        ] {
            assert_eq!(start_code(text), code, "{text}");
        }
    }
}
