//! The Engine API over HTTP: the daemon's program, its listeners, one file per resource.
//!
//! A request goes [`listen`] -> [`http`] -> [`resources`], where it is parsed, turned into the engine's own words by
//! [`translate`], done by `berth-engine`, and turned back. Deliberately absent: anything that a container needs to live,
//! which is its shim's, and anything that changes the host, which is the engine's and the crates' below it.
#![forbid(unsafe_code)]

mod budget;
mod daemon;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gates;
mod host_facts;
mod http;
mod idle;
mod list_entries;
mod listen;
mod lock;
mod logging;
mod manifests;
mod options;
mod program;
mod resources;
mod settings;
mod translate;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `berthd` with its arguments, without the program's name, until it is told to stop.
pub fn main(args: Vec<OsString>) -> ExitCode {
    program::run(args)
}
