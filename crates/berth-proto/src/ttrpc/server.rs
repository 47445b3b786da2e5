//! The serving side of one connection.

use super::{Code, Decoder, FLAG_NO_DATA, FLAG_REMOTE_CLOSED, Frame, Header, Kind, Request, Response, Status, encode};
use prost::Message;

/// A call that waits for its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Name it again when answering.
    pub stream: u32,
    /// What is asked.
    pub request: Request,
}

/// The rules of the serving side: takes received bytes, gives calls, and collects the bytes to send.
///
/// Answers go in any order. What breaks a rule of the protocol is answered by the server itself.
#[derive(Debug, Default)]
pub struct Server {
    decoder: Decoder,
    last_stream: u32,
    /// Bytes to be sent. Whoever owns the connection takes them away as it can.
    pub outgoing: Vec<u8>,
}

impl Server {
    /// Takes bytes as they were received.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
    }

    /// Gives the next call, if one is there.
    pub fn next_call(&mut self) -> Option<Call> {
        loop {
            match self.decoder.next()? {
                Frame::Whole(header, body) => {
                    if let Some(call) = self.received(header, &body) {
                        return Some(call);
                    }
                }
                Frame::TooLong(header) => {
                    let text = format!("message of {} bytes is longer than {}", header.length, super::MAX_MESSAGE);
                    self.last_stream = self.last_stream.max(header.stream);
                    self.refuse(header.stream, Code::ResourceExhausted, text);
                }
            }
        }
    }

    fn received(&mut self, header: Header, body: &[u8]) -> Option<Call> {
        let stream = header.stream;
        if stream.is_multiple_of(2) {
            self.refuse(stream, Code::InvalidArgument, "a stream that the client opens has an odd number");
            return None;
        }
        match header.kind {
            Kind::Request if stream <= self.last_stream => {
                self.refuse(stream, Code::InvalidArgument, "the number of a stream must be higher than those before");
                None
            }
            Kind::Request => {
                self.last_stream = stream;
                match Request::decode(body) {
                    Ok(request) => Some(Call { stream, request }),
                    Err(error) => {
                        self.refuse(stream, Code::InvalidArgument, format!("request cannot be read: {error}"));
                        None
                    }
                }
            }
            // A half close, or data on a stream that a unary method has or will have answered.
            Kind::Data if header.flags & (FLAG_NO_DATA | FLAG_REMOTE_CLOSED) != 0 || stream == self.last_stream => None,
            Kind::Data => {
                self.refuse(stream, Code::InvalidArgument, "no such stream is open");
                None
            }
            // Whatever else may exist one day is to be passed over.
            Kind::Response | Kind::Other(_) => None,
        }
    }

    /// Answers a call.
    pub fn answer(&mut self, stream: u32, result: Result<Vec<u8>, Status>) {
        let response = match result {
            Ok(payload) => Response { status: None, payload },
            Err(status) => Response { status: Some(status), payload: Vec::new() },
        };
        if let Err(length) = encode(stream, Kind::Response, 0, &response, &mut self.outgoing) {
            self.refuse(stream, Code::ResourceExhausted, format!("answer of {length} bytes is too long"));
        }
    }

    /// Gives up the connection: what was received beyond the last call, and what is still to be sent.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        (self.decoder.into_rest(), self.outgoing)
    }

    /// The server as it is between two calls: it only knows the number of the last one. `None` if anything is under way.
    #[must_use]
    pub fn rested(self) -> Option<Self> {
        let rests = self.decoder.is_empty() && self.outgoing.is_empty();
        rests.then(|| Self { last_stream: self.last_stream, ..Self::default() })
    }

    fn refuse(&mut self, stream: u32, code: Code, text: impl Into<String>) {
        let response = Response { status: Some(Status::new(code, text)), payload: Vec::new() };
        encode(stream, Kind::Response, 0, &response, &mut self.outgoing).expect("a refusal is short");
    }
}

#[cfg(test)]
mod tests {
    use super::super::FLAG_REMOTE_OPEN;
    use super::*;

    fn sent(server: &mut Server) -> Vec<(u32, Code)> {
        let mut decoder = Decoder::default();
        decoder.feed(&std::mem::take(&mut server.outgoing));
        let mut all = Vec::new();
        while let Some(Frame::Whole(header, body)) = decoder.next() {
            assert_eq!(header.kind, Kind::Response);
            let response = Response::decode(body.as_slice()).unwrap();
            all.push((header.stream, response.status.map_or(Code::Ok, |status| status.code())));
        }
        all
    }

    fn call(server: &mut Server, stream: u32, kind: Kind, flags: u8) -> Option<Call> {
        let mut wire = Vec::new();
        let request = Request { service: "s".into(), method: "M".into(), ..Request::default() };
        encode(stream, kind, flags, &request, &mut wire).unwrap();
        server.feed(&wire);
        server.next_call()
    }

    #[test]
    fn calls_are_answered_in_any_order() {
        let mut server = Server::default();
        assert_eq!(call(&mut server, 1, Kind::Request, 0).unwrap().stream, 1);
        assert_eq!(call(&mut server, 3, Kind::Request, FLAG_REMOTE_CLOSED).unwrap().request.method, "M");
        server.answer(3, Ok(vec![1]));
        server.answer(1, Err(Status::new(Code::NotFound, "nothing")));
        assert_eq!(sent(&mut server), [(3, Code::Ok), (1, Code::NotFound)]);
    }

    #[test]
    fn broken_rules_are_answered() {
        let mut server = Server::default();
        assert_eq!(call(&mut server, 2, Kind::Request, 0), None);
        assert!(call(&mut server, 5, Kind::Request, 0).is_some());
        assert_eq!(call(&mut server, 5, Kind::Request, 0), None);
        assert_eq!(call(&mut server, 3, Kind::Data, 0), None);
        assert_eq!(call(&mut server, 7, Kind::Other(9), 0), None);
        server.feed(&Header { length: 1, stream: 9, kind: Kind::Request, flags: 0 }.to_bytes());
        server.feed(&[0xff]);
        assert_eq!(server.next_call(), None);
        let invalid = Code::InvalidArgument;
        assert_eq!(sent(&mut server), [(2, invalid), (5, invalid), (3, invalid), (9, invalid)]);
    }

    #[test]
    fn a_half_closed_stream_is_fine() {
        let mut server = Server::default();
        assert!(call(&mut server, 1, Kind::Request, FLAG_REMOTE_OPEN).is_some());
        assert_eq!(call(&mut server, 1, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA), None);
        server.answer(1, Ok(Vec::new()));
        assert_eq!(call(&mut server, 1, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA), None);
        assert_eq!(sent(&mut server), [(1, Code::Ok)]);
    }

    #[test]
    fn what_is_too_long_is_refused_either_way() {
        let mut server = Server::default();
        server.feed(&Header { length: u32::MAX, stream: 1, kind: Kind::Request, flags: 0 }.to_bytes());
        assert_eq!(server.next_call(), None);
        server.answer(3, Ok(vec![0; super::super::MAX_MESSAGE + 1]));
        assert_eq!(sent(&mut server), [(1, Code::ResourceExhausted), (3, Code::ResourceExhausted)]);
    }
}
