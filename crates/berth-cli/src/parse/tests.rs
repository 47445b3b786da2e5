//! The parser that knows the usual flags only gives what the whole one would have given, or nothing.

use std::collections::BTreeSet;
use std::fmt::Debug;

use clap::Args;

use super::*;
use crate::app::{GLOBAL_ENTRY, Root};
use crate::commands::ALL;
use crate::commands::container::create::{self, Create};
use crate::commands::container::options::{
    ConfinementOptions, HandlingOptions, HealthOptions, NetworkOptions, ResourceOptions, StorageOptions,
};
use crate::commands::container::run::{self, Run, SessionOptions};
use crate::connect::Settings;

type Parse = fn(&Entry, &str, &[OsString]) -> Result<Parsed, CliError>;

/// What becomes of a command line, as text.
type Outcome = fn(Parse, &Entry, &[OsString]) -> String;

/// The commands that have seldom flags.
static WITH_SELDOM_FLAGS: [(&Entry, Outcome); 3] =
    [(&run::ENTRY, outcome::<Run>), (&create::ENTRY, outcome::<Create>), (&GLOBAL_ENTRY, outcome::<Root>)];

fn outcome<C: Args + Debug>(parse: Parse, entry: &Entry, words: &[OsString]) -> String {
    match parse(entry, "berth x", words) {
        Ok(Parsed::Matches(matches)) => format!("{:?}", C::from_arg_matches(&matches).expect("a struct")),
        Ok(Parsed::Help { by_short_flag }) => format!("help, by a short flag: {by_short_flag}"),
        Err(error) => format!("{}: {error}", error.code()),
    }
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(Into::into).collect()
}

/// What both parsers make of a command line.
fn agreed(entry: &Entry, outcome: Outcome, words: &[OsString]) -> String {
    let whole = outcome(parse_whole, entry, words);
    assert_eq!(outcome(parse, entry, words), whole, "{} {words:?}", entry.name);
    whole
}

#[test]
fn command_lines_mean_the_same_to_both() {
    const OF_RUN: &[&str] = &[
        "",
        "busybox",
        "--rm --network none busybox true",
        "-it --rm -v /a:/b -eA=1 -p 80:80 --name n -w /w -u 0 --entrypoint sh busybox -c x",
        "--name n",
        // Words that look like flags, in the places of values and of the container's own.
        "busybox --memory 1m --rm -m",
        "--name --memory busybox",
        "--name=--memory busybox",
        "-e --rm busybox -m",
        "--rm -- busybox --memory 5",
        "-- --memory 5",
        // The last of two equal flags, also where seldom ones stand between.
        "--rm --rm=false busybox",
        "--rm -m 5m --rm=false -m 6m busybox",
        "--name a --cpus 1 --name b busybox",
        "-e A=1 --init -e B=2 busybox",
        "-itm5m busybox",
        "--network a --ip 1.2.3.4 busybox",
        "--pull never --restart always --memory-swappiness 5 busybox",
        "--disable-content-trust=false busybox",
        // No abbreviations.
        "--mem 5m busybox",
        "--networ none busybox",
        "--rmx busybox",
        // Mistakes.
        "--name",
        "--rm --memory",
        "-e",
        "-itZ busybox",
        "-m x busybox",
        "--tty=maybe busybox",
        "--privileged=maybe busybox",
        "--network= busybox",
        // Help, and the flag that has its letter.
        "--help",
        "--rm --help busybox",
        "busybox --help",
        "-h",
        "-h name busybox",
        "-ith name busybox",
    ];
    for line in OF_RUN {
        agreed(&run::ENTRY, outcome::<Run>, &words(line));
        agreed(&create::ENTRY, outcome::<Create>, &words(line));
    }
    for line in ["--sig-proxy=false x", "--sig-proxy x", "-d --detach-keys ctrl-a x", "--sig-proxy=maybe x"] {
        agreed(&run::ENTRY, outcome::<Run>, &words(line));
    }
    for line in [
        "-H x run -m 5m --tls",
        "-H x",
        "-Hx -D ps",
        "--tlsverify -H x ps",
        "-c a -H b ps --tls",
        "--config d --context c -- ps",
        "-v",
        "--version ps",
        "-H",
        "-lx --log-level y ps",
        "--foo ps",
        "-H x -Z ps",
        "-H x --help ps",
        "-h",
    ] {
        agreed(&GLOBAL_ENTRY, outcome::<Root>, &words(line));
    }
}

