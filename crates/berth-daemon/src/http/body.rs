//! Request bodies: JSON documents under the API's Content-Type rules, and uploads that blocking code reads.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::http::error::ApiError;

/// The most that a JSON document may take: real ones are kilobytes, a hostile one must not fill the memory.
const MAX_DOCUMENT: usize = 64 << 20;
/// Chunks of an upload between the network and the thread that reads it.
const UPLOAD_CHUNKS: usize = 4;

/// The body of a request: what a plain endpoint gets whole, and an upload piece by piece.
pub enum RequestBody {
    /// All of it. Read before the endpoint runs, so that a client that is refused has always sent its request to the end.
    Whole(Bytes),
    /// Still on its way.
    Incoming(Incoming),
}

/// Reads a JSON document that may be missing; an empty body is `None`.
///
/// # Errors
/// The rules of B016: a wrong Content-Type, malformed JSON, text after the document.
pub fn document<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<Option<T>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    check_content_type(headers)?;
    parse(body).map(Some)
}

/// Parses one JSON document that must fill the whole text.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let document = T::deserialize(&mut deserializer).map_err(|error| invalid_json(&error))?;
    match deserializer.end() {
        Ok(()) => Ok(document),
        Err(_) => Err(ApiError::invalid("unexpected content after JSON")),
    }
}

fn invalid_json(error: &serde_json::Error) -> ApiError {
    if error.is_eof() {
        return ApiError::invalid("invalid JSON: unexpected EOF");
    }
    ApiError::invalid(format!("invalid JSON: {error}"))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let media = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "application/json" => Ok(()),
        "" => Err(ApiError::invalid(format!("malformed Content-Type header ({given}): mime: no media type"))),
        other => {
            Err(ApiError::invalid(format!("unsupported Content-Type header ({other}): must be 'application/json'")))
        }
    }
}

/// How much of a body is read that nobody wants, for how long: a client reads its refusal after it has sent everything.
const DRAINED: usize = 256 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// Reads the body of a request that is refused in any case.
pub async fn drain(mut body: Incoming) {
    let all = async {
        let mut count = 0;
        while let Some(Ok(frame)) = body.frame().await {
            count += frame.data_ref().map_or(0, Bytes::len);
            if count > DRAINED {
                return;
            }
        }
    };
    // Whoever takes longer may not see why it was refused.
    drop(tokio::time::timeout(DRAIN_TIME, all).await);
}

/// Reads a whole body into memory.
///
/// # Errors
/// A refusal if it is larger than any document can be, or breaks off.
pub async fn collect(mut body: Incoming) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::invalid(format!("reading the request body: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > MAX_DOCUMENT {
                return Err(ApiError::invalid(format!("the request body is larger than {MAX_DOCUMENT} bytes")));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// An upload as blocking code reads it: it waits for the network chunk by chunk.
pub struct Upload {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Upload {
    /// Starts moving a body towards a reader on another thread; it stops when the reader is dropped.
    pub fn new(mut body: Incoming) -> Self {
        let (sender, chunks) = mpsc::channel(UPLOAD_CHUNKS);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let chunk = frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(io::Error::other);
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        Upload { chunks, current: Bytes::new() }
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_json_is_accepted_as_a_document() {
        let refused = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            check_content_type(&headers).err().map(|error| error.message)
        };
        assert_eq!(refused(Some("application/json")), None);
        assert_eq!(refused(Some("application/json; charset=utf-8")), None);
        let malformed = |given: &str| Some(format!("malformed Content-Type header ({given}): mime: no media type"));
        assert_eq!(refused(None), malformed(""));
        assert_eq!(refused(Some(";;")), malformed(";;"));
        let unsupported = "unsupported Content-Type header (text/plain): must be 'application/json'".to_owned();
        assert_eq!(refused(Some("text/plain")), Some(unsupported));
    }

    #[test]
    fn a_document_must_be_whole_and_alone() {
        let refused = |text: &str| parse::<serde_json::Value>(text.as_bytes()).expect_err(text).message;
        assert_eq!(refused("{"), "invalid JSON: unexpected EOF");
        assert_eq!(refused(r#"{"a":1} x"#), "unexpected content after JSON");
        assert_eq!(refused(r#"{"a":1}{"b":2}"#), "unexpected content after JSON");
        assert!(parse::<serde_json::Value>(b" {} \n").is_ok());
    }
}
