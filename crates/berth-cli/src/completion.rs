//! What may come next on a command line: for the shells' completion scripts, which ask by a hidden command.
//!
//! The answer is lines of candidates, with a tab and a description where there is one, and a last line with a colon and a
//! number that tells the shell what else it may offer. Nothing here fails: without a daemon there are just no names, and a
//! daemon is never started for this.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use berth_client::Client;
use clap::{ArgAction, Args};

use crate::command::{Entry, Place};
use crate::commands::{ALL, GROUPS};
use crate::connect::{DEFAULT_SOCKET, Globals};
use crate::context::Context;
use crate::parse;

/// The script for bash.
pub const BASH: &str = include_str!("completion/berth.bash");
/// The script for zsh.
pub const ZSH: &str = include_str!("completion/berth.zsh");
/// The script for fish.
pub const FISH: &str = include_str!("completion/berth.fish");

/// What fits, and what the shell does besides.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Words with their descriptions, which may be empty.
    pub candidates: Vec<(String, String)>,
    /// Whether names of files fit too.
    pub files: bool,
}

impl Completion {
    fn files() -> Completion {
        Completion { files: true, ..Completion::default() }
    }

    fn of<T: Into<String>>(words: impl IntoIterator<Item = T>) -> Completion {
        Completion { candidates: words.into_iter().map(|word| (word.into(), String::new())).collect(), files: false }
    }

    /// The answer as the scripts read it.
    pub fn to_text(&self) -> String {
        /// The number that rules files out, as the completion scripts of other Go tools have it too.
        const NO_FILES: u8 = 4;
        let mut text = String::new();
        for (word, about) in &self.candidates {
            text.push_str(word);
            if let Some(first) = about.lines().next().filter(|line| !line.is_empty()) {
                text.push('\t');
                text.push_str(first);
            }
            text.push('\n');
        }
        text.push_str(&format!(":{}\n", if self.files { 0 } else { NO_FILES }));
        text
    }
}

/// What may stand in the place of the last of `words`, which are those after the name of the program.
pub fn complete(words: &[String]) -> Completion {
    let Some((last, before)) = words.split_last() else { return Completion::default() };
    let (globals, used) = globals(before);
    let before = &before[used.min(before.len())..];
    let mut completion = match find(before) {
        Found::Nothing if last.starts_with('-') => flags(&Globals::augment_args(clap::Command::new("berth"))),
        Found::Nothing => top_level(),
        Found::Group(name) => group(name),
        Found::Command(entry, arguments) => arguments_of(entry, arguments, last, &Context::new(globals)),
        Found::Unknown => Completion::default(),
    };
    completion.candidates.retain(|(word, _)| word.starts_with(last.as_str()));
    completion.candidates.sort();
    completion.candidates.dedup();
    completion
}

/// The flags before the command as far as they name a daemon, and how many words they are.
fn globals(words: &[String]) -> (Globals, usize) {
    let mut globals = Globals::default();
    let mut used = 0;
    while let Some(word) = words.get(used).filter(|word| word.starts_with('-')) {
        let (name, inline) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
        let switch = matches!(name, "-D" | "--debug" | "--tls" | "--tlsverify" | "-v" | "--version");
        used += 1;
        if switch {
            continue;
        }
        let value = inline.or_else(|| {
            used += 1;
            words.get(used - 1).cloned()
        });
        match (name, value) {
            ("-H" | "--host", Some(host)) => globals.host.push(host),
            ("-c" | "--context", value @ Some(_)) => globals.context = value,
            ("--config", value) => globals.settings.config = value.map(PathBuf::from),
            _ => {}
        }
    }
    (globals, used)
}

enum Found<'a> {
    Nothing,
    Group(&'static str),
    Command(&'static Entry, &'a [String]),
    Unknown,
}

