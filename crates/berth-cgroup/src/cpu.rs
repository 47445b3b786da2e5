//! CPU time: weight, quota, burst, real time, idle class.

use berth_oci::runtime::Cpu;

use crate::{
    control_file,
    error::CgroupError,
    settings::{Settings, refused},
};

/// What the kernel assumes for a v2 quota without a period, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Writes the limits of the v1 `cpu` controller.
pub(crate) fn apply_v1(settings: &mut Settings<'_>, cpu: &Cpu) -> Result<(), CgroupError> {
    // Real time goes first: without a runtime of its own a group takes no real-time process.
    write_pair(
        settings,
        ("cpu.realtimePeriod", "cpu.rt_period_us", cpu.realtime_period.filter(|us| *us != 0)),
        ("cpu.realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime.filter(|us| *us != 0)),
    )?;
    set_shares(settings, cpu)?;
    let burst = write_early(settings, "cpu.burst", "cpu.cfs_burst_us", cpu.burst, has_quota(cpu))?;
    write_pair(
        settings,
        ("cpu.period", "cpu.cfs_period_us", cpu.period.filter(|us| *us != 0)),
        ("cpu.quota", "cpu.cfs_quota_us", cpu.quota.filter(|us| *us != 0)),
    )?;
    settings.set_some("cpu.burst", "cpu.cfs_burst_us", burst)?;
    settings.set_some("cpu.idle", "cpu.idle", cpu.idle)
}

/// Writes the limits of the v2 `cpu` controller.
pub(crate) fn apply_v2(settings: &mut Settings<'_>, cpu: &Cpu) -> Result<(), CgroupError> {
    if cpu.realtime_period.is_some() || cpu.realtime_runtime.is_some() {
        settings.warn("cpu.realtimePeriod and cpu.realtimeRuntime are left out: cgroup v2 has no real-time limits");
    }
    settings.set_some("cpu.idle", "cpu.idle", cpu.idle)?;
    // The kernel refuses a weight in the idle class.
    let weight = cpu.shares.and_then(weight_from_shares).filter(|_| cpu.idle != Some(1));
    settings.set_some("cpu.shares", "cpu.weight", weight)?;
    let burst = write_early(settings, "cpu.burst", "cpu.max.burst", cpu.burst, has_quota(cpu))?;
    settings.set_some("cpu.quota", "cpu.max", v2_max(cpu))?;
    settings.set_some("cpu.burst", "cpu.max.burst", burst)
}

/// Turns v1 shares (2 to 262144) into a v2 weight (1 to 10000); `None` for 0, which means unset.
///
/// The quadratic fit in the logarithm maps minimum, default (1024 to 100) and maximum onto each other, as runc and crun do.
pub(crate) fn weight_from_shares(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18 here")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

fn v2_max(cpu: &Cpu) -> Option<String> {
    let quota = cpu.quota.filter(|us| *us != 0);
    let period = cpu.period.filter(|us| *us != 0);
    if quota.is_none() && period.is_none() {
        return None;
    }
    let quota = quota.filter(|us| *us > 0).map_or_else(|| "max".to_owned(), |us| us.to_string());
    Some(format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD)))
}

fn has_quota(cpu: &Cpu) -> bool {
    cpu.quota.is_some_and(|us| us != 0)
}

/// Writes a period and its share. The kernel checks each write against the other file's present value, so a shorter period may have to
/// wait until the share is smaller.
fn write_pair(
    settings: &mut Settings<'_>,
    (period_setting, period_file, period): (&str, &str, Option<u64>),
    (share_setting, share_file, share): (&str, &str, Option<i64>),
) -> Result<(), CgroupError> {
    let period = write_early(settings, period_setting, period_file, period, share.is_some())?;
    settings.set_some(share_setting, share_file, share)?;
    settings.set_some(period_setting, period_file, period)
}

/// Writes a value now if the kernel takes it; gives it back if it should be tried again after the other half of its pair was written.
fn write_early(
    settings: &mut Settings<'_>,
    setting: &str,
    file: &str,
    value: Option<u64>,
    other_half_follows: bool,
) -> Result<Option<u64>, CgroupError> {
    let done = settings.set_some(setting, file, value);
    if other_half_follows && refused(&done) {
        return Ok(value);
    }
    done.map(|()| None)
}

fn set_shares(settings: &mut Settings<'_>, cpu: &Cpu) -> Result<(), CgroupError> {
    let Some(asked) = cpu.shares.filter(|shares| *shares != 0) else { return Ok(()) };
    settings.set("cpu.shares", "cpu.shares", asked)?;
    // The kernel clamps silently; whoever asked for more than there is should hear of it.
    match control_file::read_number_or_zero(settings.dir, "cpu.shares")? {
        0 => Ok(()),
        taken if taken < asked => {
            Err(CgroupError::invalid("cpu.shares", format!("{asked} is more than the maximum {taken}")))
        }
        taken if taken > asked => {
            Err(CgroupError::invalid("cpu.shares", format!("{asked} is less than the minimum {taken}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_as_runc_converts_them() {
        let table = [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (1024, Some(100)),
            (262_144, Some(10_000)),
            (300_000, Some(10_000)),
        ];
        for (shares, weight) in table {
            assert_eq!(weight_from_shares(shares), weight, "{shares}");
        }
        let mut last = 0;
        for shares in 2..=262_144 {
            let weight = weight_from_shares(shares).unwrap();
            assert!((1..=10_000).contains(&weight) && weight >= last, "{shares}");
            last = weight;
        }
    }

    #[test]
    fn a_quota_and_its_period_are_one_line_on_v2() {
        let line = |quota, period| v2_max(&Cpu { quota, period, ..Cpu::default() });
        assert_eq!(line(None, None), None);
        assert_eq!(line(Some(0), Some(0)), None);
        assert_eq!(line(Some(50_000), None).as_deref(), Some("50000 100000"));
        assert_eq!(line(Some(-1), None).as_deref(), Some("max 100000"));
        assert_eq!(line(None, Some(20_000)).as_deref(), Some("max 20000"));
        assert_eq!(line(Some(10_000), Some(20_000)).as_deref(), Some("10000 20000"));
    }
}
