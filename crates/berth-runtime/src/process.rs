//! The last part of a new process's life before it is the program: the same for a container's first and for every later one.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_oci::runtime::{ConsoleSize, Hook, Personality, Process};
use berth_sys::clone::exit_now;
use berth_sys::{exec, session};
use rustix::fs::Mode;
use rustix::net::SocketFlags;
use rustix::process::{Gid, Uid};

use crate::channel::Channel;
use crate::credentials::Credentials;
use crate::error::{RuntimeError, Step};
use crate::filter::SystemCallFilter;
use crate::hooks::{self, Point, Subject};
use crate::labels::Labels;
use crate::limits::{Affinity, Limits};
use crate::listener::Listener;
use crate::procfs::Procfs;
use crate::program::Program;
use crate::request::{Keyring, StartGate, Stdio};
use crate::seccomp::Filter;
use crate::streams;

/// What umask a process has that says nothing else.
const DEFAULT_UMASK: u32 = 0o022;

/// Everything about a process, understood before it is made.
#[derive(Debug)]
pub(crate) struct ProcessPlan<'a> {
    credentials: Credentials,
    limits: Limits,
    labels: Labels,
    umask: u32,
    filter: Option<Filter>,
    listener: Option<Listener>,
    keyring: Option<CString>,
    preserve_fds: u32,
    stdio: Stdio<'a>,
    terminal: bool,
    console_size: Option<ConsoleSize>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) affinity: Affinity,
}

/// What surrounds a process: the same for all of one container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) id: &'a str,
    pub(crate) personality: Option<&'a Personality>,
    pub(crate) keyring: Keyring,
    pub(crate) preserve_fds: u32,
    pub(crate) stdio: Stdio<'a>,
}

/// The hooks that a new process runs itself, and what it tells them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartHooks<'a> {
    pub(crate) hooks: &'a [Hook],
    pub(crate) subject: Subject<'a>,
}

impl<'a> ProcessPlan<'a> {
    /// Understands a process and its program; what is skipped is named in `warnings`.
    pub(crate) fn new(
        process: &Process,
        around: &Surroundings<'a>,
        filter: Option<&SystemCallFilter>,
        warnings: &mut Vec<String>,
    ) -> Result<(ProcessPlan<'a>, Program), RuntimeError> {
        let listener = match filter {
            Some(compiled) if compiled.filter.notifies() => Some(Listener::connect(compiled)?),
            _ => None,
        };
        let keyring = match around.keyring {
            Keyring::New => CString::new(format!("_ses.{}", around.id)).ok(),
            Keyring::Inherited => None,
        };
        let preserved = if around.preserve_fds > 0 { passed_sockets(around.preserve_fds) } else { Vec::new() };
        let program = Program::new(process, &preserved)?;
        let plan = ProcessPlan {
            credentials: Credentials::new(process, warnings)?,
            limits: Limits::new(process, around.personality)?,
            labels: Labels::new(process)?,
            umask: process.user.umask.unwrap_or(DEFAULT_UMASK),
            filter: filter.map(|compiled| compiled.filter.clone()),
            listener,
            keyring,
            preserve_fds: around.preserve_fds,
            stdio: around.stdio,
            terminal: process.terminal,
            console_size: process.console_size,
            oom_score_adj: process.oom_score_adj,
            affinity: Affinity::new(process.exec_cpu_affinity.as_ref())?,
        };
        Ok((plan, program))
    }

    /// Leads a session of its own, and gets its streams: those given, or a terminal whose master is returned.
    pub(crate) fn install_streams(
        &self,
        root: BorrowedFd<'_>,
        console: impl FnOnce(&berth_sys::pty::Pty) -> Result<(), RuntimeError>,
    ) -> Result<Option<OwnedFd>, RuntimeError> {
        rustix::process::setsid().step("making a session", "")?;
        if !self.terminal {
            streams::install(&self.stdio)?;
            return Ok(None);
        }
        let pty = streams::open_terminal(root, self.console_size)?;
        console(&pty)?;
        Ok(Some(pty.master))
    }

