//! From the command line to a command: global flags, names, groups, help.

use std::ffi::OsString;
use std::io::Write;

use clap::{Args, FromArgMatches};

use crate::command::{Command, Entry};
use crate::commands::{ALL, GROUPS};
use crate::connect::Globals;
use crate::context::Context;
use crate::error::{CliError, ENGINE_CODE};
use crate::parse::{self, Parsed};
use crate::{autostart, help};

/// Runs the client with the words after its name.
pub(crate) fn run(words: Vec<OsString>) -> Result<(), CliError> {
    if words.first().is_some_and(|word| word == autostart::DETACH_WORD) {
        return autostart::become_daemon();
    }
    let (globals, words) = take_globals(words)?;
    if globals.settings.version {
        return show(&format!("Berth version {}\n", env!("CARGO_PKG_VERSION")));
    }
    match find(&words)? {
        Found::Overview => show(&help::overview(&global_parser())),
        Found::Group { name, about } => show(&help::group(name, about)),
        Found::Command { entry, path, used, help: true } => {
            let _ = used;
            show(&help::command(entry, &path, &parse::build(entry)))
        }
        Found::Command { entry, path, used, help: false } => run_command(entry, &path, &words[used..], globals),
    }
}

fn run_command(entry: &Entry, path: &str, words: &[OsString], globals: Globals) -> Result<(), CliError> {
    match parse::parse(entry, path, words)? {
        Parsed::Help { by_short_flag } => {
            if by_short_flag {
                eprintln!("Flag shorthand -h has been deprecated, use --help");
            }
            show(&help::command(entry, path, &parse::build(entry)))
        }
        Parsed::Matches(mut matches) => {
            let mut cx = Context::new(globals);
            match (entry.run)(&mut matches, &mut cx) {
                Err(CliError::Exit(0)) => Ok(()),
                Err(error) => Err(with_hint(error, path)),
                Ok(()) => Ok(()),
            }
        }
    }
}

/// Refusals carry a hint and the name of the program, so that they are not taken for output of a container.
fn with_hint(error: CliError, path: &str) -> CliError {
    match error {
        CliError::Refused(text) => {
            CliError::with_code(format!("berth: {text}\n\nRun '{path} --help' for more information"), ENGINE_CODE)
        }
        error => error,
    }
}

fn show(text: &str) -> Result<(), CliError> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// What the words after the global flags name.
enum Found {
    Overview,
    Group { name: &'static str, about: &'static str },
    Command { entry: &'static Entry, path: String, used: usize, help: bool },
}

fn find(words: &[OsString]) -> Result<Found, CliError> {
    let word = |at: usize| words.get(at).and_then(|word| word.to_str());
    let Some(first) = word(0) else { return Ok(Found::Overview) };
    if first == "help" {
        return match find(&words[1..])? {
            Found::Command { entry, path, used, .. } => Ok(Found::Command { entry, path, used, help: true }),
            other => Ok(other),
        };
    }
    if let Some(entry) = ALL.iter().find(|entry| entry.top.contains(&first)) {
        return Ok(Found::Command { entry, path: format!("berth {first}"), used: 1, help: false });
    }
    let Some((name, about)) = GROUPS.iter().copied().find(|(name, _)| *name == first) else {
        return Err(CliError::message(format!(
            "berth: unknown command: berth {first}\n\nRun 'berth --help' for more information"
        )));
    };
    let Some(second) = word(1).filter(|word| !matches!(*word, "--help" | "-h")) else {
        return Ok(Found::Group { name, about });
    };
    if let Some(flag) = second.strip_prefix('-') {
        let text = match flag.strip_prefix('-') {
            Some(long) => format!("unknown flag: --{}", long.split('=').next().unwrap_or_default()),
            None => format!("unknown shorthand flag: '{}' in -{flag}", flag.chars().next().unwrap_or('-')),
        };
        let text = format!("{text}\n\nUsage:  berth {name}\n\nRun 'berth {name} --help' for more information");
        return Err(CliError::with_code(text, ENGINE_CODE));
    }
    let in_group = |entry: &&&Entry| entry.group == name && (entry.name == second || entry.aliases.contains(&second));
    match ALL.iter().find(in_group) {
        Some(entry) => Ok(Found::Command { entry, path: format!("berth {name} {}", entry.name), used: 2, help: false }),
        None => Err(CliError::message(format!(
            "berth: unknown command: berth {name} {second}\n\nUsage:  berth {name}\n\nRun 'berth {name} --help' for more information"
        ))),
    }
}

/// Global flags stand before the command. Most command lines have none, and then no parser is built for them.
fn take_globals(words: Vec<OsString>) -> Result<(Globals, Vec<OsString>), CliError> {
    if !words.first().is_some_and(|word| word.as_encoded_bytes().starts_with(b"-")) {
        return Ok((Globals::default(), words));
    }
    let Parsed::Matches(mut matches) = parse::parse(&GLOBAL_ENTRY, "berth", &words)? else {
        return Ok((Globals::default(), Vec::new()));
    };
    let root = Root::from_arg_matches_mut(&mut matches).map_err(|error| CliError::message(error.to_string()))?;
    Ok((root.globals, root.command))
}

/// The global flags and the words behind them.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Root {
    #[command(flatten)]
    globals: Globals,
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Command for Root {
    fn run(self, _cx: &mut Context) -> Result<(), CliError> {
        unreachable!("only parsed, never run")
    }
}

pub(crate) static GLOBAL_ENTRY: Entry =
    Entry::new::<Root>("", "berth", "[OPTIONS] COMMAND [ARG...]", "A container engine in one file", crate::Arity::Any);

fn global_parser() -> clap::Command {
    parse::build(&GLOBAL_ENTRY)
}

/// Everything as one tree of parsers: for shell completion and for the documentation. Building it takes a while.
pub fn command_tree() -> clap::Command {
    let named =
        |entry: &Entry, name: &'static str| parse::build(entry).name(name).about(entry.about).no_binary_name(false);
    let shown = |entry: &&&Entry| entry.place != crate::Place::Hidden;
    let mut root =
        Globals::augment_args(clap::Command::new("berth").disable_help_flag(true).disable_version_flag(true));
    for entry in ALL.iter().filter(shown) {
        for name in entry.top {
            root = root.subcommand(named(entry, name));
        }
    }
    for (group, about) in GROUPS {
        let members = ALL.iter().filter(shown).filter(|entry| entry.group == *group);
        let members = members.map(|entry| named(entry, entry.name).visible_aliases(entry.aliases));
        root = root.subcommand(clap::Command::new(*group).about(*about).disable_help_flag(true).subcommands(members));
    }
    root
}
