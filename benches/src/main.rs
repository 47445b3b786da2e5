//! Berth beside the engines and runtimes that are installed: same machine, same image, same minute.
//!
//! `cargo run --release -p bench -- [GROUP...]` as root. Every engine runs in a network and a mount namespace of its
//! own with temporary directories, below one cgroup by which its processor time and memory are counted: client, daemon,
//! shims, runtimes and containers alike. Whatever is started is ended, and whatever is made is removed.
//!
//! The samples of one case are taken in turns (A B C, B C A, ...), so that a busy moment of the machine meets everybody.
#![forbid(unsafe_code)]

mod account;
mod archive;
mod cutter;
mod disk;
mod engine;
mod groups;
mod hand;
mod machine;
mod options;
mod plot;
mod program;
mod registry;
mod report;
mod results;
mod series;
mod statistics;
mod watch;

use std::process::ExitCode;

use options::{Options, Wish};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == hand::WORD) {
        return hand::serve(&words[1..]);
    }
    if words.first().is_some_and(|word| word == cutter::WORD) {
        return cutter::serve(&words[1..]);
    }
    let outcome = match Options::parse(&words) {
        Ok(Wish::Help) => {
            print!("{}", options::HELP);
            Ok(())
        }
        Ok(Wish::Measure(options)) => program::run(&options),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
