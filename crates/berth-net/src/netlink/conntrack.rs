//! Connection tracking: entries listed and deleted. See conntrack(8).
//!
//! Translation is decided once for each connection, by its first packet. A client of UDP that goes on sending keeps the old
//! decision for ever, so its entry is deleted when a port begins or ends to lead somewhere.

use std::net::IpAddr;

use super::message::{Answer, Attributes, Batch, Message};
use super::socket::{NetlinkError, Socket};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// Length of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const UDP: u8 = 17;
/// Marks an attribute that is a list of attributes.
const NESTED: u16 = 1 << 15;

/// A connection of UDP, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    family: u8,
    /// The attribute that names it to the kernel, as the kernel wrote it.
    original: Vec<u8>,
    /// Where its first packet went.
    pub destination: IpAddr,
    /// And to which port.
    pub port: u16,
    /// Who answers.
    pub answered_by: IpAddr,
}

/// Deletes the connections of UDP that are chosen.
///
/// # Errors
/// They cannot be listed. One that is gone meanwhile is no error.
pub fn forget_udp(socket: &mut Socket, chosen: impl Fn(&Flow) -> bool) -> Result<usize, NetlinkError> {
    let request = |message: &mut Message<'_>| _ = message.header(&[0; FAMILY_HEADER]);
    let flows = socket.dump("listing connections", GET, request, |answer| flow(answer).filter(|flow| chosen(flow)))?;
    for flow in &flows {
        let mut batch = Batch::new();
        batch.push("forgetting a connection", DELETE, 0, |message| {
            message.header(&[flow.family, 0, 0, 0]).attribute(TUPLE_ORIGINAL | NESTED, &flow.original);
        });
        match socket.run(batch) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT) => {}
            outcome => outcome?,
        }
    }
    Ok(flows.len())
}

fn flow(answer: &Answer<'_>) -> Option<Flow> {
    let attributes = Attributes::after(FAMILY_HEADER, answer.body);
    let original = attributes.get(TUPLE_ORIGINAL)?;
    let (there, back) = (attributes.nested(TUPLE_ORIGINAL), attributes.nested(TUPLE_REPLY));
    let protocol = there.nested(2);
    if protocol.get(1)? != [UDP] {
        return None;
    }
    let port = protocol.get(3)?.first_chunk().copied()?;
    let address = |tuple: Attributes<'_>, v4: u16, v6: u16| tuple.nested(1).address(v4).or(tuple.nested(1).address(v6));
    Some(Flow {
        family: *answer.body.first()?,
        original: original.to_vec(),
        destination: address(there, 2, 4)?,
        port: u16::from_be_bytes(port),
        answered_by: address(back, 1, 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = flow(&Answer { kind: GET, flags: 0, sequence: 1, port: 0, body: &body });
        }
    }
}
