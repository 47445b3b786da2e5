//! Published ports: what is asked for, what is given, and how it is held.
//!
//! [`PortRequest`] says which port of a container is to be reached from outside, and where on the host; [`Networks::publish`]
//! chooses the host's ports, holds them and has the firewall translate them; the [`Publication`] takes all of that back unless
//! it is kept. In reading order: `request` and `published` are the words; `choose` finds free ports; `table` remembers who has which;
//! `publish` does it in order; [`berth_ports`] holds the sockets; `firewall::published` is what the kernel is told.
//!
//! [`Networks::publish`]: crate::Networks::publish

mod choose;
mod publish;
mod published;
mod request;
mod table;

pub use publish::Publication;
pub use published::{PublishedPort, Way};
pub use request::{HostPort, InvalidHostPort, PortRequest};

pub(crate) use published::read as read_port;
pub(crate) use table::PortTable;
