//! Builds the parser of one command, and puts its errors into docker's words.
//!
//! clap does the parsing; here its habits are bent to those of docker's flags: `--flag=false`, values that begin with a dash, `-it`, the
//! last of two equal flags wins, and the texts and exit codes of errors (B010).

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use crate::command::{Arity, Entry};
use crate::error::{CliError, ENGINE_CODE};
use crate::{flag, help, seldom};

/// What the arguments ask for.
pub(crate) enum Parsed {
    /// To run with these.
    Matches(ArgMatches),
    /// To show the help text.
    Help {
        /// `-h`, which docker wants people to stop using.
        by_short_flag: bool,
    },
}

/// The parser of one command.
pub(crate) fn build(entry: &Entry) -> clap::Command {
    complete(entry, clap::Command::new(entry.name))
}

/// The parser of one command without the flags that few command lines have.
fn build_usual(entry: &Entry) -> clap::Command {
    complete(entry, seldom::leave_out(clap::Command::new(entry.name)))
}

fn complete(entry: &Entry, command: clap::Command) -> clap::Command {
    let command =
        command.no_binary_name(true).disable_help_flag(true).disable_version_flag(true).args_override_self(true);
    let command = (entry.augment)(command).mut_args(as_docker_does);
    let has = |short: char| command.get_arguments().any(|arg| arg.get_short() == Some(short));
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print usage").hide(!has('h'));
    let help = if has('h') { help } else { help.short('h') };
    command.arg(help)
}

