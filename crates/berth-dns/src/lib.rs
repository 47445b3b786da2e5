//! The resolver of all containers: one small process that outlives the daemon.
//!
//! It answers at 127.0.0.11 inside every container of a named network, from sockets that the daemon makes there and
//! hands over. It knows the names the daemon tells it, and takes everything else, as it came, to the servers of the host
//! or to those that somebody named for a container. One thread, one epoll loop; docs/design/dns.md says why.
//!
//! [`main`] is the program; [`Resolver`] is how the daemon speaks with it. Deliberately absent: namespaces and firewall
//! rules of containers (`berth-net` makes the sockets), and the meaning of any record but addresses and their names.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics says where"))]

mod cache;
mod client;
mod clients;
mod control;
mod directory;
mod forward;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod host;
mod message;
mod poll;
mod protocol;
mod random;
mod server;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

pub use client::{Legacy, Resolver, ResolverError, bind};
pub use protocol::{Link, Member, Membership, PROTOCOL, Sockets, Upstream};

use server::Server;

/// The name of the program.
pub const PROGRAM: &str = "berth-dns";

/// Runs the program: a daemon is at the other end of its stdin. `args` is nothing, or another file than
/// `/etc/resolv.conf`.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    if args.len() > 1 || args.first().is_some_and(|word| word.to_string_lossy().starts_with('-')) {
        eprintln!("{PROGRAM}: it is started by the daemon and takes no options");
        return ExitCode::from(2);
    }
    let file = args.into_iter().next().map_or_else(|| PathBuf::from("/etc/resolv.conf"), PathBuf::from);
    match serve(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{PROGRAM}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(resolv_conf: PathBuf) -> io::Result<()> {
    // So that it is found by its name; the name of its file is a descriptor's.
    rustix::thread::set_name(c"berth-dns")?;
    for signal in [Signal::PIPE, Signal::HUP, Signal::INT] {
        berth_sys::signalfd::ignore(signal.as_raw())?;
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let daemon = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // The connection must end when it is closed here.
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    let mut server = Server::new(resolv_conf)?;
    server.adopt(daemon)?;
    berth_sys::heap::release_unused(berth_sys::heap::Stack::find());
    berth_sys::heap::release_program();
    server.run()
}
