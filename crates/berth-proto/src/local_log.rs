//! The files of Docker's log driver `local`: entries as protocol buffers, each between two copies of its length.
//!
//! The length is four bytes, the most telling first, and counts the entry alone. The second copy lets a reader walk back from the end.

use prost::Message;

/// Bytes of a length.
pub const LENGTH: usize = 4;
/// No entry is longer; a length above it is damage.
pub const MAX_ENTRY: usize = 1_000_000;

/// One line of output, or a piece of a long one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogEntry {
    /// `stdout` or `stderr`.
    #[prost(string, tag = "1")]
    pub source: String,
    /// When, in nanoseconds since 1970.
    #[prost(int64, tag = "2")]
    pub time_nano: i64,
    /// What, without its line break.
    #[prost(bytes = "vec", tag = "3")]
    pub line: Vec<u8>,
    /// Whether it is a piece of a long line.
    #[prost(bool, tag = "4")]
    pub partial: bool,
    /// Which piece of which line.
    #[prost(message, optional, tag = "5")]
    pub partial_log_metadata: Option<PartialLogEntryMetadata>,
    /// Attributes that the container's options ask for.
    #[prost(message, repeated, tag = "6")]
    pub attrs: Vec<LogAttr>,
}

/// The place of a piece in its line.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PartialLogEntryMetadata {
    /// Whether the line ends with it.
    #[prost(bool, tag = "1")]
    pub last: bool,
    /// The same for all pieces of a line.
    #[prost(string, tag = "2")]
    pub id: String,
    /// Its number, from 1 on.
    #[prost(int32, tag = "3")]
    pub ordinal: i32,
}

/// An attribute.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogAttr {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

impl LogEntry {
    /// Whether a line break follows in the output.
    #[must_use]
    pub fn ends_line(&self) -> bool {
        !self.partial || self.partial_log_metadata.as_ref().is_some_and(|piece| piece.last)
    }

    /// Appends the entry as it stands in the file.
    pub fn push_framed(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        self.encode(out).expect("a vector has room for everything");
        let length = u32::try_from(out.len() - start - LENGTH).expect("lines come in pieces of 16 KiB").to_be_bytes();
        out[start..start + LENGTH].copy_from_slice(&length);
        out.extend_from_slice(&length);
    }

    /// Reads an entry with its two lengths; `None` if it is damaged.
    #[must_use]
    pub fn of_framed(framed: &[u8]) -> Option<Self> {
        let (length, rest) = framed.split_first_chunk::<LENGTH>()?;
        let (entry, again) = rest.split_last_chunk::<LENGTH>()?;
        if length != again || entry.len() != entry_length(*length)? {
            return None;
        }
        Self::decode(entry).ok()
    }
}

/// The number of bytes that a length stands for; `None` if no entry is that long. None is empty: it names its stream.
#[must_use]
pub fn entry_length(length: [u8; LENGTH]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| (1..=MAX_ENTRY).contains(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_docker_s_byte_for_byte() {
        let entry = LogEntry {
            source: "stdout".to_owned(),
            time_nano: 5,
            line: b"hi".to_vec(),
            partial: true,
            partial_log_metadata: Some(PartialLogEntryMetadata { last: true, id: "x".to_owned(), ordinal: 2 }),
            attrs: vec![LogAttr { key: "k".to_owned(), value: "v".to_owned() }],
        };
        let mut framed = Vec::new();
        entry.push_framed(&mut framed);
        let expected = b"\0\0\0\x21\x0a\x06stdout\x10\x05\x1a\x02hi\x20\x01\x2a\x07\x08\x01\x12\x01x\x18\x02\x32\x06\x0a\x01k\x12\x01v\0\0\0\x21";
        assert_eq!(framed, expected);
        assert_eq!(LogEntry::of_framed(&framed), Some(entry));
        framed[3] += 1;
        assert_eq!(LogEntry::of_framed(&framed), None);
        assert_eq!(LogEntry::of_framed(&[0xff; 8]), None);
        assert_eq!(LogEntry::of_framed(&[0; 7]), None);
    }
}
