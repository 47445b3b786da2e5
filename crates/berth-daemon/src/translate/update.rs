//! Container update.

use berth_api::container::UpdateRequest;
use berth_engine::UpdateContainer;

use crate::host_facts::HostFacts;
use crate::http::error::ApiError;
use crate::translate::{resources, restart};

/// Checks and understands new limits and a new restart policy; what is not given stays.
pub fn from_wire(
    wire: &UpdateRequest,
    host: &HostFacts,
    warnings: &mut Vec<String>,
) -> Result<UpdateContainer, ApiError> {
    let mut limits = wire.resources.clone();
    if limits.memory == 0 && limits.memory_swap > 0 {
        // Only a new limit of both is checked here; the engine knows the memory limit that the container has.
        limits.memory_swap = 0;
    }
    let mut resources = resources::from_wire(&limits, host, warnings)?;
    resources.memory_swap = wire.resources.memory_swap;
    let restart = match wire.restart_policy.name.as_str() {
        "" => None,
        _ => Some(restart::from_wire(&wire.restart_policy)?),
    };
    Ok(UpdateContainer { resources, restart })
}
