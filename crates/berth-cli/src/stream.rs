//! Being connected to a process: its output to ours, our input to its, until one of them ends.
//!
//! One loop over poll(2), no threads: the connection, stdin, stdout, stderr and the signals are all descriptors.

pub(crate) mod detach;
mod outlet;
pub(crate) mod session;
pub(crate) mod signals;
pub(crate) mod terminal;
