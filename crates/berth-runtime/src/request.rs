//! What the callers of the library ask for.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use berth_cgroup::Layout;
use berth_oci::runtime::{Mount, Process, Spec};
use berth_sys::mount::Interface;

/// A container to be made. [`CreateRequest::new`] fills in what most callers want.
#[derive(Clone, Copy, Debug)]
pub struct CreateRequest<'a> {
    /// The container's id; letters, digits and `_+-.`
    pub id: &'a str,
    /// The bundle directory, absolute: relative paths of the configuration count from it.
    pub bundle: &'a Path,
    /// Its configuration, already read.
    pub spec: &'a Spec,
    /// What becomes the root file system.
    pub rootfs: Rootfs<'a>,
    /// The standard streams; not used when the process has a terminal.
    pub stdio: Stdio<'a>,
    /// A network namespace that was prepared: takes the place of the configuration's.
    pub network: Option<BorrowedFd<'a>>,
    /// Who lets the program begin.
    pub gate: StartGate<'a>,
    /// How the root is switched.
    pub root_switch: RootSwitch,
    /// Which system calls make mounts: what the kernel has, or less for a test of the fallback.
    pub mount_interface: Interface,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// A directory in which compiled seccomp filters are kept by their hash.
    pub seccomp_cache: Option<&'a Path>,
    /// The control groups of the machine, if the caller knows them.
    pub layout: Option<&'a Layout>,
}

impl<'a> CreateRequest<'a> {
    /// The plain request: streams inherited, started by the caller, root pivoted, a new keyring.
    pub fn new(id: &'a str, bundle: &'a Path, spec: &'a Spec, rootfs: Rootfs<'a>) -> CreateRequest<'a> {
        CreateRequest {
            id,
            bundle,
            spec,
            rootfs,
            stdio: Stdio::inherit(),
            network: None,
            gate: StartGate::Caller,
            root_switch: RootSwitch::Pivot,
            mount_interface: Interface::probe(),
            keyring: Keyring::New,
            preserve_fds: 0,
            seccomp_cache: None,
            layout: None,
        }
    }
}

/// What becomes the root file system.
#[derive(Clone, Copy, Debug)]
pub enum Rootfs<'a> {
    /// A directory: bound.
    Directory(&'a Path),
    /// Mounts made at the root inside the new mount namespace, each over the one before; destinations are ignored.
    Mounts(&'a [Mount]),
    /// A mount that was made for it and is attached nowhere.
    Tree(BorrowedFd<'a>),
}

/// The standard streams of a process.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    /// Descriptor 0.
    pub input: BorrowedFd<'a>,
    /// Descriptor 1.
    pub output: BorrowedFd<'a>,
    /// Descriptor 2.
    pub error: BorrowedFd<'a>,
}

impl Stdio<'_> {
    /// The caller's own.
    pub fn inherit() -> Stdio<'static> {
        Stdio { input: rustix::stdio::stdin(), output: rustix::stdio::stdout(), error: rustix::stdio::stderr() }
    }
}

impl<'a> Stdio<'a> {
    /// One descriptor for all three, such as `/dev/null`.
    pub fn all(descriptor: &'a impl AsFd) -> Stdio<'a> {
        let descriptor = descriptor.as_fd();
        Stdio { input: descriptor, output: descriptor, error: descriptor }
    }
}

/// Who lets the program of a created container begin.
#[derive(Clone, Copy, Debug)]
pub enum StartGate<'a> {
    /// The caller, by [`crate::Container::start`] on the same value; if it ends before, so does the container.
    Caller,
    /// Nobody: the program begins as soon as all is ready, while the caller gets ready too. [`crate::Container::start`] tells how
    /// it went; if the value is dropped before, the container is killed.
    Open,
    /// Whoever connects to this listening socket (`SOCK_SEQPACKET`): the caller may leave.
    Socket(BorrowedFd<'a>),
}

/// How the root is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSwitch {
    /// pivot_root(2): the old root is gone.
    Pivot,
    /// chroot(2), for hosts that run from their initial ramfs.
    Chroot,
}

/// The session keyring of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// A new one.
    New,
    /// The caller's.
    Inherited,
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The container's main process.
    Init,
    /// Every process in the container's cgroup.
    All,
}

/// One more process in a running container.
#[derive(Clone, Copy, Debug)]
pub struct ExecRequest<'a> {
    /// What is executed, and as whom.
    pub process: &'a Process,
    /// The standard streams; not used when the process has a terminal.
    pub stdio: Stdio<'a>,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
}

impl<'a> ExecRequest<'a> {
    /// The plain request: streams inherited, a new keyring.
    pub fn new(process: &'a Process) -> ExecRequest<'a> {
        ExecRequest { process, stdio: Stdio::inherit(), preserve_fds: 0, keyring: Keyring::New }
    }
}
