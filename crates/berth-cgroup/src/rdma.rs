//! Limits of RDMA devices.

use std::collections::BTreeMap;

use berth_oci::runtime::Rdma;

use crate::{error::CgroupError, settings::Settings};

/// Writes `rdma.max`, which is the same file in both versions, one device at a time.
pub(crate) fn apply(settings: &mut Settings<'_>, devices: &BTreeMap<String, Rdma>) -> Result<(), CgroupError> {
    for (device, limits) in devices {
        let mut line = device.clone();
        if let Some(handles) = limits.hca_handles {
            line += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            line += &format!(" hca_object={objects}");
        }
        settings.set("rdma", "rdma.max", line)?;
    }
    Ok(())
}
