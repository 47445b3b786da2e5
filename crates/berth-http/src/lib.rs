//! HTTP/1.1 as its clients need it, over any stream that blocks: where heads and bodies of answers end, and which peers to believe.
//!
//! [`Buffered`] is a connection, [`Head`] the beginning of an answer, [`Remaining`] what is left of its body. Deliberately absent: the
//! making of connections, requests, and what an answer means. The registry's client and the engine's have each their own.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics says where"))]

mod body;
mod buffered;
mod head;
pub mod tls;

pub use body::Remaining;
pub use buffered::Buffered;
pub use head::{Head, HeadError};
