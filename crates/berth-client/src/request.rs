//! A request as it is put together, sent, and answered.

use std::io::{self, Read};

use serde::Serialize;

use crate::client::Client;
use crate::error::ClientError;
use crate::http::connection::Connection;
use crate::http::response::Response;

/// The body of a request.
pub enum Body<'b> {
    /// None at all.
    Empty,
    /// A document, or anything else that fits in memory and can be sent again.
    Bytes(Vec<u8>),
    /// A stream of unknown length, sent in chunks: an archive.
    Stream(&'b mut dyn Read),
}

/// A request that is being put together.
pub struct Request<'c, 'b> {
    client: &'c Client,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Body<'b>,
}

impl<'c, 'b> Request<'c, 'b> {
    pub(crate) fn new(client: &'c Client, method: &'static str, path: String) -> Request<'c, 'b> {
        Request { client, method, path, headers: Vec::new(), body: Body::Empty }
    }

    /// Adds `name=value` to the query, both escaped.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        escape_into(&mut self.path, name, false);
        self.path.push('=');
        escape_into(&mut self.path, value, false);
        self
    }

    /// Adds `name=value` if there is a value.
    pub fn query_opt(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds `name=1` if `on`.
    pub fn flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends a JSON document.
    pub fn json<T: Serialize + ?Sized>(mut self, document: &T) -> Self {
        let bytes = serde_json::to_vec(document).expect("API documents have text keys only");
        self.body = Body::Bytes(bytes);
        self.header("Content-Type", "application/json")
    }

    /// Sends a stream in chunks, for example a tar archive.
    pub fn stream(mut self, content_type: &'static str, reader: &'b mut dyn Read) -> Self {
        self.body = Body::Stream(reader);
        self.header("Content-Type", content_type)
    }

    /// Asks for the connection itself, to be used raw in both directions after the answer.
    pub fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade").header("Upgrade", "tcp")
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// # Errors
    /// [`ClientError::Daemon`] for every status from 400, with the daemon's message.
    pub fn send(self) -> Result<Response<'c>, ClientError> {
        self.dispatch()?.response()
    }

    /// Sends the request and does not wait: for requests whose answers come later, or together with others.
    pub fn dispatch(mut self) -> Result<InFlight<'c>, ClientError> {
        if matches!(self.body, Body::Stream(_)) {
            // This body cannot be sent twice: the version must be right the first time.
            self.client.settle_version()?;
        }
        // A connection that was kept may die under the request; a new one may not.
        let mut connection = match self.client.take_idle() {
            Some(connection) => connection,
            None => self.client.connect()?,
        };
        let body = std::mem::replace(&mut self.body, Body::Empty);
        let head = |request: &Self, extra: &str| request.head(extra);
        let sent = match body {
            Body::Empty => {
                // Go's client states the length of an empty POST, and daemons may insist on a length or a type.
                let length = if self.method == "POST" || self.method == "PUT" { "Content-Length: 0\r\n" } else { "" };
                let bytes = head(&self, length).into_bytes();
                Sent { result: connection.write_all(&bytes), repeatable: Some(Vec::new()) }
            }
            Body::Bytes(content) => {
                let mut bytes = head(&self, &format!("Content-Length: {}\r\n", content.len())).into_bytes();
                bytes.extend_from_slice(&content);
                Sent { result: connection.write_all(&bytes), repeatable: Some(content) }
            }
            Body::Stream(reader) => {
                let head = head(&self, "Transfer-Encoding: chunked\r\n");
                let result = connection.write_all(head.as_bytes());
                // A reader's error is ours, and is told at once; a writer's may have a better reason in the daemon's answer.
                let result = match result {
                    Ok(()) => send_chunks(&mut connection, reader)?,
                    failed => failed,
                };
                Sent { result, repeatable: None }
            }
        };
        self.in_flight(connection, sent)
    }

    fn in_flight(self, connection: Connection, sent: Sent) -> Result<InFlight<'c>, ClientError> {
        if let Err(source) = sent.result
            && !matches!(source.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        {
            return Err(ClientError::Broken { endpoint: self.client.endpoint().to_string(), source });
        }
        let Request { client, method, path, headers, .. } = self;
        Ok(InFlight { client, connection, method, path, headers, repeatable: sent.repeatable })
    }

    fn head(&self, extra: &str) -> String {
        let mut head = String::with_capacity(256 + self.path.len());
        head.push_str(self.method);
        head.push_str(" /v");
        head.push_str(&self.client.version().to_string());
        head.push_str(&self.path);
        head.push_str(" HTTP/1.1\r\nHost: ");
        head.push_str(self.client.authority());
        head.push_str("\r\nUser-Agent: ");
        head.push_str(self.client.user_agent());
        head.push_str("\r\n");
        for (name, value) in self.client.extra_headers() {
            push_header(&mut head, name, value);
        }
        for (name, value) in &self.headers {
            push_header(&mut head, name, value);
        }
        head.push_str(extra);
        head.push_str("\r\n");
        head
    }
}