    /// Does all that is left, waits at the gate, and becomes the program.
    pub(crate) fn finish(
        &self,
        mut program: Program,
        root: BorrowedFd<'_>,
        procfs: &Procfs,
        ends: &Ends<'_>,
        terminal: Option<OwnedFd>,
    ) -> Result<Infallible, RuntimeError> {
        if let Some(name) = &self.keyring {
            join_keyring(name)?;
        }
        self.limits.apply()?;
        streams::give_to(self.credentials.uid())?;
        rustix::process::umask(Mode::from_raw_mode(self.umask));
        self.labels.apply(procfs)?;
        program.add_home(root, self.credentials.uid().as_raw());
        let entered = program.enter_working_directory(root)?;
        let remaining = self.credentials.assume(self.filter.is_some())?;
        if !entered && !program.enter_working_directory(root)? {
            let denied = rustix::io::Errno::ACCESS.into();
            return Err(RuntimeError::step("changing to the working directory", program.working_directory(), &denied));
        }
        let path = program.find()?;
        exec::close_on_exec_from(3 + self.preserve_fds as i32).step("marking descriptors close-on-exec", "")?;
        ends.channel.ready(terminal.as_ref())?;
        drop(terminal);
        ends.pass_gate(|| {
            if let Some(start) = &ends.hooks {
                hooks::run(start.hooks, Point::StartContainer, &start.subject)?;
            }
            exec::restore_default_signals();
            self.install_filter(ends)?;
            remaining.apply()?;
            program.become_it(&path)
        })
    }

    fn install_filter(&self, ends: &Ends<'_>) -> Result<(), RuntimeError> {
        let Some(filter) = &self.filter else { return Ok(()) };
        let listener =
            berth_sys::seccomp::install(&filter.program, filter.flags).step("installing the seccomp filter", "")?;
        match (listener, &self.listener) {
            (Some(listener), Some(address)) => address.send(listener.as_fd(), &ends.subject),
            _ => Ok(()),
        }
    }
}

/// The ends that tie a new process to those outside.
pub(crate) struct Ends<'a> {
    pub(crate) channel: &'a Channel,
    pub(crate) gate: StartGate<'a>,
    pub(crate) hooks: Option<StartHooks<'a>>,
    pub(crate) subject: Subject<'a>,
}

impl Ends<'_> {
    /// Waits for the sign to begin, and tells whoever gave it what went wrong after it.
    fn pass_gate(&self, begin: impl FnOnce() -> Result<Infallible, RuntimeError>) -> Result<Infallible, RuntimeError> {
        match self.gate {
            StartGate::Caller | StartGate::Open => {
                if !self.channel.wait()? {
                    exit_now(0) // The caller is gone, and with it whoever would start or delete the container.
                }
                begin()
            }
            StartGate::Socket(listener) => {
                let starter = loop {
                    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
                        Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                        result => break Channel::from_socket(result.step("waiting for the start", "")?),
                    }
                };
                begin().inspect_err(|error| starter.failed(error))
            }
        }
    }
}

/// Becomes root of the user namespace one is in, if that has one.
pub(crate) fn become_namespace_root() -> Result<(), RuntimeError> {
    // With ids that are not mapped every new file would belong to nobody. A namespace without a root has none to become.
    match rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error).step("becoming root of the user namespace", ""),
    }
    match rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error).step("becoming root of the user namespace", ""),
    }
}

/// The variables by which a program knows the sockets it is handed, see sd_listen_fds(3).
fn passed_sockets(count: u32) -> Vec<String> {
    match std::env::var("LISTEN_FDS") {
        Ok(sockets) if sockets.parse::<u32>().is_ok_and(|sockets| sockets <= count) => {
            let mut variables = vec![format!("LISTEN_FDS={sockets}"), "LISTEN_PID=1".to_owned()];
            variables.extend(std::env::var("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}")));
            variables
        }
        _ => Vec::new(),
    }
}

fn join_keyring(name: &CString) -> Result<(), RuntimeError> {
    const ENOSYS: i32 = rustix::io::Errno::NOSYS.raw_os_error();
    match session::join_new_keyring(name) {
        // A kernel without keys has none to protect.
        Err(error) if error.raw_os_error() == Some(ENOSYS) => Ok(()),
        result => result.step("making a session keyring", ""),
    }
}
