//! `berth system ...`, and what tells about the daemon at the top level.

pub mod df;
pub mod events;
pub mod fsck;
pub mod info;
pub mod prune;
pub mod version;
