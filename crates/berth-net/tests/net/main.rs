//! The network from the containers' point of view. Each test has a host of its own, made of network namespaces.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod custom_networks;
mod default_bridge;
mod default_bridge_options;
mod host;
mod leaks;
mod measure;
mod name_sockets;
mod reuse;
