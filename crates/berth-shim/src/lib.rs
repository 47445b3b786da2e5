//! The shim: stays with one container, from its start until a manager has taken note of its end.
//!
//! It owns what the container needs to live when nobody else is there: its streams, its log file, its exit status. It is
//! one synchronous process with one thread and one loop ([`shim`]). Berth's manager starts it with `--launch` and one
//! end of a socket as its stdin, and speaks `berth.shim.v1` with it; containerd starts it with `start` and speaks its Task
//! service. Both services are served on every connection.
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
mod placement;
mod poll;
mod process;
mod publisher;
mod records;
mod service;
mod shim;
mod stdio;
mod streams;
mod task;
mod task_service;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use berth_cgroup::Layout;
use berth_sys::signalfd::SignalFd;
use rustix::process::{DumpableBehavior, Signal};

use bootstrap::{Action, Arguments};
use listener::Listener;
use poll::Poll;
use publisher::Publisher;
use shim::Shim;

/// Runs the program `berth-shim` (`containerd-shim-berth-v2`); `args` are without its name.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let done = if args.first().is_some_and(|first| first == "--launch") {
        serve_launcher()
    } else {
        match Arguments::parse(args) {
            Ok(arguments) => run(&arguments),
            Err(text) => {
                eprintln!("berth-shim: {text}");
                return ExitCode::from(2);
            }
        }
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
    let mut shim = prepare()?;
    shim.adopt(socket)?;
    shim.run()
}

/// Serves containerd on the socket that `start` has bound and left as stdin.
fn serve_containerd(arguments: &Arguments) -> io::Result<()> {
    let path = arguments.socket.clone().ok_or_else(|| io::Error::other("no command; containerd says `start`"))?;
    let listener = Listener::inherited(take_stdin()?, path)?;
    let mut shim = prepare()?;
    let events = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    if !events.is_empty() {
        shim.publisher = Some(Publisher::new(&events, &arguments.namespace));
    }
    shim.listen(listener)?;
    shim.run()
}

/// Makes this process fit to stay with a container.
fn prepare() -> io::Result<Shim> {
    // Orphans of the container come to us, not to init.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // Nobody inside looks into a process on its way in, nor into its memory (CVE-2016-9962).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // A client or logger that is gone is an error like any other.
    berth_sys::signalfd::ignore(Signal::PIPE.as_raw())?;
    // Meant for the daemon's terminal, if for anybody.
    berth_sys::signalfd::ignore(Signal::HUP.as_raw())?;
    berth_sys::signalfd::ignore(Signal::INT.as_raw())?;
    let signals = SignalFd::new(&[Signal::CHILD.as_raw(), Signal::TERM.as_raw()])?;
    let signals = signals.onto_stdout()?;
    let layout = Layout::probe().map_err(io::Error::other)?;
    Shim::new(Poll::new()?.onto_stdin()?, signals, layout)
}

/// The descriptor that was stdin, so that its number can be had for something else.
fn take_stdin() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}
