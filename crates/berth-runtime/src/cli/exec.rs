//! `exec`.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use berth_oci::runtime::{Process, Spec, Status};

use super::arguments::{Flag, HELP, Parsed};
use super::create::preserved;
use super::foreground::Session;
use super::handover::{self, TerminalUse};
use super::{Command, Context, Failure};
use crate::error::{RuntimeError, Step};
use crate::registry::Entry;
use crate::{ExecRequest, Keyring};

/// The status of an `exec` that could not start its process, as with runc.
const EXEC_FAILED: u8 = 255;

pub(super) const COMMAND: Command = Command {
    name: "exec",
    operands: "ID COMMAND [ARG...] | --process FILE ID",
    summary: "Start one more process in a running container",
    flags: &[
        Flag::value("console-socket"),
        Flag::value("pidfd-socket"),
        Flag::value("cwd"),
        Flag::value("env").short('e'),
        Flag::switch("tty").short('t'),
        Flag::value("user").short('u'),
        Flag::value("additional-gids").short('g'),
        Flag::value("process").short('p'),
        Flag::switch("detach").short('d'),
        Flag::value("pid-file"),
        Flag::value("process-label"),
        Flag::value("apparmor"),
        Flag::switch("no-new-privs"),
        Flag::value("cap").short('c'),
        Flag::value("preserve-fds"),
        Flag::switch("ignore-paused"),
        Flag::switch("no-new-keyring"),
        HELP,
    ],
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let Some((id, command)) = parsed.operands().split_first() else {
        return Err(Failure::Usage("\"exec\" requires a minimum of 1 argument".to_owned()));
    };
    let command = if command.first().is_some_and(|word| word == "--") { &command[1..] } else { command };
    if command.is_empty() && !parsed.has("process") {
        return Err(Failure::Usage("process args cannot be empty".to_owned()));
    }
    exec(context, parsed, id, command).map_err(|error| Failure::Operation {
        what: "exec failed",
        error,
        status: EXEC_FAILED,
    })
}

fn exec(context: &Context, parsed: &Parsed, id: &str, command: &[String]) -> Result<ExitCode, RuntimeError> {
    let entry = context.registry.find(id)?;
    check_status(&entry, parsed)?;
    let spec = entry.spec()?;
    let process = process(parsed, &spec, command)?;
    let detached = parsed.has("detach");
    let terminal_use = TerminalUse::choose(parsed, process.terminal, detached)?;
    let preserve_fds = preserved(parsed)?;
    let session = if detached { None } else { Some(Session::begin()?) };
    let container = entry.attach(&spec)?;
    let keyring = if parsed.has("no-new-keyring") { Keyring::Inherited } else { Keyring::New };
    let started = container.exec(&ExecRequest { preserve_fds, keyring, ..ExecRequest::new(&process) })?;
    started.warnings.iter().for_each(|warning| context.log.warning(warning));
    if terminal_use == TerminalUse::Sent {
        handover::send_terminal(parsed, started.terminal.as_ref())?;
    }
    handover::send_pidfd(parsed, started.pidfd.as_fd())?;
    handover::write_pid_file(parsed, started.pid)?;
    match session {
        Some(session) => Ok(ExitCode::from(session.attend(started.pidfd.as_fd(), started.terminal.as_ref())?)),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn check_status(entry: &Entry, parsed: &Parsed) -> Result<(), RuntimeError> {
    match entry.status()? {
        Status::Stopped => Err(entry.wrong_state("cannot exec in", "it has stopped")),
        Status::Paused if !parsed.has("ignore-paused") => Err(entry.wrong_state("cannot exec in", "it is paused")),
        _ => Ok(()),
    }
}

/// The process to start: that of the file, or the container's own with what the options change.
fn process(parsed: &Parsed, spec: &Spec, command: &[String]) -> Result<Process, RuntimeError> {
    if let Some(file) = parsed.value("process").map(Path::new) {
        let text = std::fs::read(file).step("reading", file)?;
        let process = serde_json::from_slice(&text);
        return process.map_err(|error| RuntimeError::invalid(file.display().to_string(), error.to_string()));
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = command.to_vec();
    process.terminal = parsed.has("tty");
    process.console_size = None;
    process.env.extend(parsed.values("env").iter().cloned());
    if let Some(directory) = parsed.value("cwd") {
        process.cwd = directory.to_owned();
    }
    if let Some(label) = parsed.value("process-label") {
        process.selinux_label = label.to_owned();
    }
    if let Some(profile) = parsed.value("apparmor") {
        process.apparmor_profile = profile.to_owned();
    }
    if parsed.has("no-new-privs") {
        process.no_new_privileges = true;
    }
    set_user(parsed, &mut process)?;
    add_capabilities(parsed, &mut process);
    Ok(process)
}

fn set_user(parsed: &Parsed, process: &mut Process) -> Result<(), RuntimeError> {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| RuntimeError::invalid("--user", format!("{text:?} is not a number")))
    };
    if let Some(user) = parsed.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = number(uid)?;
        if let Some(gid) = gid {
            process.user.gid = number(gid)?;
        }
    }
    for gid in parsed.values("additional-gids") {
        process.user.additional_gids.push(number(gid)?);
    }
    Ok(())
}

/// As runc does: to all sets but the inheritable one, and to the ambient one only where that is in use.
fn add_capabilities(parsed: &Parsed, process: &mut Process) {
    let capabilities = process.capabilities.get_or_insert_default();
    for capability in parsed.values("cap") {
        let ambient = !capabilities.ambient.is_empty();
        let sets = [&mut capabilities.bounding, &mut capabilities.effective, &mut capabilities.permitted];
        sets.into_iter().for_each(|set| set.push(capability.clone()));
        if ambient {
            capabilities.inheritable.push(capability.clone());
            capabilities.ambient.push(capability.clone());
        }
    }
}
