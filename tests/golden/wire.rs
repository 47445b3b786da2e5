//! One HTTP exchange by hand, so that nothing of the framing is hidden.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so long without a byte, a stream is not going to end by itself.
const SILENCE: Duration = Duration::from_millis(700);

/// A connection whose request was sent.
pub(crate) struct Exchange {
    stream: UnixStream,
    received: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) text: String,
    pub(crate) status: u64,
    pub(crate) status_line: String,
    /// Names as they were sent.
    pub(crate) headers: Vec<(String, String)>,
}

/// Everything up to the end of a stream, or until it stayed silent.
pub(crate) struct Rest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) closed: bool,
}

impl Exchange {
    /// Sends bytes on a new connection.
    pub(crate) fn send(socket: &Path, request: &[u8]) -> Self {
        let mut stream = UnixStream::connect(socket).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // An answer may come, and the connection be closed, before everything was sent.
        let _ = stream.write_all(request);
        Self { stream, received: Vec::new() }
    }

    /// Sends more.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon reads");
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads the head of the answer.
    pub(crate) fn head(&mut self) -> Head {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end;
            }
            assert!(
                self.more().expect("an answer"),
                "the connection ended: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        };
        let text = String::from_utf8_lossy(&self.received[..end + 4]).into_owned();
        self.received.drain(..end + 4);
        Head::parse(text)
    }

    /// Reads the body that the head announces, and gives it as it was meant.
    pub(crate) fn body(&mut self, head: &Head, method: &str) -> Vec<u8> {
        if method == "HEAD" || matches!(head.status, 204 | 304) {
            return Vec::new();
        }
        if head.header("Transfer-Encoding").is_some() {
            return self.chunks(usize::MAX);
        }
        let length = head.header("Content-Length").map_or(usize::MAX, |length| length.parse().expect("a length"));
        while self.received.len() < length && self.more().unwrap_or(false) {}
        self.received.clone()
    }

    /// The first chunks of a body.
    pub(crate) fn chunks(&mut self, count: usize) -> Vec<u8> {
        let (mut body, mut seen) = (Vec::new(), 0);
        while let Some(chunk) = self.chunk().filter(|chunk| !chunk.is_empty()) {
            body.extend(chunk);
            seen += 1;
            if seen == count {
                break;
            }
        }
        body
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = find(&self.received, b"\r\n") {
                let size = String::from_utf8_lossy(&self.received[..line]).into_owned();
                let size = usize::from_str_radix(&size, 16).ok()?;
                if self.received.len() >= line + 2 + size + 2 {
                    let chunk = self.received[line + 2..line + 2 + size].to_vec();
                    self.received.drain(..line + 2 + size + 2);
                    return Some(chunk);
                }
            }
            if !self.more().ok()? {
                return None;
            }
        }
    }

    /// Reads until the other side ends the connection or has nothing more to say.
    pub(crate) fn rest(&mut self) -> Rest {
        self.stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
        let closed = loop {
            match self.more() {
                Ok(true) => {}
                Ok(false) => break true,
                Err(error) => break !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        };
        Rest { bytes: std::mem::take(&mut self.received), closed }
    }

    /// Whether there was more.
    fn more(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 1 << 16];
        let count = loop {
            match self.stream.read(&mut buffer) {
                // A socket with a timeout is not gone on with by the kernel, whatever interrupted the thread.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.received.extend(&buffer[..count]);
        Ok(count > 0)
    }
}

impl Head {
    /// Takes a head apart.
    pub(crate) fn parse(text: String) -> Self {
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let status_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": ").or(line.strip_suffix(':').map(|name| (name, ""))));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { text, status, status_line, headers }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
