//! The head of a request: what is asked, and how its body is framed.
//!
//! Strict where leniency lets two readers disagree about where a request ends (RFC 9112, section 6.3).

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::http::query::{self, Query};

/// Headers of one request.
const MAX_HEADERS: usize = 64;
/// Bytes of one head.
pub const MAX_HEAD: usize = 64 << 10;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks, each with its length.
    Chunked,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path, without encoding.
    pub path: String,
    /// The part after `?`.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the connection may serve another request.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// A request that cannot be answered but with this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub StatusCode, pub &'static str);

const fn bad(reason: &'static str) -> Malformed {
    Malformed(StatusCode::BAD_REQUEST, reason)
}

impl Head {
    /// Reads a head from the start of `bytes`: it and its length, or nothing as long as it is not whole.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
        let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut storage);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(Malformed(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large"));
            }
            Err(_) => return Err(bad("this is not HTTP")),
        };
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for field in request.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad("a header's name"))?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| bad("a header's value"))?;
            headers.append(name, value);
        }
        let is_1_1 = request.version == Some(1);
        if is_1_1 && headers.get_all(header::HOST).iter().count() != 1 {
            return Err(bad("exactly one Host header is needed"));
        }
        let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes()).map_err(|_| bad("method"))?;
        let (path, query) = split_target(request.path.unwrap_or_default())?;
        let head = Head {
            framing: framing(&headers, is_1_1)?,
            keep_alive: keeps_alive(&headers, is_1_1),
            expects_continue: is_1_1 && has_word(&headers, header::EXPECT, "100-continue"),
            method,
            path,
            query,
            headers,
        };
        Ok(Some((head, length)))
    }

    /// A header's text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Path and query of a target in origin form or, as proxies get it, in absolute form.
fn split_target(target: &str) -> Result<(String, Query), Malformed> {
    let target = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    if !target.starts_with('/') {
        return Err(bad("the target must be a path"));
    }
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok((query::decode(path).ok_or(bad("the path is badly encoded"))?, Query::parse(query)))
}

fn framing(headers: &HeaderMap, is_1_1: bool) -> Result<Framing, Malformed> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let coding = headers.get(header::TRANSFER_ENCODING);
    match (coding, lengths.next(), lengths.next()) {
        (None, None, _) => Ok(Framing::Length(0)),
        (None, Some(length), None) => {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let length = digits.and_then(|text| text.parse().ok()).ok_or(bad("Content-Length is not a number"))?;
            Ok(Framing::Length(length))
        }
        (Some(coding), None, _) if is_1_1 && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), None, _) => Err(Malformed(StatusCode::NOT_IMPLEMENTED, "only chunked transfer is known")),
        _ => Err(bad("contradicting lengths")),
    }
}

fn keeps_alive(headers: &HeaderMap, is_1_1: bool) -> bool {
    if is_1_1 { !has_word(headers, header::CONNECTION, "close") } else { false }
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, Malformed> {
        let bytes = text.replace('\n', "\r\n");
        Head::parse(bytes.as_bytes()).map(|found| found.expect("whole").0)
    }

    #[test]
    fn a_request_is_read() {
        let head = head("PUT /v2/a/blobs/uploads/1?digest=sha256%3Aab HTTP/1.1\nHost: x\nContent-Length: 3\nExpect: 100-continue\n\n")
            .expect("fine");
        assert_eq!((head.method.as_str(), head.path.as_str()), ("PUT", "/v2/a/blobs/uploads/1"));
        assert_eq!((head.query.get("digest"), head.framing), (Some("sha256:ab"), Framing::Length(3)));
        assert!(head.keep_alive && head.expects_continue);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for fields in [
            "Host: x\nContent-Length: 3\nContent-Length: 3\n",
            "Host: x\nContent-Length: 3\nTransfer-Encoding: chunked\n",
            "Host: x\nContent-Length: +3\n",
            "Host: x\nContent-Length: 3, 3\n",
            "Host: x\nTransfer-Encoding: gzip, chunked\n",
            "Host: x\nHost: y\n",
            "",
        ] {
            assert!(head(&format!("POST / HTTP/1.1\n{fields}\n")).is_err(), "{fields}");
        }
    }

    #[test]
    fn connections_end_when_the_client_says_so() {
        assert!(!head("GET / HTTP/1.1\nHost: x\nConnection: Close, te\n\n").expect("fine").keep_alive);
        assert!(!head("GET / HTTP/1.0\n\n").expect("fine").keep_alive);
    }

    #[test]
    fn targets_are_paths() {
        assert_eq!(head("GET http://x/v2/?n=1 HTTP/1.1\nHost: x\n\n").expect("fine").path, "/v2/");
        assert!(head("GET v2 HTTP/1.1\nHost: x\n\n").is_err());
        assert!(head("GET /%zz HTTP/1.1\nHost: x\n\n").is_err());
    }
}