/// What became of a request that was written.
struct Sent {
    result: io::Result<()>,
    /// The body, if it can be sent again.
    repeatable: Option<Vec<u8>>,
}

/// A line break in a value would begin another header.
fn push_header(head: &mut String, name: &str, value: &str) {
    head.push_str(name);
    head.push_str(": ");
    head.extend(value.chars().filter(|c| !c.is_control()));
    head.push_str("\r\n");
}

/// How much of a stream is sent as one chunk, in bytes.
const CHUNK: usize = 256 * 1024;
/// Room for the line before a chunk, which has its size in hex.
const SIZE_LINE: usize = 18;

/// The outer error is the reader's, the inner one the connection's.
fn send_chunks(connection: &mut Connection, reader: &mut dyn Read) -> Result<io::Result<()>, ClientError> {
    // Each chunk is put together in its place, and leaves in one write.
    let mut buffer = vec![0; SIZE_LINE + CHUNK + 2];
    loop {
        let count = match reader.read(&mut buffer[SIZE_LINE..SIZE_LINE + CHUNK]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if count == 0 {
            return Ok(connection.write_all(b"0\r\n\r\n"));
        }
        let line = format!("{count:x}\r\n");
        let start = SIZE_LINE - line.len();
        buffer[start..SIZE_LINE].copy_from_slice(line.as_bytes());
        let end = SIZE_LINE + count;
        buffer[end..end + 2].copy_from_slice(b"\r\n");
        if let Err(error) = connection.write_all(&buffer[start..end + 2]) {
            return Ok(Err(error));
        }
    }
}

/// A request that was sent and not yet answered.
pub struct InFlight<'c> {
    client: &'c Client,
    connection: Connection,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    repeatable: Option<Vec<u8>>,
}

impl<'c> InFlight<'c> {
    /// Waits for an answer whose body says nothing.
    pub fn finish(self) -> Result<(), ClientError> {
        self.response()?.finish()
    }

    /// Waits for the head of the answer.
    ///
    /// # Errors
    /// [`ClientError::Daemon`] for every status from 400, with the daemon's message.
    pub fn response(mut self) -> Result<Response<'c>, ClientError> {
        let head = match self.connection.read_head() {
            Ok(head) => head,
            Err(ClientError::Local(source)) => {
                return Err(ClientError::Broken { endpoint: self.client.endpoint().to_string(), source });
            }
            Err(other) => return Err(other),
        };
        let lowered = self.client.learn_version(head.header("api-version"));
        let request = format!("{} {}", self.method, self.path);
        let mut response = Response::new(self.client, self.connection, head, request);
        if response.status() < 400 {
            return Ok(response);
        }
        let message = response.error_message();
        match self.repeatable {
            Some(body) if lowered && response.status() == 400 && message.contains("is too new") => {
                let body = if body.is_empty() { Body::Empty } else { Body::Bytes(body) };
                let again =
                    Request { client: self.client, method: self.method, path: self.path, headers: self.headers, body };
                again.send()
            }
            _ => Err(ClientError::Daemon { status: response.status(), message }),
        }
    }
}

/// Escapes `text` for a path segment or, without `slashes`, for a query.
pub(crate) fn escape_into(out: &mut String, text: &str, slashes: bool) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' | b':' | b'@' if slashes => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}
