//! Attaching to a container's streams, before its start or while it runs (B031-B040).

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    sync::Arc,
};

use berth_model::lifecycle::State;
use berth_proto::shim::{AttachRequest as ShimAttach, StreamSet};
use tokio::net::UnixStream;

use crate::{
    EngineError, Inner,
    container::{EarlyAttach, Handle},
    logs::{self, LogQuery, LogReader},
};

/// What a client wants of a container's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// Write to stdin.
    pub stdin: bool,
    /// Read stdout.
    pub stdout: bool,
    /// Read stderr.
    pub stderr: bool,
    /// What was written before comes first.
    pub logs: bool,
    /// Stay for what is to come.
    pub stream: bool,
}

/// A client's share of a container's streams.
pub struct Attached {
    /// What was written before, where that was asked for.
    pub replay: Option<LogReader>,
    /// What is to come. From the container: frames of eight bytes of header and payload, plain bytes with a terminal;
    /// to it: plain bytes, whose end ends stdin if the container wants that.
    pub stream: Option<StreamEnd>,
    /// Whether there is a terminal, and so no frames.
    pub terminal: bool,
}

/// Our end of a container's or exec's streams.
pub struct StreamEnd {
    /// Bytes that were read already.
    pub read_ahead: Vec<u8>,
    /// The connection to the shim.
    pub socket: UnixStream,
}

impl From<berth_proto::client::Raw> for StreamEnd {
    fn from(raw: berth_proto::client::Raw) -> Self {
        Self { read_ahead: raw.read_ahead, socket: raw.stream }
    }
}

pub(crate) async fn attach(
    engine: &Arc<Inner>,
    handle: &Handle,
    request: AttachRequest,
) -> Result<Attached, EngineError> {
    let view = handle.view();
    match view.state {
        State::Paused { .. } => {
            return Err(EngineError::conflict(format!(
                "container {} is paused, unpause the container before attach",
                view.id
            )));
        }
        State::Restarting { .. } => {
            return Err(EngineError::conflict(format!(
                "container {} is restarting, wait until the container is running",
                view.id
            )));
        }
        _ => {}
    }
    let streams = StreamSet {
        stdin: request.stdin && view.spec.config.open_stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let terminal = view.has_terminal();
    let (stream, until) = match (request.stream, view.state.is_running()) {
        (false, _) => (None, None),
        (true, true) => {
            let (stream, until) = live(handle, streams, request.logs).await?;
            (Some(stream), until)
        }
        (true, false) => match early(handle, streams).await? {
            Some(stream) => (Some(stream), None),
            // It was started in between.
            None => {
                let (stream, until) = live(handle, streams, request.logs).await?;
                (Some(stream), until)
            }
        },
    };
    let replay = if request.logs && view.paths.log.is_some() {
        let query = LogQuery { stdout: request.stdout, stderr: request.stderr, ..LogQuery::default() };
        Some(logs::open_until(handle, query, until)?)
    } else {
        None
    };
    engine.publish(&view, "attach", []);
    Ok(Attached { replay, stream, terminal })
}

async fn live(handle: &Handle, streams: StreamSet, until_now: bool) -> Result<(StreamEnd, Option<u64>), EngineError> {
    let shim = handle.run(|container| Box::pin(async move { container.running_shim() })).await?;
    let request = ShimAttach { streams: Some(streams), detach_keys: Vec::new(), after_log: until_now };
    let attached = shim.attach(&request).await?;
    let until = attached.log.filter(|log| !log.path.is_empty()).map(|log| log.offset);
    Ok((attached.raw.into(), until))
}

/// The container is to be started by somebody: the shim gets the other end of a pair with the first byte.
async fn early(handle: &Handle, streams: StreamSet) -> Result<Option<StreamEnd>, EngineError> {
    let broken = |error| EngineError::internal(format!("cannot make a socket pair for attach: {error}"));
    let (ours, theirs) = StdUnixStream::pair().map_err(broken)?;
    ours.set_nonblocking(true).map_err(broken)?;
    let attach = EarlyAttach { streams, socket: OwnedFd::from(theirs) };
    if !handle.run(move |container| Box::pin(container.attach_early(attach))).await? {
        return Ok(None);
    }
    Ok(Some(StreamEnd { read_ahead: Vec::new(), socket: UnixStream::from_std(ours).map_err(broken)? }))
}

/// A sequence of keys by which a client leaves (B039).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// A text that is no sequence of keys. The text is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Unknown character: '{0}'")]
pub struct InvalidKeys(String);

impl Default for DetachKeys {
    /// Ctrl-P Ctrl-Q.
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

impl std::str::FromStr for DetachKeys {
    type Err = InvalidKeys;

    /// Reads `ctrl-a,b,ctrl-\`: letters, or control with a letter or one of `@[\]^_`.
    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let key = |word: &str| {
            let invalid = || InvalidKeys(word.to_owned());
            match (word.strip_prefix("ctrl-"), word.as_bytes()) {
                (Some(rest), _) => match rest.as_bytes() {
                    [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
                    [b'@'] => Ok(0),
                    [b'['] => Ok(27),
                    [b'\\'] => Ok(28),
                    [b']'] => Ok(29),
                    [b'^'] => Ok(30),
                    [b'_'] => Ok(31),
                    _ => Err(invalid()),
                },
                (None, [byte]) => Ok(*byte),
                (None, _) => Err(invalid()),
            }
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// Looks for the keys in what a client types.
pub struct DetachScanner {
    keys: Vec<u8>,
    matched: usize,
}

/// What a scan found.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// What goes on to the container. Keys that may still become the sequence are held back.
    pub pass: Vec<u8>,
    /// The client leaves.
    pub detach: bool,
}

impl DetachScanner {
    /// Looks for these keys.
    #[must_use]
    pub fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, matched: 0 }
    }

    /// Takes what was typed.
    pub fn scan(&mut self, typed: &[u8]) -> Scanned {
        let mut pass = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Scanned { pass, detach: true };
                }
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(byte == self.keys[0]);
            if self.matched == 0 {
                pass.push(byte);
            } else if self.keys.len() == 1 {
                self.matched = 0;
                return Scanned { pass, detach: true };
            }
        }
        Scanned { pass, detach: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        assert_eq!("a,ctrl-@,ctrl-_".parse(), Ok(DetachKeys(vec![b'a', 0, 31])));
        for bad in ["", "ctrl-", "ctrl-ab", "ab", "ctrl-A", "a,,b"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_over_pieces_and_never_swallowed_in_part() {
        let mut scanner = DetachScanner::new(DetachKeys::default());
        let step = |scanner: &mut DetachScanner, typed: &[u8]| {
            let scanned = scanner.scan(typed);
            (scanned.pass, scanned.detach)
        };
        assert_eq!(step(&mut scanner, b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(step(&mut scanner, b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(step(&mut scanner, b"\x10\x10\x11z"), (b"\x10".to_vec(), true));
    }
}
