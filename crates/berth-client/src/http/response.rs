//! An answer of the daemon, whose body is still to be read.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

use berth_http::{Head, Remaining};
use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::elements::Elements;
use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Stream;

/// The most bytes for which room is made on the word of a header alone.
const LARGEST_ROOM: u64 = 16 << 20;

/// An answer with a status below 400. Reading it to the end gives its connection back to the client; dropping it before closes it.
#[derive(Debug)]
pub struct Response<'c> {
    client: &'c Client,
    connection: Option<Connection>,
    head: Head,
    remaining: Remaining,
    request: String,
}

impl<'c> Response<'c> {
    pub(crate) fn new(client: &'c Client, connection: Connection, head: Head, request: String) -> Response<'c> {
        let remaining = Remaining::of(&head, request.starts_with("HEAD "));
        let mut response = Response { client, connection: Some(connection), head, remaining, request };
        response.release_if_done();
        response
    }

    /// The status, below 400.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Reads the whole body as one JSON document.
    pub fn json<T: DeserializeOwned>(mut self) -> Result<T, ClientError> {
        let bytes = self.read_all()?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Document { request: self.request.clone(), source })
    }

    /// Reads the whole body as a JSON list, whose elements are then parsed one at a time.
    pub fn elements<T: DeserializeOwned>(mut self) -> Result<Elements<T>, ClientError> {
        let text = self.read_all()?;
        Ok(Elements::new(self.request, text))
    }

    /// Reads the whole body.
    pub fn read_all(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut bytes = match self.remaining {
            Remaining::Length(length) => Vec::with_capacity(length.min(LARGEST_ROOM) as usize),
            _ => Vec::new(),
        };
        match self.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(ClientError::Broken { endpoint: self.client.endpoint().to_string(), source }),
        }
    }

    /// Reads the body to its end and forgets it.
    pub fn finish(mut self) -> Result<(), ClientError> {
        self.read_all().map(drop)
    }

    /// The documents of a JSON stream, one after another as they come: progress, events, statistics.
    pub fn documents<T: DeserializeOwned>(self) -> Documents<'c, T> {
        Documents { reader: BufReader::new(self), line: Vec::new(), kind: std::marker::PhantomData }
    }

    /// Takes the connection over, with what has already come of the stream. For answers to attach and exec.
    pub fn into_stream(mut self) -> (Stream, Vec<u8>) {
        match self.connection.take() {
            Some(connection) => connection.into_parts(),
            None => unreachable!("a connection is given back only when a body of known length was read"),
        }
    }

    /// Takes the connection over only if the daemon agreed to: status 101, or 200 with a body to the end of the connection.
    pub fn is_stream(&self) -> bool {
        self.connection.is_some() && (self.head.status == 101 || self.remaining == Remaining::UntilClose)
    }

    /// Whether part of the body is read ahead, so that waiting for the descriptor would wait for the wrong thing.
    pub fn has_buffered(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| !connection.unused().is_empty())
    }

    fn release_if_done(&mut self) {
        if self.remaining == Remaining::Nothing
            && self.head.status != 101
            && let Some(connection) = self.connection.take()
            && self.head.keep_alive
        {
            self.client.give_back(connection);
        }
    }

    pub(crate) fn error_message(&mut self) -> String {
        #[derive(serde::Deserialize)]
        struct ErrorDocument {
            message: String,
        }
        let text = self.read_all().unwrap_or_default();
        match serde_json::from_slice::<ErrorDocument>(&text) {
            Ok(document) if !document.message.trim().is_empty() => document.message.trim().to_owned(),
            _ if !text.trim_ascii().is_empty() => String::from_utf8_lossy(text.trim_ascii()).into_owned(),
            _ => format!("request {} returned status {} without a message", self.request, self.head.status),
        }
    }
}

impl Read for Response<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(connection) = &mut self.connection else { return Ok(0) };
        let count = connection.read_body(&mut self.remaining, buffer)?;
        self.release_if_done();
        Ok(count)
    }
}

impl AsFd for Response<'_> {
    /// The descriptor to wait on for more of the body.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.connection {
            Some(connection) => connection.as_fd(),
            None => unreachable!("a finished answer has nothing to wait for: ask has_buffered first"),
        }
    }
}

/// The documents of a JSON stream, see [`Response::documents`].
#[derive(Debug)]
pub struct Documents<'c, T> {
    reader: BufReader<Response<'c>>,
    line: Vec<u8>,
    kind: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Iterator for Documents<'_, T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line.clear();
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let parsed = serde_json::from_slice(self.line.trim_ascii());
                    let request = || self.reader.get_ref().request.clone();
                    return Some(parsed.map_err(|source| ClientError::Document { request: request(), source }));
                }
                Err(source) => {
                    let endpoint = self.reader.get_ref().client.endpoint().to_string();
                    return Some(Err(ClientError::Broken { endpoint, source }));
                }
            }
        }
    }
}
