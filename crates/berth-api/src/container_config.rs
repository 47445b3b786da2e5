//! The portable part of a container's configuration, as create takes it and inspect shows it.

use std::collections::BTreeMap;

use crate::Empty;
use crate::endpoint::EndpointSettings;
use crate::host_config::HostConfig;
use crate::ordered::Ordered;
use crate::wire::{is_default, wire};

wire! {
    /// What a container runs: the configuration that does not depend on the host.
    pub struct ContainerConfig {
        /// Host name inside the container.
        pub hostname: String,
        /// NIS domain name inside the container.
        pub domainname: String,
        /// User, as `name|uid[:group|gid]`.
        pub user: String,
        /// Whether the creating client means to attach to stdin.
        pub attach_stdin: bool,
        /// Whether the creating client means to attach to stdout.
        pub attach_stdout: bool,
        /// Whether the creating client means to attach to stderr.
        pub attach_stderr: bool,
        /// Ports that the program listens on, `80/tcp`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub exposed_ports: Option<BTreeMap<String, Empty>>,
        /// Whether the process gets a terminal.
        pub tty: bool,
        /// Whether stdin is kept open while nobody is attached.
        pub open_stdin: bool,
        /// Whether stdin closes after the first attached client went.
        pub stdin_once: bool,
        /// Environment, `NAME=value`; `NAME` alone removes.
        pub env: Option<Vec<String>>,
        /// Arguments of the entrypoint, or the command when there is none.
        pub cmd: Option<Vec<String>>,
        /// How to test that the container works.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        /// Windows only; kept as given.
        #[serde(skip_serializing_if = "is_default")]
        pub args_escaped: bool,
        /// The image as the user named it.
        pub image: String,
        /// Paths that become anonymous volumes.
        pub volumes: Option<BTreeMap<String, Empty>>,
        /// Directory in which the command starts.
        pub working_dir: String,
        /// Program and first arguments.
        pub entrypoint: Option<Vec<String>>,
        /// Whether the network is off.
        #[serde(skip_serializing_if = "is_default")]
        pub network_disabled: bool,
        /// Hardware address, up to API 1.43 only.
        #[serde(skip_serializing_if = "is_default")]
        pub mac_address: String,
        /// Build instructions that run in child images.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub on_build: Option<Vec<String>>,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
        /// Signal that asks the container to stop.
        #[serde(skip_serializing_if = "is_default")]
        pub stop_signal: String,
        /// Seconds between the stop signal and the kill.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        /// Shell of shell-form instructions.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shell: Option<Vec<String>>,
    }

    /// A health check. Durations are nanoseconds; zero inherits.
    pub struct HealthConfig {
        /// `[]` inherit, `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", text]`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub test: Option<Vec<String>>,
        /// Time between two checks.
        #[serde(skip_serializing_if = "is_default")]
        pub interval: i64,
        /// Time after which a check counts as failed.
        #[serde(skip_serializing_if = "is_default")]
        pub timeout: i64,
        /// Time in which failures do not count.
        #[serde(skip_serializing_if = "is_default")]
        pub start_period: i64,
        /// Time between two checks in the start period.
        #[serde(skip_serializing_if = "is_default")]
        pub start_interval: i64,
        /// Failures in a row that make the container unhealthy.
        #[serde(skip_serializing_if = "is_default")]
        pub retries: i64,
    }

    /// The endpoints that a new container gets.
    pub struct NetworkingConfig {
        /// Endpoint settings by network name or id, in the order of the interfaces.
        pub endpoints_config: Option<Ordered<Option<EndpointSettings>>>,
    }

    /// The body of container create.
    pub struct CreateRequest {
        /// The part that depends on the host.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub host_config: Option<HostConfig>,
        /// Networks to join.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub networking_config: Option<NetworkingConfig>,
        ;
        /// The portable part.
        flatten config: ContainerConfig,
    }

    /// The answer of container create.
    pub struct CreateResponse {
        /// Id of the new container.
        pub id: String,
        /// What was given but will not have the wanted effect.
        pub warnings: Vec<String>,
    }
}
