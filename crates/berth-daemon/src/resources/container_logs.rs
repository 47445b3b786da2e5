//! Logs: a container's output from its file, framed, decorated, followed.

use std::collections::BTreeMap;

use berth_engine::logs::{LogLine, LogQuery, LogStream};
use berth_model::Timestamp;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::hijack::{Framing, MULTIPLEXED, RAW, frame};
use crate::http::reply::{Payload, Reply};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers;
use crate::translate::time;

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/containers/{name}/logs", "ContainerLogs", logs)];

/// Lines are sent together while there are more at hand, up to about this much.
const CHUNK: usize = 32 << 10;

/// What stands before each line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decoration {
    /// The time.
    pub timestamps: bool,
    /// The attributes that the log driver's options keep.
    pub details: bool,
}

async fn logs(call: Call) -> Result<Reply, ApiError> {
    let (stdout, stderr) = (call.query.flag("stdout"), call.query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let query = LogQuery {
        stdout,
        stderr,
        since: moment(&call, "since")?,
        until: moment(&call, "until")?,
        // What is no number means all, as clients of the reference engine have it.
        tail: call.query.text("tail").parse().ok(),
        follow: call.query.flag("follow"),
    };
    let decoration = Decoration { timestamps: call.query.flag("timestamps"), details: call.query.flag("details") };
    let view = containers::named(&call.daemon, &call.object)?;
    let mut reader = call.daemon.engine.logs(&view.id, query)?;
    let framing = if reader.terminal { Framing::Raw } else { Framing::Multiplexed };
    let media_type = if framing == Framing::Multiplexed && !call.version.before(42) { MULTIPLEXED } else { RAW };
    let (chunks, payload) = Payload::stream();
    tokio::spawn(async move {
        let mut pending = Vec::new();
        loop {
            let line = tokio::select! {
                biased;
                line = reader.next(), if pending.len() < CHUNK => line,
                // Nothing more at hand, or enough: what is there goes out before waiting.
                () = std::future::ready(()), if !pending.is_empty() => {
                    if chunks.send(Ok(std::mem::take(&mut pending).into())).await.is_err() {
                        return;
                    }
                    continue;
                }
                () = chunks.closed() => return,
            };
            match line {
                Some(Ok(line)) => pending.extend(encode(&line, framing, &decoration)),
                // The head has gone out: the error goes into the stream (B024).
                Some(Err(error)) => pending.extend(failure(&error.to_string(), framing)),
                None if pending.is_empty() => return,
                None => drop(chunks.send(Ok(std::mem::take(&mut pending).into())).await),
            }
        }
    });
    Ok(Reply::stream(media_type, payload))
}

fn moment(call: &Call, name: &str) -> Result<Option<Timestamp>, ApiError> {
    match call.query.text(name) {
        "" | "0" => Ok(None),
        text => time::seconds(text).map(Some).map_err(|reason| {
            ApiError::invalid(format!("invalid value for {name:?}: invalid timestamp {text:?}: {reason}"))
        }),
    }
}

/// A line as it is sent: decorated, and framed where there is no terminal.
pub fn encode(line: &LogLine, framing: Framing, decoration: &Decoration) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.text.len() + 40);
    if decoration.timestamps {
        text.extend_from_slice(line.at.fixed_width().as_bytes());
        text.push(b' ');
    }
    if decoration.details {
        text.extend_from_slice(attributes(&line.attributes).as_bytes());
        text.push(b' ');
    }
    text.extend_from_slice(&line.text);
    match framing {
        Framing::Raw => text,
        Framing::Multiplexed => frame(number(line.stream), &text),
    }
}

fn number(stream: LogStream) -> u8 {
    match stream {
        LogStream::Stdout => 1,
        LogStream::Stderr => 2,
    }
}

/// `key=value` pairs in order of their keys, encoded so that commas and blanks in them stay apart.
fn attributes(attributes: &BTreeMap<String, String>) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escaped = |text: &str| {
        text.bytes().fold(String::new(), |out, byte| match byte {
            b' ' => out + "+",
            byte if plain(byte) => out + &char::from(byte).to_string(),
            byte => out + &format!("%{byte:02X}"),
        })
    };
    let pairs: Vec<String> =
        attributes.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
    pairs.join(",")
}

fn failure(message: &str, framing: Framing) -> Vec<u8> {
    let text = format!("Error grabbing logs: {message}\n");
    match framing {
        Framing::Raw => text.into_bytes(),
        Framing::Multiplexed => frame(3, text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_decorated_before_they_are_framed() {
        let line = LogLine {
            stream: LogStream::Stderr,
            at: Timestamp::from_parts(1, 5),
            text: b"err1\n".to_vec(),
            attributes: BTreeMap::from([("lk".to_owned(), "l v".to_owned()), ("E1".to_owned(), "ev".to_owned())]),
        };
        let plain = encode(&line, Framing::Multiplexed, &Decoration::default());
        assert_eq!(plain, b"\x02\0\0\0\0\0\0\x05err1\n");
        let both = Decoration { timestamps: true, details: true };
        let decorated = encode(&line, Framing::Raw, &both);
        assert_eq!(String::from_utf8_lossy(&decorated), "1970-01-01T00:00:01.000000005Z E1=ev,lk=l+v err1\n");
    }
}
