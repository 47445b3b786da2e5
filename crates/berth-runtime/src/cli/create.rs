//! `create` and `run`.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use berth_model::Timestamp;
use berth_oci::runtime::Spec;

use super::arguments::{Flag, HELP, Parsed};
use super::foreground::{self, Session};
use super::handover::{self, TerminalUse};
use super::{Command, Context, FAILED, Failure};
use crate::error::{RuntimeError, Step};
use crate::registry::{Record, Reserved, read_spec, start_time};
use crate::{Container, CreateRequest, Keyring, RootSwitch, Rootfs, StartGate};

pub(super) const COMMAND: Command = Command {
    name: "create",
    operands: "ID",
    summary: "Make a container whose program waits for `start`",
    flags: &[
        Flag::value("bundle").short('b'),
        Flag::value("console-socket"),
        Flag::value("pidfd-socket"),
        Flag::value("pid-file"),
        Flag::switch("no-pivot"),
        Flag::switch("no-new-keyring"),
        Flag::value("preserve-fds"),
        HELP,
    ],
    run: create,
};

pub(super) const RUN: Command = Command {
    name: "run",
    operands: "ID",
    summary: "Make a container, start it and wait for its end",
    flags: &[
        Flag::value("bundle").short('b'),
        Flag::value("console-socket"),
        Flag::value("pidfd-socket"),
        Flag::value("pid-file"),
        Flag::switch("no-pivot"),
        Flag::switch("no-new-keyring"),
        Flag::value("preserve-fds"),
        Flag::switch("detach").short('d'),
        Flag::switch("keep"),
        Flag::switch("no-subreaper"),
        HELP,
    ],
    run,
};

/// A bundle as found on disk.
struct Bundle {
    directory: PathBuf,
    spec: Spec,
    text: Vec<u8>,
    rootfs: PathBuf,
}

fn create(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let id = parsed.only_id("create").map_err(Failure::Usage)?;
    let failed = |error| Failure::Operation { what: "create failed", error, status: FAILED };
    create_waiting(context, parsed, id).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn create_waiting(context: &Context, parsed: &Parsed, id: &str) -> Result<(), RuntimeError> {
    let bundle = open_bundle(parsed)?;
    TerminalUse::choose(parsed, bundle.has_terminal(), true)?;
    let place = context.registry.reserve(id)?;
    let socket = place.listen()?;
    let request = request(parsed, id, &bundle, StartGate::Socket(socket.as_fd()))?;
    let container = make(context, &request)?;
    finish_creation(parsed, place, &bundle, container).map(drop)
}

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let id = parsed.only_id("run").map_err(Failure::Usage)?;
    let failed = |error| Failure::Operation { what: "run failed", error, status: FAILED };
    run_through(context, parsed, id).map_err(failed)
}

fn run_through(context: &Context, parsed: &Parsed, id: &str) -> Result<ExitCode, RuntimeError> {
    let bundle = open_bundle(parsed)?;
    let detached = parsed.has("detach");
    let terminal_use = TerminalUse::choose(parsed, bundle.has_terminal(), detached)?;
    let place = context.registry.reserve(id)?;
    let session = if detached { None } else { Some(Session::begin()?) };
    let request = request(parsed, id, &bundle, StartGate::Caller)?;
    let container = make(context, &request)?;
    let (entry, mut container) = finish_creation(parsed, place, &bundle, container)?;
    let terminal = container.take_terminal().filter(|_| terminal_use == TerminalUse::Own);
    // The end is seen before the file systems are unmounted; they are when this process ends.
    let held = container.take_mount_namespace();
    if let Err(error) = container.start() {
        let _ = container.delete();
        entry.remove()?;
        return Err(error);
    }
    let Some(session) = session else { return Ok(ExitCode::SUCCESS) };
    let status = session.attend(container.pidfd(), terminal.as_ref())?;
    if !parsed.has("keep") {
        for failure in container.delete()? {
            context.log.warning(&failure.to_string());
        }
        entry.remove()?;
    }
    drop(held);
    Ok(ExitCode::from(status))
}

