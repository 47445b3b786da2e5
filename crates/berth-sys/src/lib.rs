//! Linux made safe: the only crate with unsafe code.
//!
//! Safe functions named for their effect, which take [`std::os::fd::BorrowedFd`] and give [`std::os::fd::OwnedFd`]. What `rustix` already
//! offers safely is used from there and not wrapped again.
#![allow(unsafe_code, reason = "the one crate that may: every block says why it is sound")]

#[cfg(target_env = "musl")]
mod allocator;
pub mod bpf;
pub mod clone;
pub mod exec;
pub mod fault;
pub mod fdpass;
pub mod heap;
pub mod memfd;
pub mod mount;
#[cfg(target_env = "musl")]
mod musl;
pub mod namespace;
pub mod netns;
pub mod packet;
pub mod page_cache;
pub mod private_tree;
pub mod pty;
pub mod rooted;
pub mod scheduling;
pub mod seccomp;
pub mod session;
pub mod signalfd;
pub mod socket_filter;
pub mod spawn;
pub mod title;
pub mod wiping;
