//! The tiny first process of a container: starts a program, forwards signals, reaps orphans.
//!
//! The program itself is `init/main.rs`, made by the build script as a static file without any library, for the machine that this crate
//! is made for. This library only carries it. How it behaves: `docs` in that file. Not here: putting it into a container.
#![forbid(unsafe_code)]

/// The program, an ELF executable that needs nothing.
pub static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/berth-init"));