fn find(words: &[String]) -> Found<'_> {
    let Some((first, rest)) = words.split_first() else { return Found::Nothing };
    if first == "help" {
        return find(rest);
    }
    if let Some(entry) = ALL.iter().find(|entry| entry.top.contains(&first.as_str())) {
        return Found::Command(entry, rest);
    }
    let Some((name, _)) = GROUPS.iter().find(|(name, _)| name == first) else { return Found::Unknown };
    let Some((second, rest)) = rest.split_first() else { return Found::Group(name) };
    let named =
        |entry: &&&Entry| entry.group == *name && (entry.name == second || entry.aliases.contains(&second.as_str()));
    match ALL.iter().find(named) {
        Some(entry) => Found::Command(entry, rest),
        None => Found::Unknown,
    }
}

fn top_level() -> Completion {
    let shown = ALL.iter().filter(|entry| entry.place != Place::Hidden);
    let commands = shown.flat_map(|entry| entry.top.iter().map(|name| ((*name).to_owned(), entry.about.to_owned())));
    let groups = GROUPS.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned()));
    Completion { candidates: commands.chain(groups).collect(), files: false }
}

fn group(name: &str) -> Completion {
    let members = ALL.iter().filter(|entry| entry.group == name && entry.place != Place::Hidden);
    Completion {
        candidates: members.map(|entry| (entry.name.to_owned(), entry.about.to_owned())).collect(),
        files: false,
    }
}

fn flags(parser: &clap::Command) -> Completion {
    let shown = parser.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    let described = shown.filter_map(|arg| {
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some((format!("--{}", arg.get_long()?), about))
    });
    Completion { candidates: described.collect(), files: false }
}

fn arguments_of(entry: &Entry, arguments: &[String], last: &str, cx: &Context) -> Completion {
    let parser = parse::build(entry);
    let line = read(&parser, entry, arguments);
    if let Some(flag) = &line.open_flag {
        return flag_value(entry, flag, cx);
    }
    if line.own_command {
        return Completion::files();
    }
    if let Some((flag, _)) = last.split_once('=').filter(|_| last.starts_with("--")) {
        let mut values = flag_value(entry, flag.trim_start_matches('-'), cx);
        values.candidates.iter_mut().for_each(|(word, _)| *word = format!("{flag}={word}"));
        return values;
    }
    if last.starts_with('-') && !line.flags_ended {
        return flags(&parser);
    }
    positional(entry, &line.positionals, cx)
}

/// What the words of a command line are so far.
#[derive(Default)]
struct Line {
    positionals: Vec<String>,
    /// The flag whose value comes next.
    open_flag: Option<String>,
    flags_ended: bool,
    /// Whether the words are those of a program in a container, of which we know nothing.
    own_command: bool,
}

fn read(parser: &clap::Command, entry: &Entry, arguments: &[String]) -> Line {
    let mut line = Line::default();
    let takes_value = |arg: &clap::Arg| {
        matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
    };
    let runs_program =
        matches!(entry.name, "run" | "create" | "exec" | "top") && matches!(entry.group, "container" | "");
    for word in arguments {
        if line.open_flag.take().is_some() {
            continue;
        }
        if word == "--" && !line.flags_ended {
            line.flags_ended = true;
            continue;
        }
        let flag = Some(word).filter(|word| word.starts_with('-') && word.len() > 1 && !line.flags_ended);
        let Some(flag) = flag else {
            line.positionals.push(word.clone());
            line.own_command |= runs_program;
            line.flags_ended |= runs_program;
            continue;
        };
        if flag.contains('=') {
            continue;
        }
        let known = match flag.strip_prefix("--") {
            Some(long) => parser.get_arguments().find(|arg| arg.get_long() == Some(long)),
            // Of letters in a row only the last one can wait for its value.
            None => flag
                .chars()
                .last()
                .and_then(|letter| parser.get_arguments().find(|arg| arg.get_short() == Some(letter))),
        };
        line.open_flag = known.filter(|arg| takes_value(arg)).and_then(|arg| arg.get_long()).map(str::to_owned);
    }
    line
}