fn make(context: &Context, request: &CreateRequest<'_>) -> Result<Container, RuntimeError> {
    let container = Container::create(request)?;
    container.warnings().iter().for_each(|warning| context.log.warning(warning));
    Ok(container)
}

/// Writes down what was made and hands it over; takes it back when that fails.
fn finish_creation(
    parsed: &Parsed,
    place: Reserved,
    bundle: &Bundle,
    mut container: Container,
) -> Result<(crate::registry::Entry, Container), RuntimeError> {
    let result = record(bundle, &container).and_then(|record| place.keep(record, &bundle.text)).and_then(|entry| {
        let handed = hand_over(parsed, &mut container);
        handed.map_err(|error| (entry.remove(), error).1).map(|()| entry)
    });
    match result {
        Ok(entry) => Ok((entry, container)),
        Err(error) => {
            let _ = container.delete();
            foreground::reap(container.pidfd());
            Err(error)
        }
    }
}

fn hand_over(parsed: &Parsed, container: &mut Container) -> Result<(), RuntimeError> {
    if parsed.has("console-socket") {
        handover::send_terminal(parsed, container.take_terminal().as_ref())?;
    }
    handover::send_pidfd(parsed, container.pidfd())?;
    handover::write_pid_file(parsed, container.pid())
}

fn record(bundle: &Bundle, container: &Container) -> Result<Record, RuntimeError> {
    let pid = container.pid().as_raw_nonzero().get();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lost = || RuntimeError::Lost { reason: "before it was started".to_owned() };
    Ok(Record {
        version: Record::VERSION,
        id: container.id().to_owned(),
        bundle: bundle.directory.clone(),
        rootfs: bundle.rootfs.clone(),
        pid,
        pid_start_time: start_time(pid).ok_or_else(lost)?,
        created: Timestamp::from_parts(now.as_secs() as i64, now.subsec_nanos()),
        owner: rustix::process::geteuid().as_raw(),
        cgroup: container.cgroup().path().as_str().to_owned(),
    })
}

fn open_bundle(parsed: &Parsed) -> Result<Bundle, RuntimeError> {
    let directory = std::path::absolute(parsed.value("bundle").unwrap_or(".")).step("finding the bundle", "")?;
    let (spec, text) = read_spec(&directory.join("config.json"))?;
    let rootfs = match &spec.root {
        Some(root) if !root.path.as_os_str().is_empty() => directory.join(&root.path),
        _ => return Err(RuntimeError::invalid("root.path", "is missing")),
    };
    Ok(Bundle { directory, spec, text, rootfs })
}

impl Bundle {
    fn has_terminal(&self) -> bool {
        self.spec.process.as_ref().is_some_and(|process| process.terminal)
    }
}

fn request<'a>(
    parsed: &Parsed,
    id: &'a str,
    bundle: &'a Bundle,
    gate: StartGate<'a>,
) -> Result<CreateRequest<'a>, RuntimeError> {
    Ok(CreateRequest {
        gate,
        root_switch: if parsed.has("no-pivot") { RootSwitch::Chroot } else { RootSwitch::Pivot },
        keyring: if parsed.has("no-new-keyring") { Keyring::Inherited } else { Keyring::New },
        preserve_fds: preserved(parsed)?,
        ..CreateRequest::new(id, &bundle.directory, &bundle.spec, Rootfs::Directory(&bundle.rootfs))
    })
}

/// How many descriptors are passed on: those of socket activation, and those asked for. All must be there.
pub(super) fn preserved(parsed: &Parsed) -> Result<u32, RuntimeError> {
    let asked: u32 =
        parsed.number("preserve-fds").map_err(|reason| RuntimeError::invalid("--preserve-fds", reason))?.unwrap_or(0);
    let activated = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    let count = asked.saturating_add(activated);
    for number in (3..).take(count as usize) {
        if !berth_sys::exec::is_inherited(number) {
            return Err(RuntimeError::invalid("--preserve-fds", format!("descriptor {number} is not open")));
        }
    }
    Ok(count)
}
