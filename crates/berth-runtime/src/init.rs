//! The life of a container's first process, from clone3 to the program: one list of steps.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use berth_cgroup::PartialCgroup;
use berth_oci::runtime::{Hooks, Linux, Spec, Status};
use berth_sys::namespace::Namespace;
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;

use crate::channel::Channel;
use crate::error::{RuntimeError, Step};
use crate::filter::SystemCallFilter;
use crate::hooks::{self, Point, Subject};
use crate::launch::{self, Birth};
use crate::loopback;
use crate::masks;
use crate::namespaces::NamespacePlan;
use crate::process::{Ends, ProcessPlan, StartHooks, Surroundings, become_namespace_root};
use crate::procfs::Procfs;
use crate::program::Program;
use crate::request::{CreateRequest, StartGate};
use crate::rootfs::{self, RootfsPlan, Sources};
use crate::streams;
use crate::sysctl;

/// A container to be, understood: nothing of it exists yet, and most mistakes are found by now.
pub(crate) struct InitPlan<'a> {
    pub(crate) request: CreateRequest<'a>,
    pub(crate) linux: &'a Linux,
    pub(crate) namespaces: NamespacePlan<'a>,
    pub(crate) rootfs: RootfsPlan<'a>,
    pub(crate) process: ProcessPlan<'a>,
    /// Of what the process joins the rest when it is told that it is there; otherwise it was born in all of it.
    pub(crate) cgroup: Option<PartialCgroup>,
    /// Kept for later processes.
    pub(crate) filter: Option<SystemCallFilter>,
}

static NO_HOOKS: Hooks = Hooks {
    prestart: Vec::new(),
    create_runtime: Vec::new(),
    create_container: Vec::new(),
    start_container: Vec::new(),
    poststart: Vec::new(),
    poststop: Vec::new(),
};

/// The hooks of a configuration, which may have none.
pub(crate) fn hooks_of(spec: &Spec) -> &Hooks {
    spec.hooks.as_ref().unwrap_or(&NO_HOOKS)
}

impl<'a> InitPlan<'a> {
    /// Understands a request and its program; what is skipped is named in `warnings`.
    pub(crate) fn new(
        request: &CreateRequest<'a>,
        warnings: &mut Vec<String>,
    ) -> Result<(InitPlan<'a>, Program), RuntimeError> {
        let spec = request.spec;
        check_version(&spec.oci_version)?;
        let Some(linux) = &spec.linux else { return Err(RuntimeError::invalid("linux", "is missing")) };
        let Some(process) = &spec.process else { return Err(RuntimeError::invalid("process", "is missing")) };
        refuse_unsupported(linux)?;
        let namespaces = NamespacePlan::new(linux, request.network)?;
        check_namespaces(spec, linux, &namespaces)?;
        let user_namespace = namespaces.separates(Namespace::User);
        let rootfs = RootfsPlan::new(request, linux, user_namespace)?;
        let filter =
            linux.seccomp.as_ref().map(|profile| SystemCallFilter::new(profile, request.seccomp_cache)).transpose()?;
        let around = Surroundings {
            id: request.id,
            personality: linux.personality.as_ref(),
            keyring: request.keyring,
            preserve_fds: request.preserve_fds,
            stdio: request.stdio,
        };
        let (process, program) = ProcessPlan::new(process, &around, filter.as_ref(), warnings)?;
        Ok((InitPlan { request: *request, linux, namespaces, rootfs, process, cgroup: None, filter }, program))
    }

    /// Where the process is born.
    pub(crate) fn birth<'b>(&'b self, cgroup: &'b berth_cgroup::Join) -> Birth<'b> {
        Birth {
            created: self.namespaces.at_clone(),
            pid_namespace: self.namespaces.joined(Namespace::Pid),
            user_namespace: self.namespaces.joined(Namespace::User),
            cgroup: Some(cgroup),
            cpus: None,
        }
    }

    /// Whether the maker writes id maps before the process goes on.
    pub(crate) fn needs_maps(&self) -> bool {
        self.namespaces.created.contains(Namespace::User)
    }

    /// Whether the cgroup has to be whole before the process is there: its namespace or what is opened outside shows it, or the process
    /// could take more memory than it may have.
    pub(crate) fn needs_cgroup_at_birth(&self) -> bool {
        let shown = self.namespaces.created.contains(Namespace::Cgroup) || self.rootfs.opens_sources_outside();
        let memory = self.linux.resources.as_ref().and_then(|resources| resources.memory.as_ref());
        let limited = memory.is_some_and(|memory| memory.limit.is_some() || memory.swap.is_some());
        shown || limited || self.namespaces.separates(Namespace::User)
    }

    /// Whether the maker runs hooks before the root is switched.
    pub(crate) fn stops_for_hooks(&self) -> bool {
        let hooks = hooks_of(self.request.spec);
        !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty()
    }

    /// Whether the program begins without a sign from the caller of the runtime. A maker that runs hooks first gives it late.
    pub(crate) fn begins_unasked(&self) -> bool {
        matches!(self.request.gate, StartGate::Open) && !self.stops_for_hooks()
    }

