//! One container: made, started, entered, signalled, frozen and deleted.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_cgroup::{Cgroup, CgroupPath, Layout, PartialCgroup};
use berth_oci::runtime::{Hooks, LinuxResources, Personality, Spec, Status};
use berth_sys::namespace::{self, Namespace, Namespaces};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdStatus};

use crate::channel::{Channel, Report};
use crate::error::{RuntimeError, Step};
use crate::filter::FilterSource;
use crate::hooks::{self, Point, Subject};
use crate::init::{InitPlan, hooks_of};
use crate::launch::{Birth, Launched, reap};
use crate::limits;
use crate::namespaces::{NamespacePlan, kind_of};
use crate::process::{Ends, ProcessPlan, Surroundings, become_namespace_root};
use crate::procfs::Procfs;
use crate::program::Program;
use crate::request::{CreateRequest, ExecRequest, StartGate, Target};
use crate::rootfs;

/// A container that exists: its first process waits, runs, or has ended.
///
/// [`Container::create`] makes it, [`Container::start`] lets the program begin, [`Container::delete`] removes what is left after
/// its end. The caller is the parent of the first process and reaps it by [`Container::pidfd`]. Dropping the value changes nothing,
/// except that a container that was not started ends: nobody is left to start it.
#[derive(Debug)]
pub struct Container {
    id: String,
    bundle: PathBuf,
    pid: Pid,
    pidfd: OwnedFd,
    /// Open until the program runs.
    channel: Option<Channel>,
    /// Whether the program begins by itself.
    unasked: bool,
    cgroup: Cgroup,
    mount_namespace: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    warnings: Vec<String>,
    settings: Settings,
}

/// What of the configuration is needed after the creation.
#[derive(Clone, Debug)]
struct Settings {
    namespaces: Namespaces,
    annotations: std::collections::BTreeMap<String, String>,
    hooks: Hooks,
    filter: FilterSource,
    personality: Option<Personality>,
}

/// A process that was started in a container.
#[derive(Debug)]
pub struct ExecProcess {
    /// Its number in the caller's pid namespace.
    pub pid: Pid,
    /// Its pidfd; the caller is its parent and reaps it.
    pub pidfd: OwnedFd,
    /// The master of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// What was skipped.
    pub warnings: Vec<String>,
}

/// What is known of a container that another process made.
#[derive(Clone, Copy, Debug)]
pub struct Existing<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its bundle directory.
    pub bundle: &'a Path,
    /// The configuration it was made from.
    pub spec: &'a Spec,
    /// Its first process, which must still be that one: check its start time before.
    pub pid: Pid,
    /// Where its cgroup is.
    pub cgroup: &'a CgroupPath,
    /// A directory in which compiled seccomp filters are kept.
    pub seccomp_cache: Option<&'a Path>,
}

impl Container {
    /// Makes a container whose first process waits to become the program.
    ///
    /// # Errors
    /// The step that failed; nothing of the container is left then.
    pub fn create(request: &CreateRequest<'_>) -> Result<Container, RuntimeError> {
        check_id(request.id)?;
        let mut warnings = Vec::new();
        let (mut plan, program) = InitPlan::new(request, &mut warnings)?;
        let separated = plan.namespaces.separated();
        let mut cgroup = NewCgroup::begin(request)?;
        plan.rootfs.set_cgroup(&cgroup.layout, cgroup.partial.cgroup().path());
        if plan.needs_cgroup_at_birth() {
            cgroup.complete(request, &mut warnings)?;
        }
        plan.cgroup = (!cgroup.partial.is_complete()).then(|| cgroup.partial.clone());
        let (launched, mount_namespace, terminal) = launch(&plan, program, &mut cgroup, &mut warnings)?;
        let Launched { pid, pidfd, channel } = launched.keep();
        Ok(Container {
            id: request.id.to_owned(),
            bundle: request.bundle.to_owned(),
            pid,
            pidfd,
            channel: Some(channel),
            unasked: plan.begins_unasked(),
            cgroup: cgroup.keep(),
            mount_namespace: Some(mount_namespace),
            terminal,
            warnings,
            settings: Settings::new(request.spec, separated, FilterSource::Compiled(plan.filter.take())),
        })
    }

