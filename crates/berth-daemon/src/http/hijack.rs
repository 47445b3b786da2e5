//! Connections that leave HTTP: attach, exec start and the websocket take the raw stream after a head of their own.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use berth_engine::attach::DetachScanner;
use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::http::call::Call;
use crate::http::error::ApiError;

/// The media type of framed output, of which clients learn only when they upgrade and speak 1.42 or newer.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// The media type of raw output, and of framed output for everybody else.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// What is moved at once in each direction.
const BUFFER: usize = 16 << 10;

/// Any two-way stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A client's connection after HTTP.
pub type RawStream = Box<dyn Stream>;
/// What happens on it.
type Run = Box<dyn FnOnce(RawStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A connection to take over: the bytes of the head, then whatever runs on the stream.
pub struct Hijack {
    head: Vec<u8>,
    run: Run,
}

impl Hijack {
    /// Sends `head` as it is and then runs on the stream.
    pub fn new<F, Fut>(head: impl Into<Vec<u8>>, run: F) -> Self
    where
        F: FnOnce(RawStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Hijack { head: head.into(), run: Box::new(move |stream| Box::pin(run(stream))) }
    }

    /// A refusal of a client that expects a raw stream: a head with the status, one line, the end (B038).
    pub fn refusal(error: &ApiError) -> Self {
        let status = error.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let head = format!("HTTP/1.1 {} {reason}\r\nContent-Type: {RAW}\r\n\r\n{}\r\n", status.as_u16(), error.message);
        Hijack::new(head, |mut stream| async move { drop(stream.shutdown().await) })
    }

    /// Writes the head and runs. An error is the client's going away, which ends everything here.
    pub async fn serve(self, mut stream: RawStream) -> io::Result<()> {
        stream.write_all(&self.head).await?;
        stream.flush().await?;
        (self.run)(stream).await;
        Ok(())
    }
}

/// Whether output has frames that name their stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A terminal: bytes as they are.
    Raw,
    /// Each piece has an 8-byte header.
    Multiplexed,
}

/// The media type of a stream for this client (B032).
pub fn media_type(call: &Call, framing: Framing) -> &'static str {
    let knows = call.wants_upgrade() && !call.version.before(42);
    if framing == Framing::Multiplexed && knows { MULTIPLEXED } else { RAW }
}

/// The head that opens a raw stream: 101 when the client offered to upgrade, 200 otherwise (B031).
pub fn open_head(call: &Call, framing: Framing, further: &str) -> String {
    let media_type = media_type(call, framing);
    if call.wants_upgrade() {
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: {media_type}\r\n{upgrade}{further}\r\n")
    } else {
        format!("HTTP/1.1 {} OK\r\nContent-Type: {media_type}\r\n{further}\r\n", StatusCode::OK.as_u16())
    }
}

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The container's side ended, or the client is gone.
    Closed,
    /// The client typed its detach keys.
    Detached,
}

/// Moves bytes both ways until the container's side ends, the client is gone, or it detaches.
///
/// The end of the client's input is passed on and nothing more: output goes on to its end (B035). The client's connection ends after `settled`:
/// whoever sees it end may ask at once how the process ended.
pub async fn relay<C>(
    client: RawStream,
    container: C,
    mut keys: Option<DetachScanner>,
    settled: impl Future<Output = ()>,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_container, mut to_container) = tokio::io::split(container);
    let input = async {
        let mut buffer = vec![0; BUFFER];
        // A container that no longer reads is no reason to stop showing its output.
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let (bytes, detach) = match &mut keys {
                None => (Cow::Borrowed(&buffer[..count]), false),
                Some(keys) => {
                    let scanned = keys.scan(&buffer[..count]);
                    (Cow::Owned(scanned.pass), scanned.detach)
                }
            };
            if to_container.write_all(&bytes).await.is_err() {
                break;
            }
            if detach {
                return;
            }
        }
        drop(to_container.shutdown().await);
        std::future::pending::<()>().await;
    };
    let output = async {
        if copy(&mut from_container, &mut to_client).await.is_ok() {
            settled.await;
        }
    };
    let ended = tokio::select! {
        () = input => Ended::Detached,
        () = output => Ended::Closed,
    };
    drop(to_client.shutdown().await);
    ended
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            count => {
                to.write_all(&buffer[..count]).await?;
                to.flush().await?;
            }
        }
    }
}

/// A stream that first gives the bytes that were read too far.
pub struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    /// Puts bytes before a stream.
    pub fn new(prefix: Bytes, stream: S) -> Self {
        Prefixed { prefix, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Reads the next frame of a multiplexed stream: its stream's number and its payload. `None` at the end.
pub async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 8];
    match from.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload).await?;
    Ok(Some((head[0], payload)))
}

/// Puts a frame's header before its payload (B033): stream 0 stdin, 1 stdout, 2 stderr, 3 the engine's error.
pub fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is far below 4 GiB");
    let mut bytes = Vec::with_capacity(8 + payload.len());
    bytes.extend_from_slice(&[stream, 0, 0, 0]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_goes_on_after_the_client_closed_its_input() {
        let (client, mut user) = tokio::io::duplex(64);
        let (container, mut process) = tokio::io::duplex(64);
        let relayed = tokio::spawn(relay(Box::new(client), container, None, std::future::ready(())));
        user.write_all(b"in").await.expect("input");
        user.shutdown().await.expect("half close");
        let mut input = Vec::new();
        process.read_to_end(&mut input).await.expect("input ends");
        assert_eq!(input, b"in");
        process.write_all(b"out").await.expect("output");
        drop(process);
        let mut output = Vec::new();
        user.read_to_end(&mut output).await.expect("output ends");
        assert_eq!(output, b"out");
        assert_eq!(relayed.await.expect("relay ends"), Ended::Closed);
    }

    #[tokio::test]
    async fn detach_keys_end_the_stream_and_leave_the_container_alone() {
        let (client, mut user) = tokio::io::duplex(64);
        let (container, mut process) = tokio::io::duplex(64);
        let keys = DetachScanner::new(berth_engine::attach::DetachKeys::default());
        let relayed = tokio::spawn(relay(Box::new(client), container, Some(keys), std::future::ready(())));
        user.write_all(b"ls\x10\x11").await.expect("keys");
        assert_eq!(relayed.await.expect("relay ends"), Ended::Detached);
        let mut output = Vec::new();
        user.read_to_end(&mut output).await.expect("the connection ends");
        let mut input = Vec::new();
        process.read_to_end(&mut input).await.expect("input");
        assert_eq!((output, input), (Vec::new(), b"ls".to_vec()));
    }

    #[tokio::test]
    async fn frames_are_read_back() {
        let bytes = [frame(1, b"out"), frame(2, b"")].concat();
        let mut reader = bytes.as_slice();
        assert_eq!(read_frame(&mut reader).await.expect("frame"), Some((1, b"out".to_vec())));
        assert_eq!(read_frame(&mut reader).await.expect("frame"), Some((2, Vec::new())));
        assert_eq!(read_frame(&mut reader).await.expect("end"), None);
    }

    #[test]
    fn a_frame_begins_with_its_stream_and_length() {
        assert_eq!(frame(2, b"err\n"), [2, 0, 0, 0, 0, 0, 0, 4, b'e', b'r', b'r', b'\n']);
    }
}
