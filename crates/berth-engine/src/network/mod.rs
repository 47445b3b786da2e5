//! Networks, as containers use them.
//!
//! What a container asked for and has is a list of [`NetworkAttachment`]s (`attachment`), part of its view and of its
//! record. `sandbox` makes it true when the container starts and takes it back when it ends; `plan` says what is asked of
//! `berth-net`, which owns addresses and devices; `connect` changes a container's networks, `manage` the networks.

mod attachment;
mod connect;
mod manage;
mod plan;
mod published;
mod recover;
mod sandbox;
mod shape;
mod tap;

pub use attachment::{EndpointView, NetworkAttachment};
pub(crate) use attachment::{attachments_of, ended, identify};
pub(crate) use connect::reserve;
pub(crate) use published::{give_back, hold_by_process, show_ports};
pub(crate) use recover::{forget_left, recover};
pub(crate) use sandbox::{Attachment, gateway_of_host};
pub(crate) use shape::{check_shape, shape_connected, shape_fresh, shape_running};
pub use tap::Tap;
