//! Help texts in the look of docker's client: usage, what it does, other spellings, options or commands.

use std::fmt::Write;

use clap::{Arg, ArgAction};

use crate::command::{Entry, Place};
use crate::commands::{ALL, GROUPS};

/// Width of the text when the terminal's is not known.
const DEFAULT_WIDTH: usize = 80;

/// `Usage:  berth ps [OPTIONS]`.
pub(crate) fn usage_line(path: &str, usage: &str) -> String {
    format!("Usage:  {path} {usage}").trim_end().to_owned()
}

/// The help text of one command.
pub(crate) fn command(entry: &Entry, path: &str, parser: &clap::Command) -> String {
    let mut text = usage_line(path, entry.usage);
    let _ = write!(text, "\n\n{}\n", entry.about);
    let spellings = entry.spellings();
    if !spellings.is_empty() {
        let _ = write!(text, "\nAliases:\n  {}\n", spellings.join(", "));
    }
    let options = options(parser, width());
    if !options.is_empty() {
        let _ = write!(text, "\nOptions:\n{options}");
    }
    text
}

/// The help text of a group.
pub(crate) fn group(name: &str, about: &str) -> String {
    let mut entries: Vec<_> = ALL.iter().filter(|entry| entry.group == name && entry.place != Place::Hidden).collect();
    entries.sort_by_key(|entry| entry.name);
    let lines = entries.iter().map(|entry| (entry.name, entry.about));
    format!(
        "Usage:  berth {name} COMMAND\n\n{about}\n\nCommands:\n{}\nRun 'berth {name} COMMAND --help' for more information on a command.\n",
        table(lines)
    )
}

/// The overview of everything.
pub(crate) fn overview(globals: &clap::Command) -> String {
    let mut common: Vec<_> = ALL.iter().filter(|entry| matches!(entry.place, Place::Common(_))).collect();
    common.sort_by_key(|entry| match entry.place {
        Place::Common(order) => order,
        _ => u8::MAX,
    });
    let mut listed: Vec<_> = ALL.iter().filter(|e| e.place == Place::Listed && !e.top.is_empty()).collect();
    listed.sort_by_key(|entry| entry.top[0]);
    let of = |entries: &[&&'static Entry]| table(entries.iter().map(|entry| (entry.top[0], entry.about)));
    format!(
        "Usage:  berth [OPTIONS] COMMAND\n\nA container engine in one file\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\n\
         Global Options:\n{}\nRun 'berth COMMAND --help' for more information on a command.\n",
        of(&common),
        table(GROUPS.iter().copied()),
        of(&listed),
        options(globals, width()),
    )
}

fn table<'t>(rows: impl Iterator<Item = (&'t str, &'t str)>) -> String {
    let mut text = String::new();
    for (name, about) in rows {
        let _ = writeln!(text, "  {name:<11} {about}");
    }
    text
}

/// The flags of a command in order of their names, the descriptions beside them, wrapped to `width`.
pub(crate) fn options(parser: &clap::Command, width: usize) -> String {
    let mut args: Vec<_> = parser.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).collect();
    args.sort_by_key(|arg| arg.get_long().unwrap_or_default());
    let heads: Vec<_> = args.iter().map(|arg| head(arg)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or_default() + 3;
    let mut text = String::new();
    for (arg, head) in args.iter().zip(heads) {
        let _ = writeln!(text, "{head:<column$}{}", wrap(&description(arg), column, width - 1));
    }
    text
}

/// `  -m, --memory bytes`.
fn head(arg: &Arg) -> String {
    let mut text = match arg.get_short() {
        Some(short) => format!("  -{short}, "),
        None => "      ".to_owned(),
    };
    text.push_str("--");
    text.push_str(arg.get_long().unwrap_or_default());
    if !is_boolean(arg)
        && let Some([name]) = arg.get_value_names()
    {
        text.push(' ');
        text.push_str(name);
    }
    text
}

/// The description, and the default where it is not simply nothing.
fn description(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let default = arg.get_default_values().first().and_then(|value| value.to_str()).unwrap_or_default();
    if matches!(default, "" | "0" | "false") {
        return text;
    }
    let is_text = arg.get_value_names().is_some_and(|names| names.first().is_some_and(|name| name == "string"));
    let _ = if is_text { write!(text, " (default \"{default}\")") } else { write!(text, " (default {default})") };
    text
}

fn is_boolean(arg: &Arg) -> bool {
    !arg.get_action().takes_values() || arg.is_require_equals_set() || matches!(arg.get_action(), ArgAction::Help)
}

/// Breaks a text at blanks so that it fits between `column` and `width`; its own line breaks stay.
fn wrap(text: &str, column: usize, width: usize) -> String {
    /// The last word may go over by this much rather than stand alone on a line.
    const SLOP: usize = 5;
    let room = width.saturating_sub(column);
    if room < 24 {
        return text.replace('\n', &format!("\n{}", " ".repeat(column)));
    }
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = first_line(rest, room - SLOP, SLOP);
        lines.push(line);
        rest = after;
    }
    lines.join(&format!("\n{}", " ".repeat(column))).replace("\n\n", "\n")
}

fn first_line(text: &str, room: usize, slop: usize) -> (&str, &str) {
    let paragraph = text.split('\n').next().unwrap_or(text);
    if paragraph.chars().count() < room + slop {
        return (paragraph, text[paragraph.len()..].strip_prefix('\n').unwrap_or_default());
    }
    let limit = paragraph.char_indices().nth(room).map_or(paragraph.len(), |(at, _)| at);
    match paragraph[..limit].rfind(' ').filter(|at| *at > 0) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (paragraph, text[paragraph.len()..].strip_prefix('\n').unwrap_or_default()),
    }
}

fn width() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stdin()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => DEFAULT_WIDTH,
    }
}