    /// Takes hold of a container that another process made.
    ///
    /// # Errors
    /// [`RuntimeError::Step`] when its process is gone, [`RuntimeError::Cgroup`] when its cgroup cannot be found out.
    pub fn attach(existing: &Existing<'_>) -> Result<Container, RuntimeError> {
        let pidfd = rustix::process::pidfd_open(existing.pid, PidfdFlags::empty());
        let layout = Layout::probe()?;
        // A cgroup that is gone already is fine: the other operations say what they miss.
        let cgroup = Cgroup::open(&layout, existing.cgroup)?;
        Ok(Container {
            id: existing.id.to_owned(),
            bundle: existing.bundle.to_owned(),
            pid: existing.pid,
            pidfd: pidfd.step("opening the container process", "")?,
            channel: None,
            unasked: false,
            cgroup,
            mount_namespace: None,
            terminal: None,
            warnings: Vec::new(),
            settings: Settings::new(
                existing.spec,
                separated(existing.spec),
                FilterSource::Profile {
                    profile: existing.spec.linux.as_ref().and_then(|linux| linux.seccomp.clone()),
                    cache: existing.seccomp_cache.map(Path::to_owned),
                },
            ),
        })
    }

    /// Lets the program begin; returns once it has.
    ///
    /// # Errors
    /// [`RuntimeError::Program`] when it could not be executed (the first process has ended then, and is reaped), a failed hook,
    /// [`RuntimeError::WrongState`] when it was started before.
    pub fn start(&mut self) -> Result<(), RuntimeError> {
        let Some(channel) = self.channel.take() else {
            return Err(RuntimeError::WrongState {
                id: self.id.clone(),
                action: "cannot start".into(),
                reason: "it was started already".into(),
            });
        };
        if !self.unasked {
            // A process that has gone says so below.
            let _ = channel.go_on();
        }
        self.begin(&channel)
    }

