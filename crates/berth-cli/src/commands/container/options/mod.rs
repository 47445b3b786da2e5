//! The flags of `create` and `run` that say what the container is to be, as typed.
//!
//! What can be judged from one value is judged here, by the value parsers; what needs several flags together is in [`request`]. The flags
//! that most command lines make do with stand in [`ContainerOptions`] itself, the others by topic behind it.

mod confinement;
mod csv;
mod environment;
mod handling;
mod health;
mod mount;
mod network;
mod port;
pub(crate) mod request;
pub(crate) mod resources;
mod security;
pub(crate) mod value;

#[cfg(feature = "fuzz")]
pub use port::published;

use berth_api::mount::Mount;

use crate::seldom::Seldom;
pub use confinement::ConfinementOptions;
pub(crate) use environment::variables;
pub use handling::HandlingOptions;
pub use health::HealthOptions;
pub use mount::StorageOptions;
pub use network::{NetworkAttachment, NetworkOptions};
pub use resources::ResourceOptions;
pub(crate) use value::Stream;

/// What the container is to be, as typed.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct ContainerOptions {
    /// Replace the image entrypoint; an empty value clears it
    #[arg(long, value_name = "string")]
    pub entrypoint: Option<String>,
    /// Set NAME=value; NAME alone copies the client value
    #[arg(long = "env", short = 'e', value_name = "list", value_parser = value::environment)]
    pub environment: Vec<String>,
    /// Read NAME=value lines from a file
    #[arg(long = "env-file", value_name = "list")]
    pub env_files: Vec<String>,
    /// Host name inside the container
    #[arg(long, short = 'h', value_name = "string")]
    pub hostname: Option<String>,
    /// Keep stdin open
    #[arg(long, short = 'i')]
    pub interactive: bool,
    /// Add key=value metadata
    #[arg(long = "label", short = 'l', value_name = "list", value_parser = value::label)]
    pub labels: Vec<String>,
    /// Mount given as type=bind|volume|tmpfs|image|cluster|npipe,src=,dst=,...
    #[arg(long = "mount", value_name = "mount", value_parser = mount::long_form)]
    pub mounts: Vec<Mount>,
    /// Container name instead of a generated one
    #[arg(long, value_name = "string")]
    pub name: Option<String>,
    /// Network to join: bridge, none, host, container:ID, a name, or name=...,alias=...
    #[arg(long = "network", alias = "net", value_name = "network", value_parser = network::attachment)]
    pub networks: Vec<NetworkAttachment>,
    /// Map a container port to the host: [ip:][hostport:]port[/proto], ranges allowed
    #[arg(long, short = 'p', value_name = "list")]
    pub publish: Vec<String>,
    /// Restart policy: no, always, unless-stopped or on-failure[:max] (default "no")
    #[arg(long, value_name = "string")]
    pub restart: Option<String>,
    /// Remove the container and its anonymous volumes when it exits
    #[arg(long = "rm")]
    pub remove: bool,
    /// Allocate a pseudo-terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// User[:group] by name or number
    #[arg(long, short = 'u', value_name = "string")]
    pub user: Option<String>,
    /// Bind mount or volume: [src:]dst[:options]
    #[arg(long = "volume", short = 'v', value_name = "list")]
    pub volumes: Vec<String>,
    /// Working directory of the process
    #[arg(long, short = 'w', value_name = "string")]
    pub workdir: Option<String>,
    /// What it may do.
    #[command(flatten)]
    pub confinement: Seldom<ConfinementOptions>,
    /// How it is handled.
    #[command(flatten)]
    pub handling: Seldom<HandlingOptions>,
    /// How its health is checked.
    #[command(flatten)]
    pub health: Seldom<HealthOptions>,
    /// How it is reached, and what it reaches.
    #[command(flatten)]
    pub network: Seldom<NetworkOptions>,
    /// What it may use.
    #[command(flatten)]
    pub resources: Seldom<ResourceOptions>,
    /// Where its files are.
    #[command(flatten)]
    pub storage: Seldom<StorageOptions>,
    /// The image, then the command and its arguments: flags end at the image.
    #[arg(trailing_var_arg = true, value_name = "IMAGE")]
    pub words: Vec<String>,
}
