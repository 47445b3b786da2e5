//! Between the wire and the engine's own words: every check of a request, and every shape of an answer.
//!
//! What is refused here is wrong in itself; what depends on other objects is refused by the engine. Plain functions, no I/O.

pub mod address;
pub mod binds;
pub mod create;
pub mod endpoints;
pub mod event;
#[cfg(test)]
mod golden;
pub mod health;
pub mod host;
pub mod image;
pub mod inspect;
pub mod isolation;
pub mod mounts;
pub mod network;
pub mod ports;
pub mod process;
pub mod resources;
pub mod restart;
pub mod stats;
pub mod summary;
pub mod time;
pub mod update;
pub mod volume;
