//! Weights and rates of block devices.

use berth_oci::runtime::{BlockIo, ThrottleDevice};

use crate::{error::CgroupError, settings::Settings};

/// The rates of the specification: field, v1 file, v2 key.
const RATES: [Rate; 4] = [
    ("blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", |io| &io.throttle_read_bps_device),
    ("blockIO.throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", |io| &io.throttle_write_bps_device),
    ("blockIO.throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", |io| &io.throttle_read_iops_device),
    ("blockIO.throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", |io| {
        &io.throttle_write_iops_device
    }),
];

type Rate = (&'static str, &'static str, &'static str, fn(&BlockIo) -> &Vec<ThrottleDevice>);

/// Writes the limits of the v1 `blkio` controller. The weights belong to the I/O scheduler: BFQ's today, CFQ's on old kernels.
pub(crate) fn apply_v1(settings: &mut Settings<'_>, io: &BlockIo) -> Result<(), CgroupError> {
    let scheduler = if settings.has("blkio.weight") { "blkio" } else { "blkio.bfq" };
    let weight = io.weight.filter(|weight| *weight != 0);
    settings.set_some("blockIO.weight", &format!("{scheduler}.weight"), weight)?;
    settings.set_some("blockIO.leafWeight", "blkio.leaf_weight", io.leaf_weight.filter(|weight| *weight != 0))?;
    for device in &io.weight_device {
        let line = |weight: Option<u16>| {
            weight.filter(|weight| *weight != 0).map(|weight| format!("{}:{} {weight}", device.major, device.minor))
        };
        settings.set_some("blockIO.weightDevice", &format!("{scheduler}.weight_device"), line(device.weight))?;
        settings.set_some("blockIO.weightDevice", "blkio.leaf_weight_device", line(device.leaf_weight))?;
    }
    for (field, file, _, devices) in RATES {
        for device in devices(io) {
            settings.set(field, file, format!("{}:{} {}", device.major, device.minor, device.rate))?;
        }
    }
    Ok(())
}

/// Writes the limits of the v2 `io` controller.
pub(crate) fn apply_v2(settings: &mut Settings<'_>, io: &BlockIo) -> Result<(), CgroupError> {
    let bfq = settings.has("io.bfq.weight");
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        if bfq {
            settings.set("blockIO.weight", "io.bfq.weight", weight)?;
        } else {
            settings.set("blockIO.weight", "io.weight", weight_from_v1(weight))?;
        }
    }
    if io.leaf_weight.is_some_and(|weight| weight != 0) {
        settings.warn("blockIO.leafWeight is left out: cgroup v2 does not have it");
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            let file = if bfq { "io.bfq.weight" } else { "io.weight" };
            let weight = if bfq { u64::from(weight) } else { weight_from_v1(weight) };
            settings.set("blockIO.weightDevice", file, format!("{}:{} {weight}", device.major, device.minor))?;
        }
    }
    for (field, _, key, devices) in RATES {
        for device in devices(io) {
            // Zero lifts a limit on v1; v2 spells that out.
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            settings.set(field, "io.max", format!("{}:{} {key}={rate}", device.major, device.minor))?;
        }
    }
    Ok(())
}

/// Turns a v1 weight (10 to 1000) into v2's `io.weight` (1 to 10000), linearly as runc does.
fn weight_from_v1(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_ends() {
        assert_eq!(weight_from_v1(10), 1);
        assert_eq!(weight_from_v1(1000), 10_000);
        assert_eq!(weight_from_v1(500), 4950);
        assert_eq!(weight_from_v1(1), 1);
    }
}
