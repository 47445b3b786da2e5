//! How many tasks the container may have.

use berth_oci::runtime::Pids;

use crate::{error::CgroupError, settings::Settings};

/// Writes `pids.max`, which is the same file in both versions. Zero leaves it as it is, anything negative lifts it.
pub(crate) fn apply(settings: &mut Settings<'_>, pids: &Pids) -> Result<(), CgroupError> {
    match pids.limit {
        None | Some(0) => Ok(()),
        Some(limit @ 1..) => settings.set("pids.limit", "pids.max", limit),
        Some(_) => settings.set("pids.limit", "pids.max", "max"),
    }
}