/// What fits as the value of a flag.
fn flag_value(entry: &Entry, flag: &str, cx: &Context) -> Completion {
    match flag {
        "input" | "output" | "file" | "env-file" | "label-file" | "cidfile" | "config" | "volume" | "device" => {
            Completion::files()
        }
        "network" | "net" => {
            let mut names = networks(cx);
            names.candidates.extend(["none", "host", "bridge"].map(|word| (word.to_owned(), String::new())));
            names
        }
        "volumes-from" => containers(cx, |_| true),
        "platform" => Completion::of(PLATFORMS.iter().copied()),
        "format" => Completion::of(["json", "table"]),
        "restart" => Completion::of(["always", "no", "on-failure", "unless-stopped"]),
        "pull" => Completion::of(["always", "missing", "never"]),
        "signal" | "stop-signal" => Completion::of(SIGNALS.iter().copied()),
        "log-level" => Completion::of(["debug", "info", "warn", "error", "fatal"]),
        "type" if entry.group.is_empty() => Completion::of([
            "container",
            "image",
            "network",
            "volume",
            "plugin",
            "service",
            "task",
            "node",
            "secret",
            "config",
        ]),
        _ => Completion::default(),
    }
}

const PLATFORMS: &[&str] = &[
    "linux/386",
    "linux/amd64",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
];

const SIGNALS: &[&str] = &["ABRT", "CONT", "HUP", "INT", "KILL", "QUIT", "STOP", "TERM", "USR1", "USR2", "WINCH"];

/// What fits as the next argument, after those that are there.
fn positional(entry: &Entry, given: &[String], cx: &Context) -> Completion {
    let first = given.is_empty();
    let mut names = match (entry.group, entry.name) {
        ("container", "attach" | "kill" | "pause" | "port" | "restart" | "stats" | "stop" | "top" | "exec") => {
            let paused = matches!(entry.name, "kill" | "restart" | "stop" | "port");
            containers(cx, move |state| state == "running" || (paused && state == "paused"))
        }
        ("container", "start") => containers(cx, |state| matches!(state, "created" | "exited" | "paused")),
        ("container", "unpause") => containers(cx, |state| state == "paused"),
        ("container", "run" | "create") if first => images(cx),
        ("container", "commit" | "diff" | "export" | "rename" | "logs") if !first => return Completion::default(),
        ("container", "cp") => {
            let mut names = containers(cx, |_| true);
            names.candidates.iter_mut().for_each(|(name, _)| name.push(':'));
            return Completion { files: true, ..names };
        }
        ("container", "commit" | "diff" | "export" | "inspect" | "logs" | "rename" | "rm" | "update" | "wait") => {
            containers(cx, |_| true)
        }
        ("image", "history" | "tag") if !first => return Completion::default(),
        (
            "image",
            "history" | "inspect" | "mount" | "pin" | "push" | "rm" | "save" | "tag" | "ls" | "unmount" | "unpin",
        ) => images(cx),
        ("image", "import" | "load") => return Completion::files(),
        ("volume", "inspect" | "rm") => volumes(cx),
        ("network", "inspect" | "rm") => networks(cx),
        ("network", "connect" | "disconnect") if first => networks(cx),
        ("network", "connect" | "disconnect") => containers(cx, |_| true),
        ("", "inspect") => {
            let mut all = containers(cx, |_| true);
            for more in [images(cx), networks(cx), volumes(cx)] {
                all.candidates.extend(more.candidates);
            }
            all
        }
        ("", "completion") if first => Completion::of(["bash", "fish", "zsh"]),
        _ => Completion::default(),
    };
    // Nobody names the same thing twice.
    names.candidates.retain(|(name, _)| !given.contains(name));
    names
}

