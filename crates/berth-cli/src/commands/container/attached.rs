//! What `run`, `start -a` and `attach` share: being attached to the main process of a container.

use berth_client::containers::{AttachOptions, finish_wait};
use berth_client::{Client, InFlight, Response};
use berth_model::Signal;

use crate::error::ENGINE_CODE;
use crate::stream::detach::DetachKeys;
use crate::stream::session::{End, Plan, Process, Session};
use crate::stream::signals::{Purpose, Signals};
use crate::stream::terminal;
use crate::{CliError, Context};

/// The main process of a container, as the session speaks of it.
pub(super) struct MainProcess<'c> {
    pub client: &'c Client,
    pub id: &'c str,
    pub tty: bool,
}

impl Process for MainProcess<'_> {
    fn kill(&self, signal: i32) {
        if let Some(signal) = Signal::from_number(signal) {
            // It may have ended just now; the wait tells.
            let _ = self.client.container_kill(self.id, Some(&signal.name())).and_then(InFlight::finish);
        }
    }

    fn resize(&self) -> bool {
        match terminal::size().filter(|_| self.tty) {
            Some((height, width)) => self.client.container_resize(self.id, height, width).is_ok(),
            None => true,
        }
    }
}

/// The keys that detach: the flag, or the configuration, or the default.
pub(super) fn detach_keys(cx: &Context, flag: Option<&str>) -> Result<(String, DetachKeys), CliError> {
    let text = match flag {
        Some(text) => text.to_owned(),
        None => cx.config().detach_keys.clone(),
    };
    let keys = DetachKeys::parse(&text).map_err(CliError::message)?;
    Ok((text, keys))
}

/// Refuses a terminal for a process whose stdin would be a file or pipe (B042).
pub(super) fn check_terminal(stdin: bool, tty: bool) -> Result<(), CliError> {
    if stdin && tty && !terminal::stdin_is_terminal() {
        return Err(CliError::message(
            "cannot attach stdin to a TTY-enabled container because stdin is not a terminal",
        ));
    }
    Ok(())
}

/// Begins the session on an answered attach. Signals are caught from here on.
pub(super) fn begin(
    response: Response<'_>,
    options: &AttachOptions,
    tty: bool,
    detach_keys: DetachKeys,
    forward_signals: bool,
) -> Result<Session, CliError> {
    if !response.is_stream() {
        return Err(CliError::message("the daemon did not hand the connection over"));
    }
    let signals = catch(tty, options.stdin, forward_signals)?;
    let (stream, early) = response.into_stream();
    let output = options.stdout || options.stderr;
    Session::begin(Plan { stream, early, tty, stdin: options.stdin, output, detach_keys }, signals)
}

/// With a terminal the process gets its signals by it, and ours must put the terminal right. Without, they are forwarded or none of our
/// business.
fn catch(tty: bool, stdin: bool, forward: bool) -> Result<Option<Signals>, CliError> {
    let purpose = match (tty, forward) {
        (true, _) if stdin || terminal::size().is_some() => Purpose::End,
        (false, true) => Purpose::Forward,
        _ => return Ok(None),
    };
    Ok(Some(Signals::catch(purpose)?))
}

/// The exit code that a wait tells; the end of the client with it unless it is 0 (B001, B008).
pub(super) fn exit_with_code_of(wait: Response<'_>) -> Result<(), CliError> {
    let lost =
        |text: &dyn std::fmt::Display| CliError::with_code(format!("error waiting for container: {text}"), ENGINE_CODE);
    let end = finish_wait(wait).map_err(|error| lost(&error))?;
    match end.error {
        Some(error) if !error.message.is_empty() => Err(lost(&error.message)),
        _ => exit_with(end.status_code),
    }
}

/// Ends the client with the code of a process.
pub(super) fn exit_with(code: i64) -> Result<(), CliError> {
    match code {
        0 => Ok(()),
        // What does not fit is cut off as the system does it.
        code => Err(CliError::exit((code & 0xff) as u8)),
    }
}

/// Whether the session's end is the client's end already.
pub(super) fn ended_early(end: End) -> Option<Result<(), CliError>> {
    match end {
        End::StreamOver => None,
        End::Detached => Some(Ok(())),
        End::Signalled(code) => Some(Err(CliError::exit(code))),
    }
}
