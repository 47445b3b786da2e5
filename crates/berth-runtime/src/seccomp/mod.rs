//! Seccomp profiles become filter programs.
//!
//! A profile of the runtime specification names some four hundred system calls; the kernel walks the filter for every number that exists
//! when it is installed, and again at run time for each call that is not always allowed. So the calls become ranges of numbers with the
//! same outcome, and the ranges a balanced tree of comparisons: an order of magnitude fewer steps than one comparison for each call.
//!
//! ```text
//! profile --rules--> for each ABI: number -> outcome --tree--> decision graph --assembler--> program --cache--> disk
//! ```
//!
//! Where rules meet, the outcome is what runc with libseccomp makes of the profile: see [`rules`]. Not here: installing a program (that is
//! `berth_sys::seccomp`) and sending the listener its descriptor.

mod abi;
mod assembler;
mod cache;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod graph;
#[cfg(any(test, feature = "fuzz"))]
mod interpreter;
#[cfg(test)]
mod proof;
#[cfg(any(test, feature = "fuzz"))]
mod reading;
mod rules;
mod tree;

use berth_model::ErrorKind;
use berth_oci::runtime::{LinuxSeccomp, SeccompAction};
use berth_sys::seccomp::{FilterFlags, MAX_INSTRUCTIONS, SockFilter, knows_flag};

pub use abi::Machine;
pub use cache::compile_cached;

use graph::{Graph, NodeId};
use rules::Policy;

/// A compiled filter, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The instructions.
    pub program: Vec<SockFilter>,
    /// How to install them. `NEW_LISTENER` is among these if a rule notifies.
    pub flags: FilterFlags,
    /// System calls that the profile names and nobody knows; empty when the filter came from the cache.
    pub unknown_names: Vec<String>,
}

impl Filter {
    /// Whether installing it gives a descriptor that must be sent to the profile's listener.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.flags.contains(FilterFlags::NEW_LISTENER)
    }
}

/// A profile that makes no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// The machine itself is none that filters are made for.
    #[error("seccomp filters are not made for this machine")]
    Machine,
    /// The text is not that of a profile.
    #[error("seccomp: {0}")]
    Unreadable(String),
    /// An architecture is none.
    #[error("seccomp: unknown architecture {0:?}")]
    Architecture(String),
    /// A flag is none.
    #[error("seccomp: unknown flag {0:?}")]
    Flag(String),
    /// A flag that this kernel does not have.
    #[error("seccomp: this kernel does not know the flag {0:?}")]
    FlagNotSupported(String),
    /// An errno was given to an action without one.
    #[error("seccomp: action {0:?} takes no errnoRet")]
    Errno(SeccompAction),
    /// An argument index is beyond the sixth.
    #[error("seccomp: system call {name:?} has no argument {index}")]
    Argument {
        /// The first name in the rule.
        name: String,
        /// The index, from zero.
        index: u32,
    },
    /// An action where it cannot be.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used as the default action")]
    NotifyByDefault,
    /// The listener could not answer: it is told by a write.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used for the system call \"write\"")]
    NotifyWrite,
    /// Nobody would answer.
    #[error("seccomp: SCMP_ACT_NOTIFY needs a listenerPath")]
    NoListener,
    /// The program would be longer than the kernel takes.
    #[error("seccomp: the filter has {0} instructions, more than the kernel takes (4096)")]
    TooLong(usize),
}

impl SeccompError {
    /// The kind, for whoever turns it into a status.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Machine | Self::FlagNotSupported(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        }
    }
}

/// Compiles a profile for this machine. See [`compile_cached`] for what a container's start should call.
///
/// # Errors
/// [`SeccompError`]. Names that no ABI knows are skipped and reported in the result.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    compile_for(profile, Machine::native().ok_or(SeccompError::Machine)?)
}

/// Compiles a profile for a machine of the given kind.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(profile: &LinuxSeccomp, machine: Machine) -> Result<Filter, SeccompError> {
    let (policies, unknown_names) = rules::resolve(profile, machine)?;
    let mut graph = Graph::default();
    let start = entry(&mut graph, &policies);
    let program = assembler::assemble(&graph, start);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong(program.len()));
    }
    Ok(Filter { program, flags: flags(profile)?, unknown_names })
}

/// The start of the program: which ABI is it? One that is not named kills the thread, as with libseccomp.
fn entry(graph: &mut Graph, policies: &[Policy]) -> NodeId {
    let mut next = graph.answer(rules::KILL_THREAD);
    for (audit, shared) in abi::by_audit_number(policies).into_iter().rev() {
        let tree = tree::build(graph, &shared);
        let tree = graph.load(graph::NUMBER, tree);
        next = graph.equal(audit, tree, next);
    }
    graph.load(graph::ARCHITECTURE, next)
}

/// The flags of the profile; none named means what runc has always done: no mitigation that slows the container down.
fn flags(profile: &LinuxSeccomp) -> Result<FilterFlags, SeccompError> {
    let mut flags = FilterFlags::NONE;
    for name in &profile.flags {
        let flag = match name.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => FilterFlags::LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FilterFlags::SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => FilterFlags::WAIT_KILLABLE_RECV,
            // The filter is installed while there is one thread.
            "SECCOMP_FILTER_FLAG_TSYNC" => continue,
            _ => return Err(SeccompError::Flag(name.clone())),
        };
        if !knows_flag(flag) {
            return Err(SeccompError::FlagNotSupported(name.clone()));
        }
        flags = flags | flag;
    }
    if profile.flags.is_empty() && knows_flag(FilterFlags::SPEC_ALLOW) {
        flags = flags | FilterFlags::SPEC_ALLOW;
    }
    if profile.syscalls.iter().any(|rule| rule.action == SeccompAction::Notify) {
        flags = flags | FilterFlags::NEW_LISTENER;
    } else if flags.contains(FilterFlags::WAIT_KILLABLE_RECV) {
        // The kernel knows it only together with a listener; without one it changes nothing.
        flags = flags.without(FilterFlags::WAIT_KILLABLE_RECV);
    }
    Ok(flags)
}
