//! Container create: from the document to the engine's request.

use berth_api::container_config::{ContainerConfig, CreateRequest};
use berth_engine::spec::CreateContainer;
use berth_model::{ContainerName, Platform};

use crate::host_facts::HostFacts;
use crate::http::error::ApiError;
use crate::http::version::ApiVersion;
use crate::translate::{endpoints, host, process};

/// What the path and query of a create request say.
pub struct Named<'a> {
    /// Wanted name; empty lets the engine choose.
    pub name: &'a str,
    /// Wanted platform; empty is the host's.
    pub platform: &'a str,
    /// The version that the client speaks.
    pub version: ApiVersion,
}

/// A checked request and the warnings that its answer carries.
#[derive(Debug)]
pub struct Checked {
    /// The request.
    pub request: CreateContainer,
    /// What will not have the wanted effect.
    pub warnings: Vec<String>,
}

/// Checks every field of a create request and translates it.
pub fn from_wire(wire: CreateRequest, named: &Named<'_>, facts: &HostFacts) -> Result<Checked, ApiError> {
    if wire.config == ContainerConfig::default() {
        return Err(ApiError::invalid("config cannot be empty in order to create a container"));
    }
    let name = name(named.name)?;
    let platform = platform(named.platform)?;
    let mut warnings = Vec::new();
    let mut host_config = wire.host_config.unwrap_or_default();
    if named.version.before(41) && host_config.cgroupns_mode.is_empty() {
        // Clients from before cgroup namespaces expect to see the host's.
        "host".clone_into(&mut host_config.cgroupns_mode);
    }
    let host = host::from_wire(&wire.config, &host_config, facts, &mut warnings)?;
    let wanted = wire.networking_config.and_then(|config| config.endpoints_config).unwrap_or_default();
    if named.version.before(44) && wanted.len() > 1 {
        let names: Vec<_> = wanted.iter().map(|(network, _)| network.as_str()).collect();
        let message = format!("container cannot be connected to network endpoints: {}", names.join(", "));
        return Err(ApiError::invalid(message));
    }
    let endpoints = endpoints::from_wire(&wanted)?;
    let image = wire.config.image.clone();
    let mut config = process::from_wire(wire.config)?;
    if !named.version.before(44) {
        // The container's own hardware address moved into its endpoints with 1.44; a newer client's is not meant for us.
        config.mac_address.clear();
    }
    let request = CreateContainer { name, image, platform, config, host, endpoints };
    Ok(Checked { request, warnings })
}

fn name(text: &str) -> Result<Option<ContainerName>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: berth_model::InvalidName| ApiError::invalid(error.to_string()))
}

fn platform(text: &str) -> Result<Option<Platform>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: berth_model::InvalidPlatform| ApiError::invalid(error.to_string()))
}
