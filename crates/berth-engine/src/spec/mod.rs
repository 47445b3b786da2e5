//! What a container was asked to be: the checked request, with the image's defaults merged in.
//!
//! These are the engine's own words and its record on disk (docs/formats.md), not a wire format: the daemon translates. Values that the
//! engine acts on are typed; `Option` means "not given" wherever an answer must tell that from an empty value.

mod health;
mod host;
mod mounts;
mod network;
mod ports;

use std::collections::{BTreeMap, BTreeSet};

use berth_model::{ContainerName, Digest, Platform, Signal};
use serde::{Deserialize, Serialize};

pub use health::{HealthTest, Healthcheck};
pub use host::{
    BlockDeviceRate, BlockDeviceWeight, CgroupMode, DeviceMapping, Devices, HostSettings, Isolation, LogConfig,
    NamespaceMode, NetworkShape, Resources, RestartPolicy, SeccompChoice, Ulimit,
};
pub use mounts::{BindOptions, MountKind, MountRequest, Propagation, TmpfsOptions, VolumeOptions};
pub use network::{EndpointRequest, InvalidPort, NetworkMode, PortBinding, PortProto, Protocol};
pub use ports::{PortBindings, PublishedRange};

/// A request for a new container, as the edge understood it.
#[derive(Clone, Debug)]
pub struct CreateContainer {
    /// A wanted name; the engine makes one up otherwise.
    pub name: Option<ContainerName>,
    /// The image as the user typed it.
    pub image: String,
    /// The platform asked for.
    pub platform: Option<Platform>,
    /// What runs, before the image's defaults are merged in.
    pub config: ProcessConfig,
    /// How the host confines it.
    pub host: HostSettings,
    /// What it wants of networks, by name, in the order of its interfaces: the one of [`HostSettings::network`] and others.
    pub endpoints: Vec<(String, EndpointRequest)>,
}

/// A container's record: what it is, from its creation on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image as the user typed it.
    pub image: String,
    /// The image it was made from.
    pub image_id: Digest,
    /// The platform of that image.
    pub platform: Platform,
    /// What runs, with the image's defaults merged in.
    pub config: ProcessConfig,
    /// How the host confines it.
    pub host: HostSettings,
}

/// What runs, and how it wants to be talked to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    /// Host name; the id's first 12 digits when empty.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`, by name or number; empty is root.
    pub user: String,
    /// Whether the client that made it wanted stdin; only shown.
    pub attach_stdin: bool,
    /// Whether the client that made it wanted stdout; only shown.
    pub attach_stdout: bool,
    /// Whether the client that made it wanted stderr; only shown.
    pub attach_stderr: bool,
    /// Ports the image serves.
    pub exposed_ports: BTreeSet<PortProto>,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Keep stdin open without a client.
    pub open_stdin: bool,
    /// Close stdin when the first client leaves.
    pub stdin_once: bool,
    /// `KEY=value`; `KEY` alone takes an inherited one away.
    pub env: Vec<String>,
    /// Arguments, or the program and its arguments.
    pub cmd: Option<Vec<String>>,
    /// The program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Anonymous volumes, by path.
    pub volumes: BTreeSet<String>,
    /// Working directory; made when missing.
    pub working_dir: String,
    /// No network at all (old field).
    pub network_disabled: bool,
    /// Wanted MAC address (old field).
    pub mac_address: String,
    /// Instructions for builds on top; only shown.
    pub on_build: Option<Vec<String>>,
    /// Free metadata.
    pub labels: BTreeMap<String, String>,
    /// What `stop` sends, as given.
    pub stop_signal: Option<String>,
    /// Seconds `stop` waits before it kills; -1 is for ever.
    pub stop_timeout: Option<i64>,
    /// Shell of the shell forms; only shown.
    pub shell: Option<Vec<String>>,
    /// How its health is asked for.
    pub healthcheck: Option<Healthcheck>,
    /// Windows only; only shown.
    pub args_escaped: bool,
}

impl ProcessConfig {
    /// The program and all its arguments.
    #[must_use]
    pub fn command_line(&self) -> Vec<String> {
        let parts = [&self.entrypoint, &self.cmd];
        parts.into_iter().flatten().flatten().cloned().collect()
    }

    /// What `stop` sends: `SIGTERM` unless it, or its image, wants another.
    #[must_use]
    pub fn stop_signal(&self) -> Signal {
        self.stop_signal.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Signal::TERM)
    }
}
