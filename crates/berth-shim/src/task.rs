//! The container and its processes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use berth_cgroup::{Layout, OomWatch};
use berth_model::Timestamp;
use berth_oci::runtime::{Mount, NamespaceType, Spec};
use berth_runtime::{Container, CreateRequest, ExecRequest, Keyring, RootSwitch, Rootfs, StartGate, Stdio, Target};
use berth_sys::signalfd::signal_to_send;
use rustix::process::{Pid, Signal};

use crate::error::ShimError;
use crate::log::Log;
use crate::poll::Poll;
use crate::process::{Exit, Life, MAIN, Process};
use crate::records::{self, ShimRecord};
use crate::stdio::{self, Inner, StdinMode, Stream};

/// A container, from the moment it exists until the shim leaves.
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Where the shim's records go; a foreign manager has none.
    pub runtime_dir: Option<PathBuf>,
    /// When its program began.
    pub started_at: Timestamp,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether the kernel has killed somebody in it for want of memory.
    pub oom_killed: bool,
    container: Option<Container>,
    mount_namespace: Option<OwnedFd>,
    main: Process,
    execs: Vec<Process>,
    log: Option<Log>,
    oom: Option<OomWatch>,
    oom_kills: u64,
    /// Its processes do not die with the first one.
    shares_pids: bool,
    /// Whether something of it could not be removed.
    remains: bool,
}

/// What a container is made of.
pub struct NewTask<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Mounts of its root; none means the directory that the bundle names.
    pub rootfs: &'a [Mount],
    /// A mount that was made to be its root: takes the place of the others.
    pub root: Option<BorrowedFd<'a>>,
    /// A network namespace that was made for it.
    pub network: Option<BorrowedFd<'a>>,
    /// Where compiled filters are kept.
    pub seccomp_cache: Option<&'a Path>,
    /// Whether the process has a terminal; overrides the bundle.
    pub terminal: bool,
    /// The streams of its process.
    pub streams: Streams,
    /// How the root is switched.
    pub root_switch: RootSwitch,
    /// The session keyring of its process.
    pub keyring: Keyring,
    /// The control groups of the machine.
    pub layout: &'a Layout,
    /// Who lets the program begin.
    pub gate: StartGate<'static>,
}

/// Where the streams of a new process come from.
pub enum Streams {
    /// The shim makes them, and reads the output.
    Own(StdinMode),
    /// Somebody else's; not for a terminal.
    Given(Inner),
}

/// The present time.
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

impl Task {
    /// Creates the container; its program does not begin yet.
    pub fn create(poll: &Poll, new: NewTask<'_>) -> Result<Self, ShimError> {
        let mut spec = read_spec(new.bundle)?;
        if let Some(process) = &mut spec.process {
            process.terminal = new.terminal;
        }
        let rootfs_directory = root_directory(new.bundle, &spec);
        let rootfs = match (new.root, new.rootfs) {
            (Some(root), _) => Rootfs::Tree(root),
            (None, []) => Rootfs::Directory(&rootfs_directory),
            (None, mounts) => Rootfs::Mounts(mounts),
        };
        let mut main = Process::new(MAIN, String::new(), new.terminal);
        let prepared = Prepared::new(new.terminal, new.streams)?;
        let mut container = Container::create(&CreateRequest {
            stdio: prepared.stdio(),
            network: new.network,
            seccomp_cache: new.seccomp_cache,
            root_switch: new.root_switch,
            keyring: new.keyring,
            layout: Some(new.layout),
            gate: new.gate,
            ..CreateRequest::new(new.id, new.bundle, &spec, rootfs)
        })?;
        let mount_namespace = container.take_mount_namespace();
        let outer = prepared.outer(container.take_terminal())?;
        main.set_streams(poll, outer).map_err(ShimError::own("watching the streams of", new.id))?;
        main.life = Life::Created(Some(container.pid()));
        Ok(Self {
            id: new.id.to_owned(),
            bundle: new.bundle.to_owned(),
            runtime_dir: None,
            started_at: Timestamp::from_nanos(0),
            paused: false,
            oom_killed: false,
            container: Some(container),
            mount_namespace,
            main,
            execs: Vec::new(),
            log: None,
            oom: None,
            oom_kills: 0,
            shares_pids: shares_pids(&spec),
            remains: false,
        })
    }

    /// Lets the program begin.
    pub fn start(&mut self) -> Result<Pid, ShimError> {
        let Life::Created(Some(pid)) = self.main.life else {
            return Err(ShimError::State(format!("container {} was started already", self.id)));
        };
        self.container()?.start()?;
        self.started_at = now();
        self.main.life = Life::Running(pid);
        Ok(pid)
    }

