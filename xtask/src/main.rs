//! House rules as a program, and generators: `cargo xtask tidy`, `cargo xtask gen`.
#![forbid(unsafe_code)]

#[cfg(feature = "gen")]
mod generate;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::check(&repository()),
        Some("gen") => generate(std::env::args().nth(2).as_deref() == Some("--check")),
        _ => Err("usage: cargo xtask tidy | cargo xtask gen [--check]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "gen")]
fn generate(check: bool) -> Result<(), String> {
    generate::run(check).map_err(|error| error.to_string())
}

#[cfg(not(feature = "gen"))]
fn generate(_check: bool) -> Result<(), String> {
    Err("the generators are not built in: cargo run --package xtask --features gen -- gen".to_owned())
}

/// The root of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the repository").to_owned()
}
