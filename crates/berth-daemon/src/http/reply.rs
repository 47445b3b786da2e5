//! What an endpoint answers: an ordinary response, or a connection that it takes over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::http::error::ApiError;
use crate::http::hijack::Hijack;

/// Chunks of a streamed answer between its producer and the network.
const STREAM_CHUNKS: usize = 8;

/// The answer of an endpoint.
pub enum Reply {
    /// An ordinary response.
    Http(Response<Payload>),
    /// The endpoint takes the connection.
    Hijack(Hijack),
}

/// The body of a response.
#[derive(Debug)]
pub enum Payload {
    /// A body that is known as a whole; may be empty.
    Whole(Option<Bytes>),
    /// A body that comes in chunks; it ends when its producer lets go.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
}

/// The producer's end of a streamed body. Sending fails when the client is gone.
pub type Chunks = mpsc::Sender<io::Result<Bytes>>;

impl Payload {
    /// A streamed body and its producer's end.
    pub fn stream() -> (Chunks, Payload) {
        let (sender, receiver) = mpsc::channel(STREAM_CHUNKS);
        (sender, Payload::Stream(receiver))
    }

    fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Payload::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Payload::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Payload::Stream(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Payload::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Payload::Stream(_) => SizeHint::default(),
        }
    }
}

impl Reply {
    /// A response without a body.
    pub fn empty(status: StatusCode) -> Self {
        Reply::Http(response(status, Payload::Whole(None)))
    }

    /// 204, the answer of most commands.
    pub fn done() -> Self {
        Reply::empty(StatusCode::NO_CONTENT)
    }

    /// A document with status 200.
    pub fn json(document: &impl Serialize) -> Self {
        Reply::json_with(StatusCode::OK, document)
    }

    /// A document with status 200 that is already text, its line end included.
    pub fn json_text(text: Vec<u8>) -> Self {
        Reply::Http(typed(StatusCode::OK, "application/json", Payload::whole(text)))
    }

    /// A document with another status.
    pub fn json_with(status: StatusCode, document: &impl Serialize) -> Self {
        Reply::Http(typed(status, "application/json", Payload::whole(line(document))))
    }

    /// Plain text.
    pub fn text(status: StatusCode, text: &'static str) -> Self {
        Reply::Http(typed(status, "text/plain; charset=utf-8", Payload::whole(text)))
    }

    /// A streamed body of some media type.
    pub fn stream(media_type: &'static str, payload: Payload) -> Self {
        Reply::Http(typed(StatusCode::OK, media_type, payload))
    }

    /// The document of a refusal; a 304 has none.
    pub fn refusal(error: &ApiError) -> Self {
        let status = error.status();
        if status == StatusCode::NOT_MODIFIED {
            return Reply::empty(status);
        }
        Reply::json_with(status, &berth_api::error::ErrorResponse { message: error.message.clone() })
    }

    /// The same reply with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Reply::Http(response) = &mut self {
            response.headers_mut().insert(name, value);
        }
        self
    }
}

/// A document as one line, as it stands in every JSON answer.
pub fn line(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = self::document(document);
    bytes.push(b'\n');
    bytes
}

/// A document as text without a line end, as it stands inside another.
pub fn document(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents of the API have text keys only")
}

fn typed(status: StatusCode, media_type: &'static str, payload: Payload) -> Response<Payload> {
    let mut response = response(status, payload);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn response(status: StatusCode, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    response
}

/// Blocking code's end of a streamed body: collects writes into chunks of a fair size.
pub struct BodyWriter {
    chunks: Chunks,
    buffer: Vec<u8>,
}

/// How much is collected before it is sent.
const WRITE_CHUNK: usize = 64 << 10;

impl BodyWriter {
    /// A writer into a streamed body.
    pub fn new(chunks: Chunks) -> Self {
        BodyWriter { chunks, buffer: Vec::new() }
    }

    /// Sends what is left, and on an error breaks the body off so that the client sees that it is not whole.
    pub fn finish(mut self, result: Result<(), impl std::fmt::Display>) {
        let outcome = match result {
            Ok(()) => io::Write::flush(&mut self),
            Err(error) => self.chunks.blocking_send(Err(io::Error::other(error.to_string()))).map_err(io::Error::other),
        };
        // A client that is gone needs no answer.
        drop(outcome);
    }
}

impl io::Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // All at once: growing step by step would copy what is there each time.
        self.buffer.reserve(bytes.len().max(WRITE_CHUNK - self.buffer.len()));
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.chunks.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
