//! The binary: looks at its name or its first word, and calls one of the programs.
//!
//! Nothing else happens here: no runtime, no thread and no parsing starts before the program is chosen, because the client and the shim
//! count microseconds.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called_as = if args.is_empty() { OsString::new() } else { args.remove(0) };
    if let Some(program) = by_name(&called_as) {
        return program(args);
    }
    match args.first().and_then(|word| by_word(word)) {
        Some(program) => {
            args.remove(0);
            program(args)
        }
        None => berth_cli::main(args),
    }
}

/// A program of the one binary, given its arguments without its name.
type Program = fn(Vec<OsString>) -> ExitCode;

/// The program that a link of this name stands for; any other name is the client.
fn by_name(called_as: &OsStr) -> Option<Program> {
    match Path::new(called_as).file_name()?.to_str()? {
        "berthd" => Some(berth_daemon::main),
        "berth-shim" | "containerd-shim-berth-v2" => Some(berth_shim::main),
        "berth-runtime" => Some(berth_runtime::main),
        "berth-registry" => Some(berth_registry::main),
        "berth-ports" => Some(berth_ports::main),
        berth_dns::PROGRAM => Some(berth_dns::main),
        _ => None,
    }
}

/// The program that the first word of `berth WORD ...` chooses; any other word is a command of the client.
fn by_word(word: &OsStr) -> Option<Program> {
    match word.to_str()? {
        "daemon" => Some(berth_daemon::main),
        "runtime" => Some(berth_runtime::main),
        "registry" => Some(berth_registry::main),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_or_a_first_word_chooses_the_program() {
        for (name, known) in [
            ("berthd", true),
            ("/usr/sbin/berthd", true),
            ("berth-shim", true),
            ("/usr/bin/containerd-shim-berth-v2", true),
            ("berth-runtime", true),
            ("berth-registry", true),
            ("berth-dns", true),
            ("berth-ports", true),
            ("berth", false),
            ("docker", false),
            ("", false),
        ] {
            assert_eq!(by_name(OsStr::new(name)).is_some(), known, "{name}");
        }
        for (word, known) in
            [("daemon", true), ("runtime", true), ("registry", true), ("run", false), ("--version", false)]
        {
            assert_eq!(by_word(OsStr::new(word)).is_some(), known, "{word}");
        }
    }
}
