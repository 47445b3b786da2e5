//! A container's record: two documents of one row, the fixed part and the part that changes (docs/formats.md).

use berth_model::{ContainerId, Timestamp, lifecycle::State};
use berth_store::{ContainerRow, StoreError};
use serde::{Deserialize, Serialize};

use crate::{
    network::NetworkAttachment,
    spec::ContainerSpec,
    view::{ContainerView, MountPoint},
};

/// The format these documents have; a newer engine reads older ones.
const VERSION: u32 = 1;

/// What does not change while the container is used.
#[derive(Serialize, Deserialize)]
struct Fixed<S> {
    version: u32,
    created: Timestamp,
    spec: S,
    mounts: Vec<MountPoint>,
}

/// What changes at every step of its life.
#[derive(Serialize, Deserialize)]
struct Changing {
    lifecycle: State,
    #[serde(default)]
    restart_count: u32,
    #[serde(default)]
    stopped_by_hand: bool,
    #[serde(default)]
    exits: u64,
    #[serde(default)]
    networks: Vec<NetworkAttachment>,
    /// While it is being removed: whether its anonymous volumes go too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    remove_volumes: bool,
}

/// A container as its record tells it.
pub(crate) struct Recorded {
    pub id: ContainerId,
    pub name: berth_model::ContainerName,
    pub created: Timestamp,
    pub spec: ContainerSpec,
    pub mounts: Vec<MountPoint>,
    pub state: State,
    pub restart_count: u32,
    pub stopped_by_hand: bool,
    pub exits: u64,
    pub networks: Vec<NetworkAttachment>,
    pub remove_volumes: bool,
}

/// The row that says what a view shows.
pub(crate) fn to_row(view: &ContainerView) -> ContainerRow {
    let fixed = Fixed { version: VERSION, created: view.created, spec: &*view.spec, mounts: view.mounts.clone() };
    ContainerRow {
        id: view.id.to_string(),
        name: view.name.to_string(),
        spec: to_json(&fixed),
        state: state_document(view),
    }
}

/// The changing part alone.
pub(crate) fn state_document(view: &ContainerView) -> String {
    to_json(&Changing {
        lifecycle: view.state.clone(),
        restart_count: view.restart_count,
        stopped_by_hand: view.stopped_by_hand,
        exits: view.exits,
        networks: view.networks.clone(),
        remove_volumes: view.remove_volumes,
    })
}

/// Reads a row back.
pub(crate) fn from_row(row: &ContainerRow) -> Result<Recorded, StoreError> {
    let unreadable =
        |reason: String| StoreError::Record { what: format!("of container {} ({})", row.name, row.id), reason };
    let fixed: Fixed<ContainerSpec> = serde_json::from_str(&row.spec).map_err(|e| unreadable(e.to_string()))?;
    if fixed.version > VERSION {
        return Err(unreadable(format!("it has version {}, this engine knows up to {VERSION}", fixed.version)));
    }
    let changing: Changing = serde_json::from_str(&row.state).map_err(|e| unreadable(e.to_string()))?;
    Ok(Recorded {
        id: row.id.parse().map_err(|e: berth_model::InvalidId| unreadable(e.to_string()))?,
        name: row.name.parse().map_err(|e: berth_model::InvalidName| unreadable(e.to_string()))?,
        created: fixed.created,
        spec: fixed.spec,
        mounts: fixed.mounts,
        state: changing.lifecycle,
        restart_count: changing.restart_count,
        stopped_by_hand: changing.stopped_by_hand,
        exits: changing.exits,
        networks: changing.networks,
        remove_volumes: changing.remove_volumes,
    })
}

fn to_json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("records hold nothing that JSON cannot")
}
