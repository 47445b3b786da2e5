//! The client: one file per command.
//!
//! [`main`] finds the command in [`commands::ALL`], builds the parser of that command only, and runs it with a [`context::Context`].
//! Words, flags, columns and exit codes are docker's. A new command is one file under `commands/<group>/` with its arguments, its
//! `ENTRY` and its `run`, and one line in `commands/mod.rs`.
//!
//! Deliberately absent: any knowledge of how the engine does things; this crate parses, calls [`berth_client`] and prints.
#![forbid(unsafe_code)]

mod app;
mod autostart;
mod columns;
mod command;
pub mod commands;
mod completion;
mod config;
mod connect;
mod context;
mod copy;
mod credentials;
mod document;
mod error;
mod filter;
mod flag;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod help;
mod human;
mod inspect;
mod parse;
mod progress;
mod prune;
mod seldom;
mod stream;
mod table;
mod template;
mod time_argument;

use std::ffi::OsString;
use std::process::ExitCode;

pub use app::command_tree;
pub use command::{Arity, Command, Entry, Place};
pub use context::Context;
pub use error::CliError;

/// Runs the client with `args`, which do not include the program's name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    match app::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
