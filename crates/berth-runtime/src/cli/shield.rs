//! The program's own file, out of reach of the containers it enters (CVE-2019-5736).
//!
//! A process of ours inside a container shows it `/proc/PID/exe`. So before a command that makes such a process, the program
//! goes on from a read-only mount of its file that only it has, or from a sealed copy where mounting is not allowed.

use std::os::fd::AsFd;

use berth_sys::exec::{self, CStrings};
use berth_sys::memfd;

use crate::error::{RuntimeError, Step};

/// Commands whose processes enter a container.
const ENTERING: [&str; 3] = ["create", "exec", "run"];

/// Goes on from a protected file; returns if it does already, or need not.
pub(super) fn protect(command: &str, args: &[String]) -> Result<(), RuntimeError> {
    if !ENTERING.contains(&command) || memfd::is_protected() {
        return Ok(());
    }
    let step = "protecting the runtime's own file";
    let program = match memfd::read_only_self() {
        Ok(program) => program,
        Err(_) => memfd::sealed_self().step(step, "")?,
    };
    // The first word chooses this program again, whatever the file is called.
    let arguments = std::iter::once("berth-runtime").chain(args.iter().map(String::as_str));
    let arguments = CStrings::from_texts(arguments).step(step, "")?;
    let variables = std::env::vars_os().map(|(name, value)| {
        let mut line = name.into_encoded_bytes();
        line.push(b'=');
        line.extend(value.into_encoded_bytes());
        line
    });
    let environment = CStrings::from_texts(variables).step(step, "")?;
    Err(exec::execve_descriptor(program.as_fd(), &arguments, &environment)).step(step, "")
}
