//! Memory and swap limits, in the order in which the kernel takes them.

use berth_oci::runtime::Memory;
use rustix::io::Errno;

use crate::{
    control_file,
    error::CgroupError,
    settings::{Settings, v2_limit},
};

const LIMIT_V1: &str = "memory.limit_in_bytes";
const SWAP_V1: &str = "memory.memsw.limit_in_bytes";

/// Writes the limits of the v1 `memory` controller.
pub(crate) fn apply_v1(settings: &mut Settings<'_>, memory: &Memory) -> Result<(), CgroupError> {
    refuse_below_usage(settings, memory, "memory.usage_in_bytes")?;
    set_memory_and_swap(settings, memory)?;
    let reservation = memory.reservation.filter(|bytes| *bytes != 0);
    settings.set_some("memory.reservation", "memory.soft_limit_in_bytes", reservation)?;
    if memory.kernel.is_some_and(|bytes| bytes != 0) {
        settings.warn("memory.kernel is left out: the kernel accounts its own memory within memory.limit");
    }
    let tcp = memory.kernel_tcp.filter(|bytes| *bytes != 0);
    settings.set_some("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", tcp)?;
    let oom_control = memory.disable_oom_killer.map(u8::from);
    settings.set_some("memory.disableOOMKiller", "memory.oom_control", oom_control)?;
    settings.set_some("memory.swappiness", "memory.swappiness", swappiness(memory)?)
}

/// Writes the limits of the v2 `memory` controller.
pub(crate) fn apply_v2(settings: &mut Settings<'_>, memory: &Memory) -> Result<(), CgroupError> {
    for (asked, name) in [
        (memory.kernel.is_some_and(|bytes| bytes != 0), "memory.kernel"),
        (memory.kernel_tcp.is_some_and(|bytes| bytes != 0), "memory.kernelTCP"),
        (swappiness(memory)?.is_some(), "memory.swappiness"),
        (memory.oom_killer_disabled(), "memory.disableOOMKiller"),
    ] {
        if asked {
            settings.warn(format!("{name} is left out: cgroup v2 does not have it"));
        }
    }
    refuse_below_usage(settings, memory, "memory.current")?;
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    match v2_swap_limit(limit, swap)? {
        // Without swap in the kernel there is nothing to unlock or to forbid.
        Some(value) if value == "0" || value == "max" => {
            if settings.has("memory.swap.max") {
                settings.set("memory.swap", "memory.swap.max", value)?;
            }
        }
        value => settings.set_some("memory.swap", "memory.swap.max", value)?,
    }
    settings.set_some("memory.limit", "memory.max", v2_limit(limit))?;
    settings.set_some("memory.reservation", "memory.low", v2_limit(memory.reservation.unwrap_or(0)))
}

/// Turns the sum of memory and swap, as v1 and the specification count it, into v2's limit of swap alone.
///
/// `None` leaves the file as it is; a sum equal to the memory limit forbids swap.
fn v2_swap_limit(limit: i64, swap: i64) -> Result<Option<String>, CgroupError> {
    let bytes = match (limit, swap) {
        (-1, 0) => -1,
        (_, -1 | 0) | (-1 | 0, _) => swap,
        (_, negative) if negative < 0 => {
            return Err(CgroupError::invalid("memory.swap", format!("{negative} is not a size")));
        }
        (limit, swap) if swap < limit => {
            return Err(CgroupError::invalid("memory.swap", format!("{swap} is less than memory.limit, {limit}")));
        }
        (limit, swap) if swap == limit => return Ok(Some("0".to_owned())),
        (limit, swap) => swap - limit,
    };
    Ok(v2_limit(bytes))
}

