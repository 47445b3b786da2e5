//! The OCI runtime: one bundle becomes one process.
//!
//! A library for the shim, which stays with the container, and runc's command line for everybody else ([`main`]).
//! Synchronous, one thread, no helper program. Not here: who waits for the container, its log, its network.
//!
//! ```text
//! let mut container = Container::create(&CreateRequest { stdio, ..CreateRequest::new(id, bundle, &spec, rootfs) })?;
//! let master = container.take_terminal();          // Some(pty master) when the process has a terminal
//! let held = container.take_mount_namespace();     // close it late: the exit is seen sooner (LIMITS 1.4)
//! container.start()?;                              // Err: execve failed, error.exit_code() is 126 or 127
//! let exec = container.exec(&ExecRequest::new(&process))?;   // exec.pid, exec.pidfd, exec.terminal
//! container.kill(Signal::TERM, Target::Init)?;     // or Target::All
//! container.pause()?; container.resume()?; container.update(&resources)?;
//! container.delete()?;                             // after the caller reaped container.pidfd()
//! ```
#![forbid(unsafe_code)]

mod cgroup_view;
mod channel;
mod cli;
mod container;
mod copy_up;
mod credentials;
mod devices;
mod error;
mod filter;
mod foreign;
mod hooks;
mod init;
mod labels;
mod launch;
mod limits;
mod listener;
mod loopback;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod procfs;
mod program;
mod registry;
mod request;
mod rootfs;
pub mod seccomp;
mod streams;
mod sysctl;

pub use cli::main;
pub use container::{Container, ExecProcess, Existing};
pub use error::{ProgramFault, RuntimeError};
pub use request::{CreateRequest, ExecRequest, Keyring, RootSwitch, Rootfs, StartGate, Stdio, Target};
pub use rustix::process::Signal;
