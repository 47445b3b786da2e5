//! The head of an answer: its status and headers.

use std::io::{self, Read};

use crate::Buffered;

/// More headers than this are nobody's answer.
const MOST_HEADERS: usize = 100;

/// Status and headers of an answer. Names are kept in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Whether the connection can be used again behind the body.
    pub keep_alive: bool,
    headers: Vec<(String, String)>,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// What came is not HTTP.
    #[error("malformed HTTP response: {0}")]
    Malformed(httparse::Error),
    /// It does not end.
    #[error("malformed HTTP response: its head is too long")]
    TooLong,
    /// The stream failed, or ended before the head did.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Head {
    /// Reads the head of an answer of `limit` bytes at most, passing over interim ones.
    ///
    /// # Errors
    /// [`HeadError`]; a stream that ends too early is an I/O error of the kind `UnexpectedEof`.
    pub fn read<S: Read>(connection: &mut Buffered<S>, limit: usize) -> Result<Self, HeadError> {
        loop {
            if let Some((head, length)) = Self::parse(connection.unused()).map_err(HeadError::Malformed)? {
                connection.consume(length);
                // 100 to 199 announce another head, except 101: there the protocol changes.
                if head.status >= 200 || head.status == 101 {
                    return Ok(head);
                }
                continue;
            }
            if connection.unused().len() > limit {
                return Err(HeadError::TooLong);
            }
            if connection.fill()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF").into());
            }
        }
    }

    /// The head that `bytes` begin with, and its length; `None` while it has no end.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, httparse::Error> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = parsed.parse(bytes)? else { return Ok(None) };
        let owned =
            |h: &httparse::Header<'_>| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned());
        let headers = parsed.headers.iter().map(owned).collect();
        let mut head = Self { status: parsed.code.unwrap_or_default(), keep_alive: false, headers };
        let closes = head.all("connection").any(|value| value.to_ascii_lowercase().contains("close"));
        head.keep_alive = parsed.version == Some(1) && !closes;
        Ok(Some((head, length)))
    }

    /// The value of a header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> (Result<Head, HeadError>, Vec<u8>) {
        let mut connection = Buffered::new(answer.as_bytes());
        let head = Head::read(&mut connection, 1000);
        (head, connection.into_parts().1)
    }

    #[test]
    fn an_interim_answer_is_passed_over_and_names_become_lower_case() {
        let (head, rest) = read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nApi-Version: 1.56\r\n\r\nrest");
        let head = head.unwrap();
        assert_eq!((head.status, head.header("api-version"), head.keep_alive), (200, Some("1.56"), true));
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn a_taken_over_connection_keeps_what_came_with_its_head() {
        let (head, rest) = read("HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nhello");
        assert_eq!((head.unwrap().status, rest.as_slice()), (101, &b"hello"[..]));
    }

    #[test]
    fn who_closes_is_not_asked_again() {
        let closes = |head: &str| !read(&format!("{head}\r\n\r\n")).0.unwrap().keep_alive;
        assert!(closes("HTTP/1.1 200 OK\r\nConnection: Close") && closes("HTTP/1.0 200 OK"));
        assert!(!closes("HTTP/1.1 200 OK\r\nConnection: keep-alive"));
    }

    #[test]
    fn what_is_not_http_or_does_not_end_is_an_error() {
        assert!(matches!(read("SSH-2.0-x\r\n\r\n").0, Err(HeadError::Malformed(_))));
        assert!(matches!(read("HTTP/1.1 200 OK\r\n").0, Err(HeadError::Io(_))));
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2000));
        assert!(matches!(read(&long).0, Err(HeadError::TooLong)));
    }
}
