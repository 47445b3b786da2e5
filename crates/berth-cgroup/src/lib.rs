//! Control groups v1 and v2: limits, freezer, devices, usage, OOM events.
//!
//! A [`Cgroup`] is one container's directory, in one hierarchy (v2) or in each of several (v1); which of the two this machine has is
//! found once, by [`Layout::probe`], and passed down. A value holds paths only, never descriptors, so an idle owner pays nothing for it.
//!
//! The life of a cgroup: [`Cgroup::create`], or [`PartialCgroup`] where a process can wait for it, [`Cgroup::apply`], [`Cgroup::join`] for
//! each process that enters it, then [`update`](Cgroup::update), [`freeze`](Cgroup::freeze), [`usage`](Cgroup::usage),
//! [`oom_watch`](Cgroup::oom_watch) at will, and [`kill`](Cgroup::kill) and [`remove`](Cgroup::remove) at the end.
//!
//! Deliberately absent: the systemd driver (paths written `slice:prefix:name` are refused), and any default for where containers go.
//! Settings that the kernel does not know come back as [`Warning`]s; settings that it refuses are errors.
#![forbid(unsafe_code)]

mod block_io;
mod cgroup;
mod control_file;
mod cpu;
mod cpuset;
mod device_program;
mod devices;
mod error;
mod freezer;
mod hugepages;
mod join;
mod kill;
mod layout;
mod memory;
mod network;
mod oom;
mod partial;
mod path;
mod pids;
mod rdma;
mod remove;
mod settings;
mod unified;
mod usage;
mod usage_v1;
mod usage_v2;

pub use cgroup::Cgroup;
pub use devices::{Access, DeviceKind, DeviceRules, default_rules};
pub use error::{CgroupError, Warning};
pub use join::{Join, JoinFile};
pub use layout::{Hierarchy, Layout, Version};
pub use oom::OomWatch;
pub use partial::PartialCgroup;
pub use path::{CgroupPath, InvalidCgroupPath};
pub use usage::{BlockIoEntry, BlockIoUsage, CpuThrottling, CpuUsage, MemoryUsage, PidsUsage, Usage};
