//! An answer: status, headers, and a body made of bytes and ranges of files.

use std::{fs::File, io, sync::Arc};

use ::http::StatusCode;
use bytes::Bytes;
use tokio::sync::watch;

use crate::http::transport::Transport;

/// Bodies up to this many bytes leave together with the head.
const JOINED: usize = 64 << 10;

/// A piece of a body.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file.
    File {
        /// The file.
        file: Arc<File>,
        /// Where it begins.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// A whole file that is still being written.
    Growing {
        /// The file.
        file: Arc<File>,
        /// How many bytes it will have.
        length: u64,
        /// How far it is.
        growth: watch::Receiver<Growth>,
    },
    /// So many bytes that nobody asked for: only the head is sent.
    Promised(u64),
}

/// How far a file is that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// So many bytes are there.
    Bytes(u64),
    /// It is whole.
    Done,
    /// It will never be.
    Failed,
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File { length, .. } | Piece::Growing { length, .. } | Piece::Promised(length) => *length,
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    headers: Vec<(&'static str, String)>,
    pieces: Vec<Piece>,
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), pieces: Vec::new() }
    }

    /// An answer with text or a document.
    pub fn text(status: StatusCode, media_type: &str, body: impl Into<Bytes>) -> Self {
        Self::empty(status).with("Content-Type", media_type).piece(Piece::Bytes(body.into()))
    }

    /// A JSON document.
    pub fn json(status: StatusCode, document: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(document).expect("documents have string keys only");
        Self::text(status, "application/json", body)
    }

    /// Adds a header. Its value must have passed as a header, or be made by us.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value: String = value.into();
        // A line's end in a value would let whoever chose it write headers of his own.
        debug_assert!(!value.contains(['\r', '\n']), "{name}: {value:?}");
        self.headers.push((name, value.replace(['\r', '\n'], " ")));
        self
    }

    /// Adds a piece to the body.
    #[must_use]
    pub fn piece(mut self, piece: Piece) -> Self {
        self.pieces.push(piece);
        self
    }

    /// Bytes of the body.
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum()
    }

    /// Writes the answer; without its body where only the head was asked for.
    pub async fn send(&self, transport: &mut Transport, only_head: bool, keep_alive: bool) -> io::Result<()> {
        let mut out = self.head(keep_alive).into_bytes();
        if only_head {
            return transport.send(&out).await;
        }
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) if out.len() + bytes.len() <= JOINED => out.extend_from_slice(bytes),
                Piece::Bytes(bytes) => {
                    transport.send(&out).await?;
                    out.clear();
                    transport.send(bytes).await?;
                }
                Piece::File { file, offset, length } => {
                    transport.send(&out).await?;
                    out.clear();
                    transport.send_file(file, *offset, *length).await?;
                }
                Piece::Growing { file, length, growth } => {
                    transport.send(&out).await?;
                    out.clear();
                    send_growing(transport, file, *length, growth.clone()).await?;
                }
                Piece::Promised(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        transport.send(&out).await
    }

    fn head(&self, keep_alive: bool) -> String {
        use std::fmt::Write as _;
        let mut head = String::with_capacity(512);
        let reason = self.status.canonical_reason().unwrap_or("Unknown");
        let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", self.status.as_u16());
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        // RFC 9110, section 8.6: a 204 has no length, and a 304 would have that of the whole answer.
        if !matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            let _ = write!(head, "Content-Length: {}\r\n", self.length());
        }
        let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let _ = write!(head, "Date: {now}\r\n");
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

/// Sends what is there, and waits for more.
async fn send_growing(
    transport: &mut Transport,
    file: &File,
    length: u64,
    mut growth: watch::Receiver<Growth>,
) -> io::Result<()> {
    let mut sent = 0;
    while sent < length {
        let there = match *growth.borrow_and_update() {
            Growth::Bytes(bytes) => bytes.min(length),
            Growth::Done => length,
            // The client sees a broken connection, which it may resume.
            Growth::Failed => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if there > sent {
            transport.send_file(file, sent, there - sent).await?;
            sent = there;
        } else if growth.changed().await.is_err() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    Ok(())
}
