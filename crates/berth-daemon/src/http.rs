//! HTTP as the Engine API speaks it: connections, routing, queries, bodies, replies, hijacked streams.
//!
//! Nothing here knows a container. [`connection`] turns bytes into a [`call::Call`] for the endpoint that
//! [`router`] found, and the endpoint's [`reply::Reply`] into bytes.

pub mod body;
pub mod call;
pub mod connection;
pub mod error;
pub mod filters;
pub mod hijack;
pub mod query;
pub mod reply;
pub mod router;
pub mod version;
pub mod websocket;
