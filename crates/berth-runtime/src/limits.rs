//! How much a process may use and how it is scheduled: rlimits, scheduler, I/O priority, affinity, execution domain.

use berth_oci::runtime::{
    CpuAffinity, IoPriority, IoPriorityClass, Personality, PersonalityDomain, Process, Rlimit, Scheduler,
};
use berth_sys::scheduling::{self, IoClass, SchedulingPolicy};
use rustix::process::Resource;
use rustix::thread::CpuSet;

use crate::error::{RuntimeError, Step};

/// `RLIM_INFINITY`, which the library writes as `None`.
const UNLIMITED: u64 = u64::MAX;

/// The settings of a process, understood.
#[derive(Debug)]
pub(crate) struct Limits {
    rlimits: Vec<(Resource, rustix::process::Rlimit, String)>,
    policy: Option<SchedulingPolicy>,
    io: Option<(IoClass, u8)>,
    domain: Option<PersonalityDomain>,
}

impl Limits {
    /// Understands them.
    pub(crate) fn new(process: &Process, personality: Option<&Personality>) -> Result<Limits, RuntimeError> {
        let rlimits = process.rlimits.iter().map(rlimit).collect::<Result<Vec<_>, _>>()?;
        for (index, (resource, ..)) in rlimits.iter().enumerate() {
            if rlimits[..index].iter().any(|(earlier, ..)| earlier == resource) {
                let kind = &process.rlimits[index].kind;
                return Err(RuntimeError::invalid("process.rlimits", format!("{kind} is listed twice")));
            }
        }
        Ok(Limits {
            rlimits,
            policy: process.scheduler.as_ref().map(policy).transpose()?,
            io: process.io_priority.as_ref().map(io_priority).transpose()?,
            domain: personality.map(|personality| personality.domain),
        })
    }

    /// Sets them on the calling process, which still has all its rights.
    pub(crate) fn apply(&self) -> Result<(), RuntimeError> {
        for (resource, limit, kind) in &self.rlimits {
            rustix::process::setrlimit(*resource, *limit).step("setting rlimit", kind)?;
        }
        if let Some(policy) = &self.policy {
            scheduling::set_policy(policy).step("setting the scheduler", "")?;
        }
        if let Some((class, priority)) = self.io {
            scheduling::set_io_priority(class, priority).step("setting the I/O priority", "")?;
        }
        match self.domain {
            Some(domain) => {
                scheduling::set_linux32(domain == PersonalityDomain::Linux32).step("setting the personality", "")
            }
            None => Ok(()),
        }
    }
}

fn rlimit(limit: &Rlimit) -> Result<(Resource, rustix::process::Rlimit, String), RuntimeError> {
    let invalid = |reason: &str| RuntimeError::invalid("process.rlimits", format!("{}: {reason}", limit.kind));
    let resource = resource(&limit.kind).ok_or_else(|| invalid("no such limit"))?;
    if limit.soft > limit.hard {
        return Err(invalid("the soft limit is above the hard one"));
    }
    let bound = |value: u64| (value != UNLIMITED).then_some(value);
    let values = rustix::process::Rlimit { current: bound(limit.soft), maximum: bound(limit.hard) };
    Ok((resource, values, limit.kind.clone()))
}

fn resource(kind: &str) -> Option<Resource> {
    Some(match kind {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}

fn policy(scheduler: &Scheduler) -> Result<SchedulingPolicy, RuntimeError> {
    let invalid = |reason: String| RuntimeError::invalid("process.scheduler", reason);
    let number = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        unknown => return Err(invalid(format!("{unknown:?} is no policy of this kernel"))),
    };
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            unknown => return Err(invalid(format!("{unknown:?} is no flag"))),
        };
    }
    let priority = u32::try_from(scheduler.priority);
    Ok(SchedulingPolicy {
        policy: number,
        flags,
        nice: scheduler.nice,
        priority: priority.map_err(|_| invalid(format!("{} is no priority", scheduler.priority)))?,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
}

fn io_priority(wanted: &IoPriority) -> Result<(IoClass, u8), RuntimeError> {
    let class = match wanted.class {
        IoPriorityClass::RealTime => IoClass::RealTime,
        IoPriorityClass::BestEffort => IoClass::BestEffort,
        IoPriorityClass::Idle => IoClass::Idle,
    };
    match u8::try_from(wanted.priority) {
        Ok(priority @ 0..=7) => Ok((class, priority)),
        _ => Err(RuntimeError::invalid("process.ioPriority", format!("{} is not from 0 to 7", wanted.priority))),
    }
}

/// The CPUs of an exec, before and after it joins the cgroup.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    pub(crate) before: Option<CpuSet>,
    pub(crate) after: Option<CpuSet>,
}

impl Affinity {
    /// Understands the lists.
    pub(crate) fn new(affinity: Option<&CpuAffinity>) -> Result<Affinity, RuntimeError> {
        let Some(affinity) = affinity else { return Ok(Affinity::default()) };
        Ok(Affinity { before: cpu_list(&affinity.initial)?, after: cpu_list(&affinity.last)? })
    }
}

/// Binds the calling process to CPUs.
pub(crate) fn bind_to(cpus: Option<&CpuSet>) -> Result<(), RuntimeError> {
    cpus.map_or(Ok(()), |cpus| rustix::thread::sched_setaffinity(None, cpus).step("setting the CPU affinity", ""))
}

fn cpu_list(list: &str) -> Result<Option<CpuSet>, RuntimeError> {
    if list.is_empty() {
        return Ok(None);
    }
    let invalid = || RuntimeError::invalid("process.execCPUAffinity", format!("{list:?} is no list of CPUs"));
    let mut cpus = CpuSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
        let (first, last) = (number(first).ok_or_else(invalid)?, number(last).ok_or_else(invalid)?);
        if first > last {
            return Err(invalid());
        }
        (first..=last).for_each(|cpu| cpus.set(cpu));
    }
    Ok(Some(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        Limits::new(&serde_json::from_str(json).unwrap(), None).unwrap_err().to_string()
    }

    #[test]
    fn wrong_limits_are_refused_by_name() {
        assert!(refusal(r#"{"rlimits":[{"type":"RLIMIT_X","soft":1,"hard":1}]}"#).contains("RLIMIT_X: no such limit"));
        assert!(refusal(r#"{"rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}]}"#).contains("above the hard"));
        let twice =
            r#"{"rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":1},{"type":"RLIMIT_CORE","soft":1,"hard":1}]}"#;
        assert!(refusal(twice).contains("RLIMIT_CORE is listed twice"));
        assert!(refusal(r#"{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}"#).contains("0 to 7"));
        assert!(refusal(r#"{"scheduler":{"policy":"SCHED_ISO"}}"#).contains("SCHED_ISO"));
    }

    #[test]
    fn cpu_lists_are_ranges_and_numbers() {
        let cpus = cpu_list("0-2,7").unwrap().unwrap();
        assert_eq!((0..9).filter(|cpu| cpus.is_set(*cpu)).collect::<Vec<_>>(), [0, 1, 2, 7]);
        assert!(cpu_list("2-1").is_err() && cpu_list("x").is_err());
    }
}
