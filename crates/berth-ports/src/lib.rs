//! Holds the host's ports that are published, in a process that outlives the daemon.
//!
//! A published port is translated by firewall rules long before a socket could see its packets. Still a socket is bound to it, so
//! that nobody else's program takes a port that would never get a packet, and so that a port somebody has is never taken from
//! him. The sockets belong to one small process per engine: [`main`] serves it, [`Client`] asks it. It starts with the first
//! port and ends by itself some seconds after it holds nothing, at once when nobody is connected; with ports to hold it
//! does not even notice the death of the daemon.
//!
//! It also carries what rules cannot: from an IPv6 port of the host to a container that has only IPv4 ([`Place::relay`]).
//!
//! Deliberately absent: which port is whose (records, `berth-net`), rules, threads, an async runtime.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics says where"))]

mod bind;
mod client;
mod holder;
mod place;
mod program;
mod relay;
mod who;

pub use bind::{Held, hold, hold_all};
pub use client::{Asked, Client, NotHeld};
pub use place::{InvalidTransport, Place, Transport};
pub use program::{START_WORDS, main, serve};
pub use who::{Owner, first_taken, owner_of};