    /// Lets the program of a container begin that was made with [`StartGate::Socket`]; `socket` is connected to that socket.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub fn start_through(&mut self, socket: OwnedFd) -> Result<(), RuntimeError> {
        self.begin(&Channel::from_socket(socket))
    }

    fn begin(&self, channel: &Channel) -> Result<(), RuntimeError> {
        if let Report::Failed(error) = channel.receive()? {
            reap(&self.pidfd);
            return Err(error);
        }
        let poststart = &self.settings.hooks.poststart;
        hooks::run(poststart, Point::Poststart, &self.subject(Status::Running)).inspect_err(|_| {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        })
    }

    /// Starts one more process in the container; returns once its program runs.
    ///
    /// # Errors
    /// [`RuntimeError::Program`] when it could not be executed, or the step that failed; nothing is left of the process then.
    pub fn exec(&self, request: &ExecRequest<'_>) -> Result<ExecProcess, RuntimeError> {
        let mut warnings = Vec::new();
        let filter = self.settings.filter.get()?;
        let around = Surroundings {
            id: &self.id,
            personality: self.settings.personality.as_ref(),
            keyring: request.keyring,
            preserve_fds: request.preserve_fds,
            stdio: request.stdio,
        };
        let (plan, program) = ProcessPlan::new(request.process, &around, filter.as_ref(), &mut warnings)?;
        let join = self.cgroup.join()?;
        let separated = self.settings.namespaces;
        let birth = Birth {
            created: Namespaces::NONE,
            pid_namespace: separated.contains(Namespace::Pid).then(|| self.pidfd.as_fd()),
            user_namespace: None,
            cgroup: Some(&join),
            cpus: plan.affinity.before.as_ref(),
        };
        let launched = birth.launch(|channel| self.live_inside(&plan, program, channel))?;
        let launched = Guard(Some(launched));
        plan.adjust_oom_score(launched.pid(), &mut warnings)?;
        // Nothing is left to be done here before it begins; if it has gone already, it says so.
        let _ = launched.channel().go_on();
        let terminal = launched.await_ready(&self.cgroup, || Ok(()))?;
        if let Report::Failed(error) = launched.channel().receive()? {
            return Err(error);
        }
        let Launched { pid, pidfd, .. } = launched.keep();
        Ok(ExecProcess { pid, pidfd, terminal, warnings })
    }

    /// The life of one more process, from its birth in the pid namespace and the cgroup to the program.
    fn live_inside(
        &self,
        plan: &ProcessPlan<'_>,
        program: Program,
        channel: &Channel,
    ) -> Result<std::convert::Infallible, RuntimeError> {
        limits::bind_to(plan.affinity.after.as_ref())?;
        let procfs = Procfs::open()?;
        let separated = self.settings.namespaces;
        let rest = separated.without(Namespace::Pid);
        if !rest.is_empty() {
            namespace::enter_all(&self.pidfd, rest).step("joining the namespaces of the container", "")?;
        }
        if separated.contains(Namespace::User) {
            become_namespace_root()?;
        }
        let root = rootfs::open_root()?;
        let terminal = plan.install_streams(root.as_fd(), |_| Ok(()))?;
        let subject = Subject { pid: None, ..self.subject(Status::Running) };
        let ends = Ends { channel, gate: StartGate::Caller, hooks: None, subject };
        plan.finish(program, root.as_fd(), &procfs, &ends, terminal)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// `ESRCH` when the process is gone.
    pub fn kill(&self, signal: Signal, target: Target) -> Result<(), RuntimeError> {
        match target {
            Target::Init => {
                rustix::process::pidfd_send_signal(&self.pidfd, signal).step("sending a signal to the container", "")
            }
            Target::All => {
                self.cgroup.signal(signal)?;
                Ok(())
            }
        }
    }

    /// Stops every process; returns once all have stopped.
    ///
    /// # Errors
    /// [`RuntimeError::Cgroup`].
    pub fn pause(&self) -> Result<(), RuntimeError> {
        Ok(self.cgroup.freeze()?)
    }

    /// Lets every process go on.
    ///
    /// # Errors
    /// [`RuntimeError::Cgroup`].
    pub fn resume(&self) -> Result<(), RuntimeError> {
        Ok(self.cgroup.thaw()?)
    }

    /// Changes limits; gives what this machine does not have.
    ///
    /// # Errors
    /// [`RuntimeError::Cgroup`] for a value that is refused.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<String>, RuntimeError> {
        Ok(self.cgroup.update(resources)?.iter().map(ToString::to_string).collect())
    }

    /// Removes what is left of a container whose first process has ended: processes, cgroup; then runs the poststop hooks.
    ///
    /// Gives the hooks that failed, which changes nothing. Call it again when it failed.
    ///
    /// # Errors
    /// [`RuntimeError::Cgroup`].
    pub fn delete(&mut self) -> Result<Vec<RuntimeError>, RuntimeError> {
        self.channel = None;
        remove_cgroup(&self.cgroup)?;
        self.mount_namespace = None;
        Ok(hooks::run_all(&self.settings.hooks.poststop, Point::Poststop, &self.subject(Status::Stopped)))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The number of its first process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The pidfd of its first process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The master of its terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// A hold on its mount namespace, once: as long as somebody has it, the end of the first process is seen before its
    /// file systems are unmounted. Only the process that made the container has it.
    pub fn take_mount_namespace(&mut self) -> Option<OwnedFd> {
        self.mount_namespace.take()
    }

    /// What was skipped or not permitted at creation, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn subject(&self, status: Status) -> Subject<'_> {
        let pid = (status != Status::Stopped).then(|| self.pid.as_raw_nonzero().get());
        Subject { id: &self.id, bundle: &self.bundle, annotations: &self.settings.annotations, pid, status }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.unasked && self.channel.is_some() {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }
}

