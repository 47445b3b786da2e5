//! runc's command line: `berth-runtime [global options] COMMAND [options] ...`.
//!
//! Parses, calls the library, prints. Errors go to the log, which is standard error unless `--log` says otherwise, and to
//! standard error as well when the log is elsewhere; managers read the last line of the log.

mod arguments;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod handover;
mod kill;
mod list;
mod log;
mod ps;
mod shield;
mod spec;
mod start;
mod state;
mod table;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use arguments::{Flag, Parsed};
use log::{Format, Log};

use crate::error::RuntimeError;
use crate::registry::Registry;

/// The status of a runtime that failed, whatever the reason.
const FAILED: u8 = 1;

const GLOBAL: &[Flag] = &[
    Flag::switch("debug"),
    Flag::value("log"),
    Flag::value("log-format"),
    Flag::value("root"),
    Flag::value("criu"),
    Flag::switch("systemd-cgroup"),
    Flag::value("rootless"),
    Flag::switch("help").short('h'),
    Flag::switch("version").short('v'),
];

/// One command.
struct Command {
    name: &'static str,
    /// What follows the options.
    operands: &'static str,
    summary: &'static str,
    flags: &'static [Flag],
    run: fn(&Context, &Parsed) -> Result<ExitCode, Failure>,
}

const COMMANDS: &[Command] = &[
    create::COMMAND,
    delete::COMMAND,
    events::COMMAND,
    exec::COMMAND,
    features::COMMAND,
    kill::COMMAND,
    list::COMMAND,
    state::PAUSE,
    ps::COMMAND,
    state::RESUME,
    create::RUN,
    spec::COMMAND,
    start::COMMAND,
    state::COMMAND,
    update::COMMAND,
];

/// What every command gets.
struct Context {
    registry: Registry,
    log: Log,
}

/// Why a command failed, and with which status.
#[derive(Debug)]
enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The operation failed.
    Operation { what: &'static str, error: RuntimeError, status: u8 },
    /// The plain error.
    Plain(RuntimeError),
    /// Output could not be written.
    Output(std::io::Error),
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Failure {
        Failure::Plain(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl Failure {
    fn message(&self) -> String {
        match self {
            Failure::Usage(message) => message.clone(),
            Failure::Operation { what, error, .. } => format!("{what}: {error}"),
            Failure::Plain(error) => error.to_string(),
            Failure::Output(error) => format!("writing output: {error}"),
        }
    }

    fn status(&self) -> u8 {
        if let Failure::Operation { status, .. } = self { *status } else { FAILED }
    }
}

/// Runs the program with its arguments, without its own name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut text = Vec::with_capacity(args.len());
    for argument in args {
        match argument.into_string() {
            Ok(argument) => text.push(argument),
            Err(argument) => return refuse(&format!("argument {argument:?} is not UTF-8")),
        }
    }
    let (global, rest) = match arguments::parse(GLOBAL, &text) {
        Ok(parsed) => parsed,
        Err(message) => return refuse(&message),
    };
    if global.has("version") {
        return print_version();
    }
    let log = match open_log(&global) {
        Ok(log) => log,
        Err(message) => return refuse(&message),
    };
    let Some((name, rest)) = rest.split_first().filter(|_| !global.has("help")) else { return print_help() };
    if name == "help" {
        return print_help();
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        log.error(&format!("no such command: {name}"));
        return ExitCode::from(FAILED);
    };
    dispatch(command, rest, &global, log, &text)
}

fn dispatch(command: &Command, rest: &[String], global: &Parsed, log: Log, all: &[String]) -> ExitCode {
    let (mut parsed, operands) = match arguments::parse(command.flags, rest) {
        Ok(parsed) => parsed,
        Err(message) => {
            log.error(&format!("{}: {message}", command.name));
            return ExitCode::from(FAILED);
        }
    };
    parsed.set_operands(operands);
    if parsed.has("help") {
        return print_command_help(command);
    }
    if global.has("systemd-cgroup") {
        log.error("--systemd-cgroup: the systemd cgroup driver is not supported, only cgroupfs");
        return ExitCode::from(FAILED);
    }
    if let Err(error) = shield::protect(command.name, all) {
        log.error(&error.to_string());
        return ExitCode::from(FAILED);
    }
    log.debug(&format!("running {} {:?}", command.name, parsed.operands()));
    let context = Context { registry: Registry::new(root_of(global)), log };
    match (command.run)(&context, &parsed) {
        Ok(status) => status,
        Err(failure) => {
            context.log.error(&failure.message());
            ExitCode::from(failure.status())
        }
    }
}

/// Where containers are remembered: below the user's own runtime directory when that is all we may write.
fn root_of(global: &Parsed) -> PathBuf {
    const DEFAULT: &str = "/run/berth-runtime";
    if let Some(root) = global.value("root") {
        return PathBuf::from(root);
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root()) {
        Some(own) => PathBuf::from(own).join("berth-runtime"),
        None => PathBuf::from(DEFAULT),
    }
}

fn open_log(global: &Parsed) -> Result<Log, String> {
    let format = match global.value("log-format") {
        None | Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some(other) => return Err(format!("unknown log-format {other:?}")),
    };
    Log::open(global.value("log"), format, global.has("debug"))
}

/// An error before there is a log.
fn refuse(message: &str) -> ExitCode {
    Log::standard_error().error(message);
    ExitCode::from(FAILED)
}

fn print_version() -> ExitCode {
    println!("berth-runtime version {}", env!("CARGO_PKG_VERSION"));
    println!("spec: {}", berth_oci::runtime::OCI_VERSION);
    ExitCode::SUCCESS
}

fn print_help() -> ExitCode {
    println!("Usage: berth-runtime [global options] COMMAND [options] ...\n");
    println!("Runs containers from OCI bundles.\n\nCommands:");
    for command in COMMANDS {
        println!("  {:<10} {}", command.name, command.summary);
    }
    println!("\nGlobal options:");
    arguments::print_flags(GLOBAL);
    ExitCode::SUCCESS
}

fn print_command_help(command: &Command) -> ExitCode {
    println!("Usage: berth-runtime {} [options] {}\n", command.name, command.operands);
    println!("{}\n\nOptions:", command.summary);
    arguments::print_flags(command.flags);
    ExitCode::SUCCESS
}
