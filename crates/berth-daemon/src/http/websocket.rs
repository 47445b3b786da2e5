//! The server's side of a websocket (RFC 6455), as much of it as attach needs: binary frames out, input frames in.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_engine::logs::LogReader;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::http::call::Call;
use crate::http::hijack::{Framing, read_frame};

/// What RFC 6455 appends to a client's key.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest message that a client may send: input is typed or piped, not uploaded.
const MAX_MESSAGE: u64 = 1 << 20;
/// What is moved from the container at once.
const BUFFER: usize = 16 << 10;
/// The close frame of a container that ended: status 1000, normal.
const CLOSE_NORMAL: [u8; 4] = [0x88, 0x02, 0x03, 0xe8];

/// Opcodes of frames.
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The head that accepts a websocket; `None` if the request is no handshake.
pub fn accept_head(call: &Call) -> Option<String> {
    let offered = call.header("upgrade")?.eq_ignore_ascii_case("websocket");
    let key =
        call.header("sec-websocket-key").filter(|_| offered && call.header("sec-websocket-version") == Some("13"))?;
    let accept = accept_key(key);
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

/// The answer to a request that is no handshake, as the reference engine gives it.
pub const NO_HANDSHAKE: &str = "HTTP/1.1 400 Bad Request\r\n\r\nnot websocket protocol";

fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{MAGIC}")))
}

/// Sends what was written before, then moves bytes both ways: the output of both streams in binary frames, the client's
/// messages as input.
pub async fn relay<C, S>(mut client: C, replay: Option<LogReader>, container: Option<S>, framing: Framing)
where
    C: AsyncRead + AsyncWrite + Send + Unpin,
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    if let Some(mut replay) = replay {
        while let Some(Ok(line)) = replay.next().await {
            if client.write_all(&frame(BINARY, &line.text)).await.is_err() {
                return;
            }
        }
    }
    match container {
        Some(container) => live(client, container, framing).await,
        // The client may be gone already.
        None => {
            drop(client.write_all(&CLOSE_NORMAL).await);
            drop(client.shutdown().await);
        }
    }
}

async fn live<C, S>(client: C, container: S, framing: Framing)
where
    C: AsyncRead + AsyncWrite + Send + Unpin,
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (mut from_client, to_client) = tokio::io::split(client);
    let (mut from_container, mut to_container) = tokio::io::split(container);
    // Pongs and output share the client's side; a frame is written whole before the next.
    let to_client = Mutex::new(to_client);
    let input = async {
        while let Ok(Some(message)) = read_message(&mut from_client).await {
            let sent = match message {
                Message::Data(bytes) => to_container.write_all(&bytes).await,
                Message::Ping(bytes) => to_client.lock().await.write_all(&frame(PONG, &bytes)).await,
            };
            if sent.is_err() {
                break;
            }
        }
    };
    let output = async {
        let mut buffer = vec![0; BUFFER];
        while let Some(payload) = output_of(&mut from_container, framing, &mut buffer).await {
            if to_client.lock().await.write_all(&frame(BINARY, &payload)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = input => {}
        () = output => {}
    }
    let mut to_client = to_client.lock().await;
    drop(to_client.write_all(&CLOSE_NORMAL).await);
    drop(to_client.shutdown().await);
}

/// The next piece of output without its frame; `None` at the end.
async fn output_of(from: &mut (impl AsyncRead + Unpin), framing: Framing, buffer: &mut [u8]) -> Option<Vec<u8>> {
    match framing {
        Framing::Raw => match from.read(buffer).await {
            Ok(count) if count > 0 => Some(buffer[..count].to_vec()),
            _ => None,
        },
        Framing::Multiplexed => read_frame(from).await.ok().flatten().map(|(_, payload)| payload),
    }
}

/// A frame from the server: never masked, never fragmented.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => bytes.push(short),
        (_, Ok(medium)) => {
            bytes.push(126);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

#[derive(Debug, PartialEq, Eq)]
enum Message {
    Data(Vec<u8>),
    Ping(Vec<u8>),
}

/// Reads one frame of the client; a fragment counts as a message, since input is a stream of bytes. `None` at the end.
async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
    loop {
        let mut head = [0; 2];
        from.read_exact(&mut head).await?;
        let length = match head[1] & 0x7f {
            126 => u64::from(from.read_u16().await?),
            127 => from.read_u64().await?,
            short => u64::from(short),
        };
        let length = usize::try_from(length).ok().filter(|length| *length as u64 <= MAX_MESSAGE);
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "message too long"))?;
        let mut mask = [0; 4];
        // RFC 6455, section 5.1: a client that does not mask is to be cut off.
        if head[1] & 0x80 == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "unmasked frame"));
        }
        from.read_exact(&mut mask).await?;
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match head[0] & 0x0f {
            CLOSE => return Ok(None),
            PING => return Ok(Some(Message::Ping(payload))),
            0 | TEXT | BINARY => return Ok(Some(Message::Data(payload))),
            _ => {}
        }
    }
}

/// Reads frames to their end, or to the first that is none.
#[cfg(feature = "fuzz")]
pub async fn read_all(mut from: &[u8]) {
    while let Ok(Some(_)) = read_message(&mut from).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_specification_is_accepted() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lengths_have_three_forms() {
        assert_eq!(frame(BINARY, b"err\n"), b"\x82\x04err\n");
        assert_eq!(frame(BINARY, &[0; 126])[..4], [0x82, 126, 0, 126]);
        assert_eq!(frame(BINARY, &[0; 65536])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[tokio::test]
    async fn input_is_unmasked_and_output_framed() {
        let (client, mut user) = tokio::io::duplex(256);
        let (container, mut process) = tokio::io::duplex(256);
        let relayed = tokio::spawn(relay(client, None, Some(container), Framing::Multiplexed));
        user.write_all(&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).await.expect("frame");
        let mut input = [0; 2];
        process.read_exact(&mut input).await.expect("input");
        assert_eq!(&input, b"hi");
        user.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.expect("ping");
        let mut pong = [0; 2];
        user.read_exact(&mut pong).await.expect("pong");
        assert_eq!(pong, [0x8a, 0]);
        process.write_all(&crate::http::hijack::frame(1, b"out")).await.expect("output");
        drop(process);
        let mut output = Vec::new();
        user.read_to_end(&mut output).await.expect("frames");
        assert_eq!(output, b"\x82\x03out\x88\x02\x03\xe8");
        relayed.await.expect("relay ends");
    }
}
