//! Bytes to frames and back.

use super::{HEADER_LEN, MAX_MESSAGE};
use prost::Message;

/// The sender of the frame sends no more on this stream.
pub const FLAG_REMOTE_CLOSED: u8 = 0x1;
/// The client goes on sending data on the stream it opens.
pub const FLAG_REMOTE_OPEN: u8 = 0x2;
/// The frame's body is to be ignored: only its flags count.
pub const FLAG_NO_DATA: u8 = 0x4;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opens a stream with a call.
    Request,
    /// Ends a call.
    Response,
    /// One message of a stream.
    Data,
    /// Of a later version; to be ignored.
    Other(u8),
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Request => 1,
            Kind::Response => 2,
            Kind::Data => 3,
            Kind::Other(byte) => byte,
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::Data,
            other => Kind::Other(other),
        }
    }
}

/// The ten bytes before each body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body.
    pub length: u32,
    /// Number of the stream; odd when the client opened it.
    pub stream: u32,
    /// What the body is.
    pub kind: Kind,
    /// `FLAG_*` bits.
    pub flags: u8,
}

impl Header {
    /// Writes the header as it goes over the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&self.length.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8] = self.kind.byte();
        bytes[9] = self.flags;
        bytes
    }

    /// Reads a header.
    #[must_use]
    pub fn from_bytes(bytes: [u8; HEADER_LEN]) -> Self {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = bytes;
        Self {
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind: Kind::of(kind),
            flags,
        }
    }
}

/// One received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame.
    Whole(Header, Vec<u8>),
    /// A frame whose body is longer than [`MAX_MESSAGE`]. Its bytes are passed over as they come.
    TooLong(Header),
}

/// Appends a frame to `out`.
///
/// # Errors
/// The length of the body, if it is longer than [`MAX_MESSAGE`]. Nothing was appended then.
pub fn encode(stream: u32, kind: Kind, flags: u8, body: &impl Message, out: &mut Vec<u8>) -> Result<(), usize> {
    let length = body.encoded_len();
    if length > MAX_MESSAGE {
        return Err(length);
    }
    out.reserve(HEADER_LEN + length);
    out.extend_from_slice(&Header { length: length as u32, stream, kind, flags }.to_bytes());
    body.encode(out).expect("a vector grows as needed");
    Ok(())
}

/// Cuts a stream of bytes into frames.
///
/// Give it what was read with [`feed`](Self::feed), then take frames with [`next`](Self::next) until there is none.
/// Between frames it holds no memory.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How many bytes of an overlong body are still to come.
    skip: usize,
}

impl Decoder {
    /// Takes bytes as they were received.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        if !bytes.is_empty() {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Gives the next frame, if it is there.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Frame> {
        let header = Header::from_bytes(*self.bytes.first_chunk()?);
        let length = header.length as usize;
        if length > MAX_MESSAGE {
            let here = self.bytes.len().min(HEADER_LEN + length);
            self.skip = HEADER_LEN + length - here;
            self.take(here);
            return Some(Frame::TooLong(header));
        }
        if self.bytes.len() < HEADER_LEN + length {
            return None;
        }
        let body = self.bytes[HEADER_LEN..HEADER_LEN + length].to_vec();
        self.take(HEADER_LEN + length);
        Some(Frame::Whole(header, body))
    }

    /// Whether it is between two frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.skip == 0
    }

    /// Gives back what was received beyond the last frame: the connection has changed hands.
    #[must_use]
    pub fn into_rest(self) -> Vec<u8> {
        self.bytes
    }

    fn take(&mut self, count: usize) {
        if count == self.bytes.len() {
            // The usual case, and a shim that waits for days should not keep the room.
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KeyValue, Request};
    use super::*;
    use proptest::prelude::*;

    fn request() -> impl Strategy<Value = Request> {
        let pair = (".{0,9}", ".{0,9}").prop_map(|(key, value)| KeyValue { key, value });
        let payload = prop::collection::vec(any::<u8>(), 0..300);
        ("[a-z.]{0,20}", "[A-Z]{0,9}", payload, any::<i64>(), prop::collection::vec(pair, 0..4)).prop_map(
            |(service, method, payload, timeout_nano, metadata)| Request {
                service,
                method,
                payload,
                timeout_nano,
                metadata,
            },
        )
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(requests in prop::collection::vec((any::<u32>(), request()), 0..8), piece in 1usize..40) {
            let mut wire = Vec::new();
            for (stream, request) in &requests {
                encode(*stream, Kind::Request, 0, request, &mut wire).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut back = Vec::new();
            for part in wire.chunks(piece) {
                decoder.feed(part);
                while let Some(Frame::Whole(header, body)) = decoder.next() {
                    back.push((header.stream, Request::decode(body.as_slice()).unwrap()));
                }
            }
            prop_assert_eq!(back, requests);
            prop_assert!(decoder.into_rest().is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1usize..40) {
            let mut decoder = Decoder::default();
            for part in bytes.chunks(piece) {
                decoder.feed(part);
                while decoder.next().is_some() {}
            }
        }

        #[test]
        fn headers_go_both_ways(bytes in any::<[u8; HEADER_LEN]>()) {
            prop_assert_eq!(Header::from_bytes(bytes).to_bytes(), bytes);
        }
    }

    #[test]
    fn an_overlong_body_is_told_once_and_passed_over() {
        let length = MAX_MESSAGE + 5;
        let header = Header { length: length as u32, stream: 1, kind: Kind::Request, flags: 0 };
        let mut decoder = Decoder::default();
        decoder.feed(&header.to_bytes());
        assert_eq!(decoder.next(), Some(Frame::TooLong(header)));
        for part in vec![7; length].chunks(1 << 20) {
            decoder.feed(part);
            assert_eq!(decoder.next(), None);
        }
        let mut wire = Vec::new();
        encode(3, Kind::Data, FLAG_NO_DATA, &Request::default(), &mut wire).unwrap();
        decoder.feed(&wire);
        let empty = Header { length: 0, stream: 3, kind: Kind::Data, flags: FLAG_NO_DATA };
        assert_eq!(decoder.next(), Some(Frame::Whole(empty, Vec::new())));
    }

    #[test]
    fn an_overlong_body_is_not_sent() {
        let mut wire = Vec::new();
        let request = Request { payload: vec![0; MAX_MESSAGE], ..Request::default() };
        assert!(encode(1, Kind::Request, 0, &request, &mut wire).unwrap_err() > MAX_MESSAGE);
        assert!(wire.is_empty());
    }
}
