//! Typed calls to the daemon over unix, tcp and TLS.
//!
//! A client is synchronous and has no threads: a command makes a handful of short requests, one after another, and the few commands that
//! watch several things at once (`run`, `exec`, `attach`) wait for descriptors with poll(2). The wire is HTTP/1.1, written and read here
//! ([`http`]): keep-alive, chunked and length-delimited bodies, `101` upgrades and half-closed raw streams. Why not hyper: see
//! `docs/design/client-http.md`.
//!
//! **Versions.** The client sends its own newest version with its first request. Every answer carries `Api-Version`; a daemon that is older
//! refuses with 400 and its version, and the client lowers its own and repeats the request. So talking to a daemon of the same or a newer
//! version costs no extra round trip. A request whose body cannot be repeated asks `/_ping` first. See [`Client`].
//!
//! Deliberately absent: which host is chosen (the command line decides) and what is printed.
#![forbid(unsafe_code)]

mod client;
pub mod containers;
pub mod endpoint;
mod error;
mod exec;
pub mod frames;
pub mod http;
mod request;
mod resolve;
mod tls;
mod transport;
mod version;

pub use client::Client;
pub use endpoint::{Endpoint, InvalidEndpoint, TlsFiles, TlsMode};
pub use error::ClientError;
pub use http::elements::Elements;
pub use http::response::Response;
pub use request::{Body, InFlight, Request};
pub use transport::Stream;
pub use version::ApiVersion;