    /// Starts one more process; takes the place of an announced one of the same name.
    pub fn exec(
        &mut self,
        poll: &Poll,
        mut process: Process,
        spec: &berth_oci::runtime::Process,
        streams: Streams,
    ) -> Result<Pid, ShimError> {
        if self.main.life.exit().is_some() || matches!(self.main.life, Life::Created(_)) {
            return Err(ShimError::State(format!("container {} is not running", self.id)));
        }
        let prepared = Prepared::new(process.terminal, streams)?;
        let request = ExecRequest { stdio: prepared.stdio(), ..ExecRequest::new(spec) };
        let started = self.container()?.exec(&request)?;
        let outer = prepared.outer(started.terminal)?;
        process.set_streams(poll, outer).map_err(ShimError::own("watching the streams of", &process.exec_id))?;
        process.life = Life::Running(started.pid);
        process.pidfd = Some(started.pidfd);
        self.execs.retain(|announced| announced.exec_id != process.exec_id);
        self.execs.push(process);
        Ok(started.pid)
    }

    /// Keeps an executed process that has not begun, for a manager that starts it later.
    pub fn add_exec(&mut self, process: Process) {
        self.execs.push(process);
    }

    /// Takes an executed process away.
    pub fn take_exec(&mut self, exec_id: &str) -> Option<Process> {
        let index = self.execs.iter().position(|process| process.exec_id == exec_id)?;
        Some(self.execs.remove(index))
    }

    /// The container itself; an error once it was deleted.
    pub fn container(&mut self) -> Result<&mut Container, ShimError> {
        let id = &self.id;
        self.container.as_mut().ok_or_else(|| ShimError::State(format!("container {id} was removed")))
    }

    /// The processes that were executed.
    pub fn execs(&self) -> &[Process] {
        &self.execs
    }

    /// The process of that number.
    pub fn process(&self, number: u32) -> Option<&Process> {
        if number == MAIN { Some(&self.main) } else { self.execs.iter().find(|process| process.number == number) }
    }

    /// The process of that number.
    pub fn process_mut(&mut self, number: u32) -> Option<&mut Process> {
        if number == MAIN {
            Some(&mut self.main)
        } else {
            self.execs.iter_mut().find(|process| process.number == number)
        }
    }

    /// The process of that name; the empty one is the main process.
    pub fn named(&mut self, exec_id: &str) -> Option<&mut Process> {
        if exec_id.is_empty() {
            return Some(&mut self.main);
        }
        self.execs.iter_mut().find(|process| process.exec_id == exec_id)
    }

    /// The living process with that pid.
    pub fn number_of(&self, pid: Pid) -> Option<u32> {
        let lives = |process: &&Process| process.life.exit().is_none() && process.life.pid() == Some(pid);
        std::iter::once(&self.main).chain(&self.execs).find(lives).map(|process| process.number)
    }

    /// Whether the container is gone.
    pub fn is_over(&self) -> bool {
        self.main.life.exit().is_some()
    }

    /// Sends a signal to a process, or to all.
    pub fn kill(&mut self, exec_id: &str, signal: u32, all: bool) -> Result<(), ShimError> {
        let known = i32::try_from(signal).ok().and_then(signal_to_send);
        let signal = known.ok_or_else(|| ShimError::Invalid(format!("invalid signal: {signal}")))?;
        let gone = || ShimError::NotFound(format!("process {exec_id:?} is not running"));
        let process = self.named(exec_id).ok_or_else(gone)?;
        if process.life.exit().is_some() {
            return Err(gone());
        }
        if exec_id.is_empty() {
            let target = if all { Target::All } else { Target::Init };
            return Ok(self.container()?.kill(signal, target)?);
        }
        let pidfd = process.pidfd.as_ref().ok_or_else(gone)?;
        rustix::process::pidfd_send_signal(pidfd, signal)
            .map_err(io::Error::from)
            .map_err(ShimError::own("signalling", exec_id))
    }

    // The log.

    /// Gives the container its log.
    pub fn set_log(&mut self, log: Option<Log>) {
        self.log = log;
    }

