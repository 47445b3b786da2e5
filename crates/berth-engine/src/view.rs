//! What readers see of a container: an immutable snapshot, replaced whole at every change.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use berth_model::{ContainerId, ContainerName, ExecId, Timestamp, lifecycle::State};
use serde::{Deserialize, Serialize};

use crate::{
    health::HealthView,
    network::NetworkAttachment,
    spec::{ContainerSpec, Propagation},
};

/// A container, as it is at one moment.
#[derive(Clone, Debug)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// When it was made.
    pub created: Timestamp,
    /// What it was asked to be.
    pub spec: Arc<ContainerSpec>,
    /// Where it is in its life.
    pub state: State,
    /// How often its policy has started it again.
    pub restart_count: u32,
    /// Somebody stopped it, so that `unless-stopped` and its like do not start it again.
    pub stopped_by_hand: bool,
    /// How often it has ended; `next-exit` waits for the next.
    pub exits: u64,
    /// Its networks, in the order of its interfaces.
    pub networks: Vec<NetworkAttachment>,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
    /// Execs that were not yet forgotten.
    pub execs: Vec<ExecId>,
    /// Its health, where it has a check.
    pub health: Option<HealthView>,
    /// Files on the host.
    pub paths: ContainerPaths,
    /// It is being removed, and its anonymous volumes with it.
    pub remove_volumes: bool,
    /// It is gone; this is the last snapshot.
    pub removed: bool,
    /// The exit code it had when it was removed.
    pub final_code: i32,
}

/// Files of a container on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPaths {
    /// What lasts: the log.
    pub directory: PathBuf,
    /// What is written at each start: the OCI bundle and the files below.
    pub bundle: PathBuf,
    /// The log file, where its driver has one.
    pub log: Option<PathBuf>,
    /// /etc/hostname.
    pub hostname: PathBuf,
    /// /etc/hosts.
    pub hosts: PathBuf,
    /// /etc/resolv.conf.
    pub resolv_conf: PathBuf,
}

/// A mount of a container, as inspect shows it (B107).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// What kind.
    pub kind: MountPointKind,
    /// The volume's name, or the image's as it was typed.
    #[serde(default)]
    pub name: Option<String>,
    /// Path on the host; of an image its id.
    pub source: String,
    /// The part of an image that is shown; empty is all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Path inside.
    pub destination: String,
    /// The volume's driver.
    #[serde(default)]
    pub driver: String,
    /// The mode text of a `-v` specification.
    #[serde(default)]
    pub mode: String,
    /// Writable.
    pub writable: bool,
    /// Propagation of a bind mount.
    #[serde(default)]
    pub propagation: Option<Propagation>,
    /// Made for this container alone, and removed with it by `rm -v` and `--rm`.
    #[serde(default)]
    pub anonymous: bool,
}

/// Kinds of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountPointKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// The content of an image.
    Image,
}

impl MountPointKind {
    /// The word of the Engine API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            MountPointKind::Bind => "bind",
            MountPointKind::Volume => "volume",
            MountPointKind::Tmpfs => "tmpfs",
            MountPointKind::Image => "image",
        }
    }
}

impl ContainerView {
    /// Attributes that every event of this container carries: image, name and labels.
    #[must_use]
    pub fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.spec.config.labels.clone();
        attributes.insert("image".to_owned(), self.spec.image.clone());
        attributes.insert("name".to_owned(), self.name.to_string());
        attributes
    }

    /// Whether it has a terminal.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.spec.config.tty
    }
}

impl ContainerView {
    /// The exit code of the last run; that of the run before while it runs, 0 if there was none.
    pub(crate) fn last_exit_code(&self, state: &State) -> i32 {
        state.last_run().map_or(self.final_code, |run| run.code)
    }
}