impl Settings {
    fn new(spec: &Spec, namespaces: Namespaces, filter: FilterSource) -> Settings {
        let linux = spec.linux.as_ref();
        Settings {
            namespaces,
            annotations: spec.annotations.clone(),
            hooks: spec.hooks.clone().unwrap_or_default(),
            filter,
            personality: linux.and_then(|linux| linux.personality.clone()),
        }
    }
}

/// The namespaces that a later process enters; a path to the host's own leads to no other.
fn separated(spec: &Spec) -> Namespaces {
    let Some(linux) = &spec.linux else { return Namespaces::NONE };
    match NamespacePlan::new(linux, None) {
        Ok(plan) => plan.separated(),
        // A path that was joined at creation and is gone since: the processes inside still have it.
        Err(_) => linux.namespaces.iter().map(|entry| kind_of(entry.kind)).collect(),
    }
}

/// Whether an id can be a container's: it becomes part of paths.
pub(crate) fn check_id(id: &str) -> Result<(), RuntimeError> {
    let good = |letter: u8| letter.is_ascii_alphanumeric() || b"_+-.".contains(&letter);
    let longest = 1024;
    if !id.is_empty() && id.len() <= longest && id != "." && id != ".." && id.bytes().all(good) {
        return Ok(());
    }
    Err(RuntimeError::InvalidId { id: id.to_owned() })
}

/// A new cgroup, removed again unless it is kept.
struct NewCgroup {
    layout: Layout,
    partial: PartialCgroup,
    kept: bool,
}

impl NewCgroup {
    /// Makes so much of it as the first process has to be born in.
    fn begin(request: &CreateRequest<'_>) -> Result<NewCgroup, RuntimeError> {
        let linux = request.spec.linux.as_ref();
        let parent: CgroupPath = "/".parse().map_err(berth_cgroup::CgroupError::from)?;
        let path = CgroupPath::resolve(linux.and_then(|linux| linux.cgroups_path.as_deref()), &parent, request.id);
        let layout = request.layout.map_or_else(Layout::probe, |known| Ok(known.clone()))?;
        let partial = PartialCgroup::begin(&layout, &path.map_err(berth_cgroup::CgroupError::from)?)?;
        Ok(NewCgroup { layout, partial, kept: false })
    }

    /// Makes the rest, and sets the limits.
    fn complete(&mut self, request: &CreateRequest<'_>, warnings: &mut Vec<String>) -> Result<(), RuntimeError> {
        self.partial.complete()?;
        let none = LinuxResources::default();
        let resources = request.spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()).unwrap_or(&none);
        warnings.extend(self.partial.cgroup().apply(resources)?.iter().map(ToString::to_string));
        Ok(())
    }

    fn keep(mut self) -> Cgroup {
        self.kept = true;
        self.partial.cgroup().clone()
    }
}

impl Drop for NewCgroup {
    fn drop(&mut self) {
        if !self.kept {
            let _ = remove_cgroup(self.partial.cgroup());
        }
    }
}

fn remove_cgroup(cgroup: &Cgroup) -> Result<(), RuntimeError> {
    // Mostly nobody is left, and killing on v1 means freezing first.
    if cgroup.remove_if_empty()? {
        return Ok(());
    }
    if !cgroup.pids()?.is_empty() {
        cgroup.kill()?;
    }
    Ok(cgroup.remove()?)
}