    /// The whole life, in the new process.
    pub(crate) fn live(
        &self,
        program: Program,
        channel: &Channel,
        sources: Option<Sources>,
    ) -> Result<Infallible, RuntimeError> {
        let procfs = self.enter_namespaces(channel)?;
        let pid = procfs.own_pid()?;
        let umask = rustix::process::umask(Mode::empty()); // Modes are meant as they are written.
        let root = self.rootfs.build(sources, || self.join_cgroup(channel))?;
        rustix::process::umask(umask);
        self.run_create_hooks(channel, pid)?;
        rustix::process::umask(Mode::empty());
        self.rootfs.switch(&root)?;
        drop(root);
        let root = rootfs::open_root()?;
        let terminal = self.settle(&program, &root, &procfs)?;
        let hooks = StartHooks {
            hooks: &hooks_of(self.request.spec).start_container,
            subject: self.subject(Some(pid), Status::Created),
        };
        let ends = Ends { channel, gate: self.request.gate, hooks: Some(hooks), subject: hooks.subject };
        self.process.finish(program, root.as_fd(), &procfs, &ends, terminal)
    }

    fn enter_namespaces(&self, channel: &Channel) -> Result<Procfs, RuntimeError> {
        if self.needs_maps() {
            // The files of a process that cannot be looked into belong to the host's root: nobody is inside yet to look.
            rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).step("becoming dumpable", "")?;
            if !channel.wait()? {
                return Err(RuntimeError::Lost { reason: "the runtime has gone".to_owned() });
            }
        }
        if self.namespaces.separates(Namespace::User) {
            become_namespace_root()?;
        }
        self.namespaces.enter_joined()?;
        self.namespaces.enter_new_cgroup()?;
        let procfs = Procfs::open()?;
        self.namespaces.enter_new_time(&procfs)?;
        if self.namespaces.created.contains(Namespace::Network) {
            loopback::bring_up()?;
        }
        Ok(procfs)
    }

    /// Waits until the rest of the cgroup is there, and joins it.
    fn join_cgroup(&self, channel: &Channel) -> Result<(), RuntimeError> {
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        if !channel.wait()? {
            return Err(RuntimeError::Lost { reason: "the runtime has gone".to_owned() });
        }
        cgroup.join_rest()?.iter().try_for_each(launch::join)
    }

    fn run_create_hooks(&self, channel: &Channel, pid: i32) -> Result<(), RuntimeError> {
        if self.stops_for_hooks() {
            channel.environment()?;
            if !channel.wait()? {
                return Err(RuntimeError::Lost { reason: "the runtime has gone".to_owned() });
            }
        }
        let hooks = &hooks_of(self.request.spec).create_container;
        hooks::run(hooks, Point::CreateContainer, &self.subject(Some(pid), Status::Creating))
    }

    /// Everything inside the new root that does not depend on who the process will be.
    fn settle(&self, program: &Program, root: &OwnedFd, procfs: &Procfs) -> Result<Option<OwnedFd>, RuntimeError> {
        let (root, interface) = (root.as_fd(), self.rootfs.interface());
        let terminal = self.process.install_streams(root, |pty| streams::mount_console(interface, root, pty))?;
        program.make_working_directory(root);
        self.rootfs.finish(root)?;
        let spec = self.request.spec;
        if !spec.hostname.is_empty() {
            rustix::system::sethostname(spec.hostname.as_bytes()).step("setting the hostname", &spec.hostname)?;
        }
        if !spec.domainname.is_empty() {
            rustix::system::setdomainname(spec.domainname.as_bytes())
                .step("setting the domain name", &spec.domainname)?;
        }
        sysctl::apply(&self.linux.sysctl, procfs)?;
        masks::make_read_only(interface, root, &self.linux.readonly_paths)?;
        masks::mask(interface, root, &self.linux.masked_paths)?;
        Ok(terminal)
    }

    /// What hooks are told.
    pub(crate) fn subject(&self, pid: Option<i32>, status: Status) -> Subject<'a> {
        let CreateRequest { id, bundle, spec, .. } = self.request;
        Subject { id, bundle, annotations: &spec.annotations, pid, status }
    }
}

/// Takes 1.x: a later minor version only adds, and what it adds is ignored by its own rule.
fn check_version(version: &str) -> Result<(), RuntimeError> {
    let known = version.split('.').next() == Some("1") && version.split('.').count() >= 3;
    if known {
        Ok(())
    } else {
        Err(RuntimeError::invalid("ociVersion", format!("{version:?} is not supported, only 1.x.y")))
    }
}

fn check_namespaces(spec: &Spec, linux: &Linux, namespaces: &NamespacePlan<'_>) -> Result<(), RuntimeError> {
    if !namespaces.created.contains(Namespace::Mount) {
        return Err(RuntimeError::invalid("linux.namespaces", "a new mount namespace is needed"));
    }
    let named = !spec.hostname.is_empty() || !spec.domainname.is_empty();
    if named && !namespaces.separates(Namespace::Uts) {
        return Err(RuntimeError::invalid("hostname", "cannot be set without a UTS namespace of the container's own"));
    }
    sysctl::check(&linux.sysctl, namespaces)
}

/// What the configuration can ask for and this runtime does not do. Ignored, it would give a container that is not the one described.
fn refuse_unsupported(linux: &Linux) -> Result<(), RuntimeError> {
    let asked = [
        ("linux.intelRdt", linux.intel_rdt.is_some()),
        ("linux.memoryPolicy", linux.memory_policy.is_some()),
        ("linux.netDevices", !linux.net_devices.is_empty()),
        ("linux.mountLabel", !linux.mount_label.is_empty()),
        (
            "linux.personality.flags",
            linux.personality.as_ref().is_some_and(|personality| !personality.flags.is_empty()),
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(RuntimeError::invalid(*field, "is not supported")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_first_major_are_taken() {
        for good in ["1.0.0", "1.0.2-dev", "1.2.1", "1.99.0+x"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["", "2.0.0", "0.9.0", "1", "10.0.0"] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }
}
