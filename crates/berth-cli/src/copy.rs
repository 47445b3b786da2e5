//! Copying files between a container and this machine: what a pair of paths means, and the archives that carry it.
//!
//! The rules are those of `cp -a` as the reference client has them (B170): a source directory that ends in `/.` stands for its content, a
//! destination that is there as a directory takes the source into it, one that is not there is what the source will be called.

mod local;
mod paths;
mod plan;

pub(crate) use local::{Source, extract, resolve_destination};
pub(crate) use paths::{base, clean, join, split};
pub(crate) use plan::{Copied, Place, plan};