/// Makes the process and brings it to the gate; gives its mount namespace and the master of its terminal.
fn launch(
    plan: &InitPlan<'_>,
    program: Program,
    cgroup: &mut NewCgroup,
    warnings: &mut Vec<String>,
) -> Result<(Guard, OwnedFd, Option<OwnedFd>), RuntimeError> {
    let sources = plan.rootfs.open_sources_outside()?;
    let join = cgroup.partial.join()?;
    let launched = plan.birth(&join).launch(|channel| plan.live(program, channel, sources))?;
    let launched = Guard(Some(launched));
    if plan.needs_maps() {
        plan.namespaces.write_maps(launched.pid())?;
        let _ = launched.channel().go_on();
    }
    if !cgroup.partial.is_complete() {
        cgroup.complete(&plan.request, warnings)?;
        // A process that has gone says so below.
        let _ = launched.channel().go_on();
    }
    // What the process does not wait for is done while it works; it is not reaped before we say so, however it fares.
    plan.process.adjust_oom_score(launched.pid(), warnings)?;
    let mount_namespace = launched.mount_namespace();
    if plan.begins_unasked() {
        let _ = launched.channel().go_on();
    }
    let pid = launched.pid().as_raw_nonzero().get();
    let terminal = launched.await_ready(cgroup.partial.cgroup(), || {
        let (hooks, subject) = (hooks_of(plan.request.spec), plan.subject(Some(pid), Status::Creating));
        hooks::run(&hooks.prestart, Point::Prestart, &subject)?;
        hooks::run(&hooks.create_runtime, Point::CreateRuntime, &subject)
    })?;
    Ok((launched, mount_namespace?, terminal))
}

/// A new process, killed and reaped unless it is kept.
struct Guard(Option<Launched>);

impl Guard {
    fn alive(&self) -> &Launched {
        self.0.as_ref().expect("kept only by value")
    }

    fn pid(&self) -> Pid {
        self.alive().pid
    }

    fn channel(&self) -> &Channel {
        &self.alive().channel
    }

    fn keep(mut self) -> Launched {
        self.0.take().expect("kept only by value")
    }

    /// Waits until the process stands at the gate; runs `hooks` when it stops for them.
    fn await_ready(
        &self,
        cgroup: &Cgroup,
        hooks: impl Fn() -> Result<(), RuntimeError>,
    ) -> Result<Option<OwnedFd>, RuntimeError> {
        loop {
            match self.channel().receive()? {
                Report::Environment => {
                    hooks()?;
                    self.channel().go_on()?;
                }
                Report::Ready(terminal) => return Ok(terminal),
                Report::Failed(error) => return Err(error),
                Report::Ended => return Err(self.lost(cgroup)),
            }
        }
    }

    fn lost(&self, cgroup: &Cgroup) -> RuntimeError {
        let status = reap(&self.alive().pidfd);
        let killed = status.as_ref().and_then(WaitIdStatus::terminating_signal);
        let reason = match killed {
            Some(9) if cgroup.oom_kills().unwrap_or(0) > 0 => "out of memory: the memory limit is too low".to_owned(),
            Some(signal) => format!("ended by signal {signal}"),
            None => "without a reason".to_owned(),
        };
        RuntimeError::Lost { reason }
    }

    /// Opened before the program may begin: asked for later, a short one may have ended already.
    fn mount_namespace(&self) -> Result<OwnedFd, RuntimeError> {
        let alive = self.alive();
        namespace::mount_namespace_of(&alive.pidfd).or_else(|_| {
            let path = format!("/proc/{}/ns/mnt", alive.pid.as_raw_nonzero());
            rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .step("opening the mount namespace", path)
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(alive) = &self.0 {
            let _ = rustix::process::pidfd_send_signal(&alive.pidfd, Signal::KILL);
            reap(&alive.pidfd);
        }
    }
}

impl ProcessPlan<'_> {
    /// Done from outside: the file of the new process may belong to somebody else for it.
    fn adjust_oom_score(&self, pid: Pid, warnings: &mut Vec<String>) -> Result<(), RuntimeError> {
        let Some(score) = self.oom_score_adj.filter(|score| own_oom_score() != Some(*score)) else { return Ok(()) };
        let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
        match fs::write(&path, score.to_string()) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                warnings.push(format!("setting oom_score_adj to {score} is not permitted here"));
                Ok(())
            }
            // Whatever ended the process so soon is reported by it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.step("writing", path),
        }
    }
}

/// The score of the calling process, with which its children are born.
fn own_oom_score() -> Option<i32> {
    let file = rustix::fs::open("/proc/self/oom_score_adj", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0_u8; 16];
    let length = rustix::io::read(&file, &mut text).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parts_of_paths() {
        for good in ["a", "c_1+2-3.x", "0123456789abcdef"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}
