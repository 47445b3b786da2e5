//! Netlink, spoken synchronously: what a message looks like, and how a batch is sent and answered.
//!
//! One encoder serves both families the crate speaks: `rtnetlink` (links, addresses, routes) and `nf_tables`. The
//! reader is lenient on purpose: it looks only at the attributes it was asked for, so that a kernel that adds new ones,
//! or gives old ones another size, never makes an answer unreadable. Nothing here knows what a container is.

pub mod conntrack;
pub mod message;
pub mod nf_tables;
pub mod route;
pub mod socket;
pub mod sublink;

pub use message::Batch;
pub use socket::{NetlinkError, Socket};
