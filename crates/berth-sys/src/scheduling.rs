//! How the kernel treats a process: CPU and I/O scheduling, execution domain.

use std::io;

/// A scheduling policy and its parameters, see sched(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulingPolicy {
    /// The policy's number: `SCHED_OTHER` 0, `SCHED_FIFO` 1, `SCHED_RR` 2, `SCHED_BATCH` 3, `SCHED_IDLE` 5, `SCHED_DEADLINE` 6.
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// Nice value of the time-sharing policies.
    pub nice: i32,
    /// Static priority of the real-time policies.
    pub priority: u32,
    /// Nanoseconds, `SCHED_DEADLINE` only.
    pub runtime: u64,
    /// Nanoseconds, `SCHED_DEADLINE` only.
    pub deadline: u64,
    /// Nanoseconds, `SCHED_DEADLINE` only.
    pub period: u64,
}

/// The layout of the kernel's `struct sched_attr`, version 0.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Puts the calling thread under a scheduling policy. See sched_setattr(2).
///
/// # Errors
/// `EPERM` beyond the limits, `EINVAL` for values that do not fit the policy, `EBUSY` when deadlines cannot be kept.
pub fn set_policy(wanted: &SchedulingPolicy) -> io::Result<()> {
    let attributes = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which is that long.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) })
}

/// Classes of I/O priority, see ioprio_set(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    /// Always first.
    RealTime = 1,
    /// The ordinary one.
    BestEffort = 2,
    /// When nobody else asks.
    Idle = 3,
}

/// Sets the I/O priority (0, the highest, to 7) of the calling thread. See ioprio_set(2).
///
/// # Errors
/// `EPERM` for the real-time class without the right, `EINVAL` for a priority out of range.
pub fn set_io_priority(class: IoClass, priority: u8) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const CLASS_SHIFT: i32 = 13;
    let value = (class as i32) << CLASS_SHIFT | i32::from(priority);
    // SAFETY: takes three integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

/// Lets `uname` speak of the machine's own architecture or of its 32-bit relative. See personality(2).
///
/// # Errors
/// Those of personality(2).
pub fn set_linux32(on: bool) -> io::Result<()> {
    const PER_LINUX: libc::c_ulong = 0;
    const PER_LINUX32: libc::c_ulong = 8;
    let domain = if on { PER_LINUX32 } else { PER_LINUX };
    // SAFETY: takes one integer.
    check(i64::from(unsafe { libc::personality(domain) }))
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
