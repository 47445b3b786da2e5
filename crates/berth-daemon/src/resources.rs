//! The resources of the API: one file each, with its endpoints and what runs for them.
//!
//! A handler parses, calls the engine, and shows the result; rules about documents are in `translate`.

mod attestations;
mod commit;
mod container_attach;
mod container_create;
mod container_files;
mod container_list;
mod container_logs;
mod container_stats;
mod containers;
mod disk_usage;
mod events;
mod execs;
mod firewall;
mod image_check;
mod image_mounts;
mod image_transfer;
pub(crate) mod images;
mod network_tap;
mod networks;
mod not_yet;
mod registry;
mod remote_manifests;
mod search;
mod system;
mod volumes;

use crate::http::router::Endpoint;

/// Every endpoint of the API.
pub static ENDPOINTS: &[&[Endpoint]] = &[
    system::ENDPOINTS,
    events::ENDPOINTS,
    disk_usage::ENDPOINTS,
    container_list::ENDPOINTS,
    container_create::ENDPOINTS,
    containers::ENDPOINTS,
    container_attach::ENDPOINTS,
    container_logs::ENDPOINTS,
    container_stats::ENDPOINTS,
    container_files::ENDPOINTS,
    commit::ENDPOINTS,
    execs::ENDPOINTS,
    images::ENDPOINTS,
    image_check::ENDPOINTS,
    image_mounts::ENDPOINTS,
    attestations::ENDPOINTS,
    search::ENDPOINTS,
    image_transfer::ENDPOINTS,
    registry::ENDPOINTS,
    remote_manifests::ENDPOINTS,
    volumes::ENDPOINTS,
    networks::ENDPOINTS,
    firewall::ENDPOINTS,
    network_tap::ENDPOINTS,
    not_yet::ENDPOINTS,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_endpoints_are_the_same() {
        let mut seen = BTreeSet::new();
        for endpoint in ENDPOINTS.iter().copied().flatten() {
            assert!(seen.insert((endpoint.method, endpoint.path)), "{} {}", endpoint.method, endpoint.path);
        }
        assert!(seen.len() > 80, "{} endpoints", seen.len());
    }
}
