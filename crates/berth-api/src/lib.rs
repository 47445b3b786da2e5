//! The documents of the Engine API, version 1.56, field for field, one file per resource.
//!
//! Nothing but words: no I/O, no defaults of the engine, no rules. The daemon serialises what the client deserialises
//! and the reverse, so every type derives both. A type renders as the recorded engine does: a Go slice, map or pointer
//! without `omitempty` is an `Option` that renders as `null`; one with `omitempty` is left out when it is empty.
//! Reading is tolerant: a missing or `null` field takes its default, an unknown one is ignored.
//!
//! Shapes of older API versions are not here; the daemon's version gates add what those still expect.
#![forbid(unsafe_code)]

pub mod auth;
pub mod container;
pub mod container_config;
pub mod descriptor;
pub mod disk_usage;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod exec;
pub mod host_config;
pub mod image;
pub mod image_mount;
pub mod mount;
pub mod network;
pub mod ordered;
pub mod progress;
pub mod stats;
pub mod system;
pub mod volume;
mod wire;

pub use wire::{ConsoleSize, Empty};

/// The newest version of the Engine API that these types describe.
pub const API_VERSION: &str = "1.56";
/// The oldest version that the daemon answers.
pub const MIN_API_VERSION: &str = "1.24";
