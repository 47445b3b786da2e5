//! Marks on the container's packets: the v1 controllers `net_cls` and `net_prio`.

use berth_oci::runtime::NetworkResources;

use crate::{error::CgroupError, settings::Settings};

/// Writes the class of `net_cls`.
pub(crate) fn apply_class(settings: &mut Settings<'_>, network: &NetworkResources) -> Result<(), CgroupError> {
    settings.set_some("network.classID", "net_cls.classid", network.class_id)
}

/// Writes the priorities of `net_prio`, one interface at a time.
pub(crate) fn apply_priorities(settings: &mut Settings<'_>, network: &NetworkResources) -> Result<(), CgroupError> {
    for interface in &network.priorities {
        let line = format!("{} {}", interface.name, interface.priority);
        settings.set("network.priorities", "net_prio.ifpriomap", line)?;
    }
    Ok(())
}
