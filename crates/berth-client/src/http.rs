//! HTTP/1.1 as the Engine API uses it, from the client's side.

pub(crate) mod connection;
pub mod elements;
pub mod response;

/// A head larger than this is not the daemon's.
pub(crate) const MAX_HEAD: usize = 256 * 1024;
