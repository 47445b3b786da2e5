//! The formats of both databases, oldest first. A format that was released is never edited: a change is a new step.

use crate::{addresses, blob_origins, containers, image_mounts, images, ports, volumes};

/// Statements that lead from one format to the next; format N is reached after N steps.
pub(crate) type Steps = [&'static [&'static str]];

/// The durable database.
pub(crate) const DURABLE: [&[&str]; 2] =
    [&[containers::SCHEMA, volumes::SCHEMA, images::SCHEMA, addresses::DURABLE_SCHEMA], &[blob_origins::SCHEMA]];

/// The transient database. It never outlives a boot.
/// Since format 4 containers are files beside it, and their table is empty.
pub(crate) const TRANSIENT: [&[&str]; 4] =
    [&[containers::SCHEMA, addresses::TRANSIENT_SCHEMA], &[ports::SCHEMA], &[image_mounts::SCHEMA], &[]];
