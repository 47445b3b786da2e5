//! The bytes of netlink: messages and attributes written, answers read. See netlink(7).
//!
//! A [`Batch`] holds any number of requests that go to the kernel in one system call. Reading never panics and never
//! trusts a length: [`Messages`] and [`Attributes`] are iterators that end at the first thing that does not fit.

/// Length of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// Marks an attribute whose value is a list of attributes.
const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are no flag.
const TYPE_MASK: u16 = !(NESTED | 1 << 14);

/// The message is a request.
pub const REQUEST: u16 = 0x01;
/// Success is answered too, not only failure.
pub const ACK: u16 = 0x04;
/// Every object is asked for.
pub const DUMP: u16 = 0x300;
/// An object that is there is replaced.
pub const REPLACE: u16 = 0x100;
/// An object that is there is an error.
pub const EXCLUSIVE: u16 = 0x200;
/// An object that is not there is made.
pub const CREATE: u16 = 0x400;
/// A rule is put at the end, not at the front.
pub const APPEND: u16 = 0x800;

/// Requests that are sent together.
///
/// Each message has a label, the words that name the step in an error. Only the last message asks for an
/// acknowledgement: failures are answered in any case, so a batch of any length costs one send and, when all is well,
/// one receive.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    labels: Vec<(&'static str, usize)>,
}

impl Batch {
    /// Makes an empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds one request of a message type and flags; `body` writes the family's header and the attributes.
    pub fn push(&mut self, label: &'static str, kind: u16, flags: u16, body: impl FnOnce(&mut Message<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        body(&mut Message { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        pad(&mut self.bytes);
        self.labels.push((label, start));
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many messages the batch holds.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The words that name the message at `position`.
    pub fn label(&self, position: usize) -> &'static str {
        self.labels.get(position).map_or("netlink request", |(label, _)| label)
    }

    /// The bytes to send, with sequence numbers from `first` on and an acknowledgement asked of message `acked`.
    pub fn sealed(&mut self, first: u32, acked: usize) -> &[u8] {
        for (position, (_, start)) in self.labels.iter().enumerate() {
            let sequence = first.wrapping_add(u32::try_from(position).expect("fewer messages than bytes"));
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        if let Some((_, start)) = self.labels.get(acked) {
            let flags = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]) | ACK;
            self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        &self.bytes
    }
}

/// A message while it is written.
#[derive(Debug)]
pub struct Message<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Message<'_> {
    /// Writes the fixed header of the family, such as `struct ifinfomsg`.
    pub fn header(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        pad(self.bytes);
        self
    }

    /// Writes an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(ATTRIBUTE + value.len()).expect("an attribute is at most 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }

    /// Writes a number in the host's byte order, as rtnetlink wants it.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Writes a number in network byte order, as nf_tables wants it.
    pub fn number_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Writes a text with the zero byte that ends it.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Writes an attribute made of attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        let start = self.open(kind);
        body(&mut Message { bytes: &mut *self.bytes });
        self.close(start);
        self
    }

    /// How many bytes an attribute opened at `start` has by now: lists are split before they pass 64 KiB.
    pub fn room_left(&self, start: usize) -> usize {
        usize::from(u16::MAX).saturating_sub(self.bytes.len() - start)
    }

    /// Where the next attribute will begin.
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).expect("a nested attribute is at most 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The message type.
    pub kind: u16,
    /// The flags of the header.
    pub flags: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// The port of the socket whose request it answers, or whose change it tells of.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Reads the messages of a datagram.
    pub fn of(datagram: &'a [u8]) -> Messages<'a> {
        Messages(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let message = self.0.get(..length).filter(|message| message.len() >= HEADER)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind: u16_at(message, 4)?,
            flags: u16_at(message, 6)?,
            sequence: u32_at(message, 8)?,
            port: u32_at(message, 12)?,
            body: &message[HEADER..],
        })
    }
}

/// A list of attributes: pairs of a type without flags, and a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads the attributes that follow a header of `header` bytes.
    pub fn after(header: usize, body: &'a [u8]) -> Attributes<'a> {
        Attributes(body.get(header.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The value of the first attribute of a type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The attributes inside the first attribute of a type; none if it is absent.
    pub fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or_default())
    }

    /// A text, without the zero byte that ends it.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }

    /// A number in the host's byte order.
    pub fn number(self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    /// A number in network byte order.
    pub fn number_be(self, kind: u16) -> Option<u32> {
        self.number(kind).map(u32::from_be)
    }

    /// A long number in network byte order.
    pub fn long_be(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.first_chunk().copied()?))
    }

    /// An IPv4 or IPv6 address.
    pub fn address(self, kind: u16) -> Option<std::net::IpAddr> {
        let value = self.get(kind)?;
        match value.len() {
            4 => value.first_chunk::<4>().map(|bytes| std::net::IpAddr::from(*bytes)),
            16 => value.first_chunk::<16>().map(|bytes| std::net::IpAddr::from(*bytes)),
            _ => None,
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A 16-bit number of the host's byte order at an offset.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A 32-bit number of the host's byte order at an offset.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_is_read_back_as_it_was_written() {
        let mut batch = Batch::new();
        batch.push("first", 16, CREATE, |message| {
            message.header(&[1; 16]).text(3, "eth0").nest(18, |info| {
                info.text(1, "veth").number(7, 1500);
            });
        });
        batch.push("second", 20, 0, |message| {
            message.header(&[2; 8]).attribute(1, &[10, 0, 0, 1]);
        });
        let bytes = batch.sealed(7, 1).to_vec();
        let messages: Vec<_> = Messages::of(&bytes).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].sequence, messages[0].flags), (16, 7, CREATE | REQUEST));
        assert_eq!((messages[1].kind, messages[1].sequence, messages[1].flags), (20, 8, ACK | REQUEST));
        let link = Attributes::after(16, messages[0].body);
        assert_eq!(link.text(3), Some("eth0"));
        assert_eq!(link.nested(18).text(1), Some("veth"));
        assert_eq!(link.nested(18).number(7), Some(1500));
        assert_eq!(Attributes::after(8, messages[1].body).address(1), Some([10, 0, 0, 1].into()));
        assert_eq!(batch.label(1), "second");
    }

    #[test]
    fn a_length_that_lies_ends_the_list() {
        assert_eq!(Attributes(&[3, 0, 1, 0]).next(), None);
        assert_eq!(Attributes(&[200, 0, 1, 0, 9]).next(), None);
        assert_eq!(Messages::of(&[15, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]).next(), None);
        assert_eq!(Messages::of(&[255; 20]).next(), None);
    }

    proptest! {
        #[test]
        fn reading_any_bytes_ends_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for message in Messages::of(&bytes) {
                for (kind, value) in Attributes::after(16, message.body) {
                    let inner = Attributes(value);
                    let _ = (inner.text(kind), inner.number(1), inner.address(2), inner.long_be(3), inner.number_be(4));
                    prop_assert!(inner.count() <= value.len());
                }
            }
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }

        #[test]
        fn attributes_survive_the_trip(list in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..20)) {
            let mut batch = Batch::new();
            batch.push("all", 1, 0, |message| {
                for (kind, value) in &list {
                    message.attribute(*kind, value);
                }
            });
            let bytes = batch.sealed(1, 0).to_vec();
            let message = Messages::of(&bytes).next().unwrap();
            let read: Vec<_> = Attributes(message.body).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(read, list);
        }
    }
}
