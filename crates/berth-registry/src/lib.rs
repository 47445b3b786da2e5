//! The registry server: OCI distribution 1.1 on a directory, in one command.
//!
//! `berth registry serve DIR` makes a directory a registry. What it keeps is described in [`storage`], who may do what in [`auth`], and each
//! part of the API in [`resources`]. The program's own commands are in [`program`].
//!
//! Deliberately absent: replication, other stores than a directory, and anything that the containers' engine knows.
#![forbid(unsafe_code)]

mod auth;
mod http;
mod limit;
mod listen;
mod manifest;
mod metrics;
mod names;
mod notify;
mod options;
mod program;
mod proxy;
mod refusal;
mod registry;
mod resources;
mod routes;
mod settings;
mod storage;

pub use program::main;