/// The daemon, if one is there already.
fn daemon(cx: &Context) -> Option<&Client> {
    let named = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    let globals = cx.globals();
    let chosen = !globals.host.is_empty()
        || globals.context.is_some()
        || ["BERTH_HOST", "DOCKER_HOST", "DOCKER_CONTEXT"].iter().any(|variable| named(variable))
        || !matches!(cx.config().current_context.as_str(), "" | "default");
    if !chosen && UnixStream::connect(DEFAULT_SOCKET).is_err() {
        return None;
    }
    cx.client().ok()
}

/// A list of the daemon; empty where it cannot be had.
fn listed(cx: &Context, path: &str) -> Vec<serde_json::Value> {
    let answer = daemon(cx).and_then(|client| client.get(path).send().ok()?.json::<serde_json::Value>().ok());
    match answer {
        Some(serde_json::Value::Array(items)) => items,
        Some(mut document) => document["Volumes"].as_array_mut().map(std::mem::take).unwrap_or_default(),
        None => Vec::new(),
    }
}

fn containers(cx: &Context, wanted: impl Fn(&str) -> bool) -> Completion {
    let all = listed(cx, "/containers/json?all=1");
    let fitting = all.iter().filter(|item| wanted(item["State"].as_str().unwrap_or_default()));
    let names = fitting.flat_map(|item| item["Names"].as_array().into_iter().flatten());
    // Names with another slash are aliases that links have made.
    Completion::of(names.filter_map(|name| name.as_str()?.strip_prefix('/').filter(|name| !name.contains('/'))))
}

fn images(cx: &Context) -> Completion {
    let all = listed(cx, "/images/json");
    let tags = all.iter().flat_map(|item| item["RepoTags"].as_array().into_iter().flatten());
    Completion::of(tags.filter_map(|tag| tag.as_str()).filter(|tag| !tag.starts_with('<')))
}

fn volumes(cx: &Context) -> Completion {
    Completion::of(listed(cx, "/volumes").iter().filter_map(|item| item["Name"].as_str()))
}

fn networks(cx: &Context) -> Completion {
    Completion::of(listed(cx, "/networks").iter().filter_map(|item| item["Name"].as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that complete the line; what depends on a daemon is tested through the shells.
    fn words(line: &[&str]) -> Vec<String> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        complete(&words).candidates.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn commands_groups_and_flags_are_known() {
        assert_eq!(words(&["imag"]), ["image", "images"]);
        assert_eq!(words(&["-D", "-H", "unix:///x", "vol"]), ["volume"]);
        assert_eq!(words(&["volume", "i"]), ["inspect"]);
        assert_eq!(words(&["ps", "--n"]), ["--no-trunc"]);
        assert_eq!(words(&["help", "image", "hist"]), ["history"]);
        assert_eq!(words(&["--con"]), ["--config", "--context"]);
        assert!(words(&["nonsense", ""]).is_empty());
    }

    #[test]
    fn values_of_flags_are_no_arguments() {
        assert_eq!(words(&["ps", "--format", "j"]), ["json"]);
        assert_eq!(words(&["ps", "--format=j"]), ["--format=json"]);
        assert_eq!(words(&["run", "--restart", "un"]), ["unless-stopped"]);
        assert_eq!(words(&["kill", "-s", "TE"]), ["TERM"]);
        assert_eq!(words(&["pull", "--platform", "linux/arm6"]), ["linux/arm64"]);
    }

    #[test]
    fn files_are_offered_where_files_are_meant() {
        let files = |line: &[&str]| complete(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).files;
        assert!(files(&["load", "-i", ""]));
        assert!(files(&["import", ""]));
        assert!(files(&["run", "busybox", "cat", ""]));
        assert!(!files(&["pull", ""]));
        assert!(!files(&["volume", "ls", ""]));
    }

    #[test]
    fn the_answer_ends_with_what_the_shell_may_do() {
        assert_eq!(complete(&["volume".into(), "cr".into()]).to_text(), "create\tCreate a volume\n:4\n");
        assert_eq!(complete(&["load".into(), "-i".into(), String::new()]).to_text(), ":0\n");
    }
}