#[test]
fn each_flag_means_the_same_to_both() {
    // One of these is a value that the flag takes; the refused ones before it are compared too.
    const VALUES: [&str; 15] = [
        "5",
        "5s",
        "5%",
        "5mbit",
        "stdin",
        "1.2.3.4",
        "::1",
        "a:b",
        "a:1.2.3.4",
        "/dev/x:100",
        "c 1:3 rwm",
        "type=tmpfs,dst=/x",
        "nofile=5",
        "net.a=b",
        "x",
    ];
    for (entry, outcome) in WITH_SELDOM_FLAGS {
        for flag in build(entry).get_arguments().filter(|arg| !arg.is_positional()) {
            let long = flag.get_long().expect("each flag has a long name");
            let taken = VALUES.iter().any(|value| {
                let line = [format!("--{long}={value}"), "image".to_owned()].map(Into::into);
                !agreed(entry, outcome, &line).starts_with("125: ")
            });
            let is_boolean = flag.is_require_equals_set() || long == "help";
            assert!(taken || is_boolean, "no value for --{long} of {}", entry.name);
            agreed(entry, outcome, &[format!("--{long}").into(), "image".into(), "image".into()]);
        }
    }
}

#[test]
fn a_flag_is_the_same_in_both_and_has_nothing_to_do_with_others() {
    let with_seldom: Vec<_> = WITH_SELDOM_FLAGS.iter().map(|(entry, _)| (entry.group, entry.name)).collect();
    for entry in ALL.iter().copied().chain([&GLOBAL_ENTRY]) {
        let (mut whole, mut usual) = (build(entry), build_usual(entry));
        whole.build();
        usual.build();
        for arg in usual.get_arguments() {
            let same = whole.get_arguments().find(|other| other.get_id() == arg.get_id()).expect(entry.name);
            // But for the place in a help text that is not ours.
            let shown = |arg: &Arg| format!("{:?}", arg.clone().display_order(0));
            assert_eq!(shown(arg), shown(same), "{} {}", entry.group, entry.name);
        }
        let fewer = usual.get_arguments().count() < whole.get_arguments().count();
        assert_eq!(fewer, with_seldom.contains(&(entry.group, entry.name)), "{} {}", entry.group, entry.name);
        for arg in whole.get_arguments() {
            assert!(whole.get_arg_conflicts_with(arg).is_empty(), "{} {}", entry.name, arg.get_id());
            assert!(format!("{arg:?}").contains("requires: []"), "{} {}", entry.name, arg.get_id());
            assert!(arg.is_positional() || !arg.is_required_set(), "{} {}", entry.name, arg.get_id());
        }
        assert!(whole.get_groups().all(|group| !group.is_required_set()), "{}", entry.name);
    }
}

/// Whether the flags of `T`, when none is given, are as its `Default` says; and the name of their group.
fn checked_default<T: Args + Default + Debug>() -> String {
    let parser = clap::Command::new("x").no_binary_name(true).disable_help_flag(true);
    let parser = T::augment_args(parser).mut_args(as_docker_does);
    let matches = parser.try_get_matches_from(["x"; 0]).expect("nothing is required");
    let parsed = T::from_arg_matches(&matches).expect("a struct");
    assert_eq!(format!("{parsed:?}"), format!("{:?}", T::default()));
    T::group_id().expect("a struct of seldom flags is a group").to_string()
}

#[test]
fn seldom_flags_that_are_not_given_have_their_defaults() {
    let checked = BTreeSet::from([
        checked_default::<ConfinementOptions>(),
        checked_default::<HandlingOptions>(),
        checked_default::<HealthOptions>(),
        checked_default::<NetworkOptions>(),
        checked_default::<ResourceOptions>(),
        checked_default::<SessionOptions>(),
        checked_default::<Settings>(),
        checked_default::<StorageOptions>(),
    ]);
    let parsers: Vec<_> = WITH_SELDOM_FLAGS.iter().map(|(entry, _)| build(entry)).collect();
    let there = parsers.iter().flat_map(|parser| parser.get_groups().map(|group| group.get_id().to_string()));
    assert_eq!(there.collect::<BTreeSet<_>>(), checked);
}