/// Booleans take `=false`; every other flag takes the next word, whatever it looks like.
fn as_docker_does(arg: Arg) -> Arg {
    if arg.is_positional() {
        return arg;
    }
    match arg.get_action() {
        ArgAction::SetTrue => boolean(arg, "false"),
        ArgAction::SetFalse => boolean(arg, "true"),
        ArgAction::Set | ArgAction::Append => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

fn boolean(arg: Arg, default: &'static str) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(default)
        .value_parser(flag::boolean)
}

/// Parses the words after the name of the command.
///
/// # Errors
/// Docker's text for a flag that is unknown, lacks its value or has a bad one (exit code 125), and for a wrong number of arguments (1).
pub(crate) fn parse(entry: &Entry, path: &str, words: &[OsString]) -> Result<Parsed, CliError> {
    let mut usual = build_usual(entry);
    match usual.try_get_matches_from_mut(words) {
        Ok(matches) if has_right_arity(entry, &usual, &matches) => Ok(Parsed::Matches(matches)),
        _ => parse_whole(entry, path, words),
    }
}

/// As [`parse`], by the parser that knows every flag.
fn parse_whole(entry: &Entry, path: &str, words: &[OsString]) -> Result<Parsed, CliError> {
    let mut command = build(entry);
    match command.try_get_matches_from_mut(words) {
        Ok(matches) if has_right_arity(entry, &command, &matches) => Ok(Parsed::Matches(matches)),
        Ok(_) => Err(wrong_arity(entry, path)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp => Ok(Parsed::Help { by_short_flag: !words.iter().any(|word| word == "--help") }),
            ErrorKind::MissingRequiredArgument | ErrorKind::TooManyValues | ErrorKind::TooFewValues => {
                Err(wrong_arity(entry, path))
            }
            _ => match explain(&command, &error, words) {
                Some(text) => Err(usage_error(entry, path, &text)),
                None => Err(wrong_arity(entry, path)),
            },
        },
    }
}

fn has_right_arity(entry: &Entry, command: &clap::Command, matches: &ArgMatches) -> bool {
    entry.arity.allows(command.get_positionals().map(|arg| values_of(matches, arg)).sum())
}

fn values_of(matches: &ArgMatches, arg: &Arg) -> usize {
    match matches.value_source(arg.get_id().as_str()) {
        Some(clap::parser::ValueSource::CommandLine) => {
            matches.get_raw(arg.get_id().as_str()).map_or(0, Iterator::count)
        }
        _ => 0,
    }
}

/// The text of an error about a flag; `None` for one about an argument too many.
fn explain(command: &clap::Command, error: &clap::Error, words: &[OsString]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (arg, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(arg, words),
        // Only the last word can lack its value: every other flag takes the word behind it.
        ErrorKind::InvalidValue if value.is_empty() => Some(missing_value(words)),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => Some(format!(
            "invalid argument \"{value}\" for \"{}\" flag: {}",
            spelling(command, arg),
            reason(error, value)
        )),
        ErrorKind::NoEquals => Some(missing_value(words)),
        ErrorKind::InvalidUtf8 => Some("invalid UTF-8 in the arguments".to_owned()),
        _ => Some(error.to_string().trim_start_matches("error: ").trim().to_owned()),
    }
}

fn unknown(arg: &str, words: &[OsString]) -> Option<String> {
    if let Some(name) = arg.strip_prefix("--") {
        let name = name.split('=').next().unwrap_or_default();
        return Some(format!("unknown flag: --{name}"));
    }
    let letter = arg.strip_prefix('-')?.chars().next()?;
    // clap names the letter; docker shows the rest of the word from there too.
    let rest = words.iter().filter_map(|word| word.to_str()).find_map(|word| {
        let letters = word.strip_prefix('-').filter(|letters| !letters.starts_with('-'))?;
        letters.find(letter).map(|at| letters[at..].to_owned())
    });
    Some(format!("unknown shorthand flag: '{letter}' in -{}", rest.unwrap_or_else(|| letter.to_string())))
}

fn missing_value(words: &[OsString]) -> String {
    let word = words.last().and_then(|word| word.to_str()).unwrap_or_default();
    match word.strip_prefix("--") {
        Some(_) => format!("flag needs an argument: {word}"),
        None => {
            let letter = word.chars().next_back().unwrap_or_default();
            format!("flag needs an argument: '{letter}' in -{letter}")
        }
    }
}

/// The flag as docker quotes it: `-m, --memory`.
fn spelling(command: &clap::Command, shown: &str) -> String {
    let name = shown.split([' ', '=', '[']).next().unwrap_or(shown);
    let long = name.trim_start_matches('-');
    let is_it =
        |arg: &&Arg| arg.get_long() == Some(long) || arg.get_short().is_some_and(|short| long == short.to_string());
    match command.get_arguments().find(is_it) {
        Some(arg) => match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (Some(short), None) => format!("-{short}"),
            (None, _) => name.to_owned(),
        },
        None => name.to_owned(),
    }
}

/// What is wrong with a value. Rust's words for numbers become those of the reference client, which scripts may look for.
fn reason(error: &clap::Error, value: &str) -> String {
    let Some(source) = std::error::Error::source(error) else {
        return error.to_string();
    };
    if let Some(number) = source.downcast_ref::<std::num::ParseIntError>() {
        return flag::integer_error(value, number);
    }
    source.to_string()
}

impl Arity {
    fn allows(self, count: usize) -> bool {
        match self {
            Arity::Exactly(want) => count == want,
            Arity::AtLeast(least) => count >= least,
            Arity::AtMost(most) => count <= most,
            Arity::Between(least, most) => (least..=most).contains(&count),
            Arity::Any => true,
        }
    }

    fn words(self) -> String {
        let s = |count: usize| if count == 1 { "" } else { "s" };
        match self {
            Arity::Exactly(0) => "accepts no arguments".to_owned(),
            Arity::Exactly(want) => format!("requires {want} argument{}", s(want)),
            Arity::AtLeast(least) => format!("requires at least {least} argument{}", s(least)),
            Arity::AtMost(most) => format!("requires at most {most} argument{}", s(most)),
            Arity::Between(least, most) => format!("requires at least {least} and at most {most} argument{}", s(most)),
            Arity::Any => "takes any number of arguments".to_owned(),
        }
    }
}

fn wrong_arity(entry: &Entry, path: &str) -> CliError {
    let usage = help::usage_line(path, entry.usage);
    CliError::message(format!(
        "berth: '{path}' {}\n\n{usage}\n\nRun '{path} --help' for more information",
        entry.arity.words()
    ))
}

fn usage_error(entry: &Entry, path: &str, text: &str) -> CliError {
    let usage = help::usage_line(path, entry.usage);
    CliError::with_code(format!("{text}\n\n{usage}\n\nRun '{path} --help' for more information"), ENGINE_CODE)
}

#[cfg(test)]
mod tests;
