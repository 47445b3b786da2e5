//! `/etc/hosts` of a container that runs and is connected to a network, or taken off one.

use std::net::IpAddr;

use berth_net::files;

use super::etc::full_name;
use crate::{EngineError, view::ContainerView};

/// Adds lines for addresses that the container got.
pub(crate) fn add_hosts(view: &ContainerView, addresses: impl Iterator<Item = IpAddr>) -> Result<(), EngineError> {
    change(view, |text| files::with_own(&text, &addresses.collect::<Vec<_>>(), &full_name(view)))
}

/// Takes the lines of addresses away that the container no longer has.
pub(crate) fn remove_hosts(view: &ContainerView, addresses: impl Iterator<Item = IpAddr>) -> Result<(), EngineError> {
    change(view, |text| files::without_own(&text, &addresses.collect::<Vec<_>>(), &full_name(view)))
}

/// Changes the file in place, for the container sees this very file: what was written into it stays.
fn change(view: &ContainerView, change: impl FnOnce(String) -> String) -> Result<(), EngineError> {
    let path = &view.paths.hosts;
    let text = std::fs::read_to_string(path).map_err(EngineError::io("reading", path))?;
    std::fs::write(path, change(text)).map_err(EngineError::io("writing", path))
}
