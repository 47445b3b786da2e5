//! Ways in for the fuzz targets of `fuzz/`.

use crate::netlink::{message::Messages, nf_tables, route};

/// Reads a datagram of the kernel's as every question would.
pub fn netlink_answer(datagram: &[u8]) {
    for answer in Messages::of(datagram) {
        route::read_in_every_way(&answer);
        nf_tables::read_in_every_way(&answer);
    }
}