    /// The log, where there is one.
    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Logs output of the main process.
    pub fn write_log(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(stream, bytes, now());
        }
    }

    /// Logs what is left of a stream that has ended.
    pub fn finish_log(&mut self, stream: Stream) {
        if let Some(log) = &mut self.log {
            log.finish(stream, now());
        }
    }

    /// Whether lines wait for a log that would block.
    pub fn log_waits(&self) -> bool {
        self.log.as_ref().is_some_and(Log::waits)
    }

    /// Tries again to write lines that wait.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush_waiting();
        }
    }

    /// A child that is none of the container's processes is gone.
    pub fn reaped_other(&mut self, pid: Pid) {
        if let Some(log) = &mut self.log {
            log.reaped(pid);
        }
    }

    // The end.

    /// The main process is gone: ends whatever it left, and writes the record. Says whether memory had run out.
    pub fn main_is_gone(&mut self, mut exit: Exit) -> bool {
        if let Some(container) = &mut self.container {
            if self.shares_pids {
                // They would live on in a container that is gone. That none is left is no fault.
                let _ = container.kill(Signal::KILL, Target::All);
            }
            self.oom_killed |= container.cgroup().oom_kills().is_ok_and(|kills| kills > 0);
        }
        exit.oom_killed = self.oom_killed;
        if let (Some(directory), Some(pid)) = (&self.runtime_dir, self.main.life.pid()) {
            // A manager that is there is told anyway; one that comes later can still ask.
            let _ = records::write_exit(directory, raw(pid), exit);
        }
        exit.oom_killed
    }

    /// Writes `shim.json`.
    pub fn write_record(&self, socket: Option<&Path>) {
        if self.is_over() {
            return;
        }
        if let (Some(directory), Some(socket), Some(pid)) = (&self.runtime_dir, socket, self.main.life.pid()) {
            let record = ShimRecord {
                version: records::VERSION,
                pid: raw(pid),
                shim_pid: std::process::id(),
                socket,
                id: &self.id,
                bundle: &self.bundle,
                started_at: self.started_at,
            };
            // It says nothing that the shim itself does not answer.
            let _ = records::write_shim(directory, &record);
        }
    }

    /// Removes the cgroup and lets the mounts go, which may take the time of a sync. Does nothing the second time.
    pub fn clean_up(&mut self) {
        self.oom = None;
        if let Some(mut container) = self.container.take() {
            // What cannot be removed now is found by the manager, which looks for what nobody owns.
            self.remains = !container.delete().is_ok_and(|failed| failed.is_empty());
        }
        self.mount_namespace = None;
    }

    /// Whether nothing is left of it outside the shim.
    pub fn is_removed(&self) -> bool {
        self.container.is_none() && !self.remains
    }

    /// Starts to watch for a lack of memory.
    pub fn watch_memory(&mut self) -> Option<BorrowedFd<'_>> {
        if self.is_over() {
            return None;
        }
        self.oom = self.container.as_ref()?.cgroup().oom_watch().ok();
        self.oom.as_ref().map(AsFd::as_fd)
    }

    /// Looks whether the kernel has killed again for want of memory.
    pub fn lack_of_memory_was_fatal(&mut self) -> bool {
        let Some(watch) = &self.oom else { return false };
        watch.acknowledge();
        let kills = self.container.as_ref().and_then(|container| container.cgroup().oom_kills().ok());
        let kills = kills.unwrap_or(self.oom_kills);
        let more = kills > self.oom_kills;
        self.oom_kills = kills;
        self.oom_killed |= more;
        more
    }

    /// Forgets the eldest of the executed processes that are gone.
    pub fn forget_old_execs(&mut self, keep: usize) {
        let gone =
            |process: &Process| process.life.exit().is_some() && process.foreign.is_none() && process.output_ended();
        while self.execs.iter().filter(|process| gone(process)).count() > keep {
            if let Some(index) = self.execs.iter().position(gone) {
                self.execs.remove(index);
            }
        }
    }
}

/// A pid as messages carry it.
pub fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Streams made before the process is.
enum Prepared {
    Terminal(StdinMode, OwnedFd),
    Pipes(Inner, stdio::Outer),
    Given(Inner),
}

impl Prepared {
    fn new(terminal: bool, streams: Streams) -> Result<Self, ShimError> {
        let failed = || ShimError::own("making the streams of the process", "");
        Ok(match streams {
            Streams::Own(stdin) if terminal => Self::Terminal(stdin, stdio::null().map_err(failed())?),
            Streams::Own(stdin) => {
                let (inner, outer) = stdio::pipes(stdin).map_err(failed())?;
                Self::Pipes(inner, outer)
            }
            Streams::Given(inner) => Self::Given(inner),
        })
    }

    fn stdio(&self) -> Stdio<'_> {
        match self {
            Self::Terminal(_, null) => Stdio::all(null),
            Self::Pipes(inner, _) | Self::Given(inner) => inner.as_stdio(),
        }
    }

    /// The shim's ends. The process's own are closed here, so that their end is seen.
    fn outer(self, master: Option<OwnedFd>) -> Result<stdio::Outer, ShimError> {
        match (self, master) {
            (Self::Pipes(_, outer), _) => Ok(outer),
            (Self::Terminal(stdin, _), Some(master)) => {
                stdio::terminal(master, stdin).map_err(ShimError::own("preparing the terminal of the process", ""))
            }
            (Self::Terminal(..) | Self::Given(_), _) => Ok(stdio::Outer::default()),
        }
    }
}

fn read_spec(bundle: &Path) -> Result<Spec, ShimError> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).map_err(ShimError::own("reading", &path))?;
    serde_json::from_slice(&text).map_err(|source| ShimError::Document { what: path.display().to_string(), source })
}

/// The bundle's root directory, absolute.
fn root_directory(bundle: &Path, spec: &Spec) -> PathBuf {
    let root = spec.root.as_ref().map_or(Path::new("rootfs"), |root| root.path.as_path());
    bundle.join(root)
}

/// Whether the container has no pid namespace of its own whose end would be everybody's.
fn shares_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    !namespaces.into_iter().any(|namespace| namespace.kind == NamespaceType::Pid && namespace.path.is_none())
}
