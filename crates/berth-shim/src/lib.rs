//! The shim: stays with one container, from its start until a manager has taken note of its end.
//!
//! It owns what the container needs to live when nobody else is there: its streams, its log file, its exit status. It is
//! one synchronous process with one thread and one loop ([`shim`]). Berth's manager has it forked from a [`zygote`] and
//! speaks `berth.shim.v1` with it, and such a shim may serve another container afterwards ([`reuse`]); containerd starts it with `start` and speaks its Task service. With `--launch` it is one shim without a
//! zygote, on one end of a socket as its stdin. Both services are served on every connection.
//!
//! Not here: policies (restart, health, time limits), which belong to the manager; networks; images.
#![forbid(unsafe_code)]

mod bootstrap;
mod calls;
mod client;
mod connection;
mod error;
mod foreign;
mod launch;
mod listener;
mod log;
mod metrics;
mod origin;
mod placement;
mod poll;
mod process;
mod publisher;
mod records;
mod reuse;
mod service;
mod shim;
mod stdio;
mod streams;
mod surroundings;
mod task;
mod task_service;
mod zygote;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use bootstrap::{Action, Arguments};
use listener::Listener;
use origin::Origin;
use publisher::Publisher;
use reuse::Blank;
use shim::Shim;

/// Runs the program `berth-shim` (`containerd-shim-berth-v2`); `args` are without its name.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let word = |index: usize| args.get(index).and_then(|word| word.to_str());
    let done = match (word(0), word(1)) {
        (Some("--launch"), _) => serve_launcher(),
        (Some(zygote::WORD), Some(cgroup)) => zygote::serve(cgroup),
        _ => match Arguments::parse(args) {
            Ok(arguments) => run(&arguments),
            Err(text) => {
                eprintln!("berth-shim: {text}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    match arguments.action {
        Action::Serve => serve_containerd(arguments),
        Action::Start => bootstrap::start(arguments),
        Action::Delete => bootstrap::delete(arguments),
        Action::Info => bootstrap::info(),
        Action::Version => {
            println!("berth-shim {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// Serves whoever holds the other end of stdin.
fn serve_launcher() -> io::Result<()> {
    let socket = take_stdin()?;
    Shim::new(Blank::new(Origin::find()?, socket))?.run().map(drop)
}

/// Serves containerd on the socket that `start` has bound and left as stdin.
fn serve_containerd(arguments: &Arguments) -> io::Result<()> {
    let path = arguments.socket.clone().ok_or_else(|| io::Error::other("no command; containerd says `start`"))?;
    let listener = Listener::inherited(take_stdin()?, path)?;
    let mut shim = Shim::begin(Origin::find()?)?;
    let events = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    if !events.is_empty() {
        shim.publisher = Some(Publisher::new(&events, &arguments.namespace));
    }
    shim.listen(listener)?;
    shim.run().map(drop)
}

/// The descriptor that was stdin, so that its number can be had for something else.
fn take_stdin() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}