/// The kernel keeps `limit <= memory and swap` at each write, so growing starts with the sum and shrinking with the limit.
fn set_memory_and_swap(settings: &mut Settings<'_>, memory: &Memory) -> Result<(), CgroupError> {
    let limit = memory.limit.filter(|bytes| *bytes != 0);
    let swap = match memory.swap.filter(|bytes| *bytes != 0) {
        // Memory without a limit and swap with the old one could not both hold.
        None if limit == Some(-1) && settings.has(SWAP_V1) => Some(-1),
        swap => swap,
    };
    let swap_first = match (limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(sum)) => {
            control_file::read_number(settings.dir, LIMIT_V1).is_ok_and(|now| i64::try_from(now).is_ok_and(|n| n < sum))
        }
        _ => false,
    };
    if swap_first {
        settings.set_some("memory.swap", SWAP_V1, swap)?;
    }
    set_limit_v1(settings, limit)?;
    if swap_first { Ok(()) } else { settings.set_some("memory.swap", SWAP_V1, swap) }
}

fn set_limit_v1(settings: &mut Settings<'_>, limit: Option<i64>) -> Result<(), CgroupError> {
    match settings.set_some("memory.limit", LIMIT_V1, limit) {
        // The kernel could not reclaim enough: say how much is in use rather than "busy".
        Err(CgroupError::Write { source, .. }) if source.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            Err(CgroupError::BelowUsage {
                path: settings.dir.to_owned(),
                limit: limit.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
                usage: control_file::read_number_or_zero(settings.dir, "memory.usage_in_bytes")?,
            })
        }
        done => done,
    }
}

/// Only when asked (`checkBeforeUpdate`): v2 would take a limit below the usage, and kill to get there.
fn refuse_below_usage(settings: &Settings<'_>, memory: &Memory, file: &str) -> Result<(), CgroupError> {
    if memory.check_before_update != Some(true) {
        return Ok(());
    }
    let asked = [memory.limit, memory.swap].into_iter().flatten().filter_map(|n| u64::try_from(n).ok());
    let Some(lowest) = asked.filter(|bytes| *bytes > 0).min() else { return Ok(()) };
    let usage = control_file::read_number_or_zero(settings.dir, file)?;
    if usage > lowest {
        return Err(CgroupError::BelowUsage { path: settings.dir.to_owned(), limit: lowest, usage });
    }
    Ok(())
}

/// -1 (as an unsigned number) means unset, by custom.
fn swappiness(memory: &Memory) -> Result<Option<u64>, CgroupError> {
    match memory.swappiness {
        None | Some(u64::MAX) => Ok(None),
        Some(percent @ 0..=100) => Ok(Some(percent)),
        Some(other) => Err(CgroupError::invalid("memory.swappiness", format!("{other} is not between 0 and 100"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_memory_and_swap_becomes_swap_alone() {
        let swap = |limit, swap| v2_swap_limit(limit, swap).map_err(|e| e.to_string());
        assert_eq!(swap(0, 0), Ok(None));
        assert_eq!(swap(-1, 0), Ok(Some("max".to_owned())));
        assert_eq!(swap(1000, 0), Ok(None));
        assert_eq!(swap(1000, -1), Ok(Some("max".to_owned())));
        assert_eq!(swap(1000, 3000), Ok(Some("2000".to_owned())));
        assert_eq!(swap(1000, 1000), Ok(Some("0".to_owned())));
        assert_eq!(swap(0, 500), Ok(Some("500".to_owned())));
        assert_eq!(swap(-1, 500), Ok(Some("500".to_owned())));
        assert_eq!(swap(1000, 999), Err("memory.swap: 999 is less than memory.limit, 1000".to_owned()));
        assert_eq!(swap(1000, -5), Err("memory.swap: -5 is not a size".to_owned()));
    }

    #[test]
    fn swappiness_is_a_percentage() {
        let of = |swappiness| swappiness_of(swappiness).map_err(|e| e.to_string());
        assert_eq!(of(None), Ok(None));
        assert_eq!(of(Some(u64::MAX)), Ok(None));
        assert_eq!(of(Some(60)), Ok(Some(60)));
        assert_eq!(of(Some(101)), Err("memory.swappiness: 101 is not between 0 and 100".to_owned()));
    }

    fn swappiness_of(value: Option<u64>) -> Result<Option<u64>, CgroupError> {
        super::swappiness(&Memory { swappiness: value, ..Memory::default() })
    }
}
