//! HTTP/1.1 as a registry client needs it: one request, its answer, and connections that are used again.
//!
//! It blocks. Whoever fetches layers does so on threads of its own, so that bytes go from the socket into the caller's buffer and from
//! there into a file without another thread or another copy on the way.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use berth_http::{Buffered, Head, HeadError, Remaining};
use berth_model::Cancel;
use rustls::ClientConfig;

use crate::{
    proxy::Proxies,
    socket::{DialError, Stream},
    url::{Origin, Url},
};

/// No head of an answer is longer, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Servers close connections that are idle for longer than a minute or so.
const IDLE: Duration = Duration::from_secs(30);
/// Connections to one server that are kept for later.
const KEEP: usize = 8;

/// What is asked.
pub(crate) struct Request<'a> {
    pub method: &'static str,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body<'a>,
}

/// What is sent along.
pub(crate) enum Body<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// So many bytes; can be sent only once.
    Stream(&'a mut (dyn Read + Send), u64),
}

/// Makes connections of one kind and keeps them.
pub(crate) struct Agent {
    tls: Arc<ClientConfig>,
    proxies: Arc<Proxies>,
    idle: Mutex<HashMap<Origin, Vec<(Connection, Instant)>>>,
}

type Connection = Buffered<Stream>;

/// An answer whose body is still to be read. Read to its end, its connection is used again.
pub(crate) struct Response {
    pub head: Head,
    origin: Origin,
    agent: Arc<Agent>,
    connection: Option<Connection>,
    remaining: Remaining,
}

/// Why there is no answer.
pub(crate) enum SendError {
    /// The server does not speak TLS.
    NotTls(io::Error),
    /// Nothing was sent, or nothing came back.
    Io(io::Error),
}

impl From<DialError> for SendError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NotTls(error) => Self::NotTls(error),
            DialError::Failed(error) => Self::Io(error),
        }
    }
}

impl Agent {
    pub fn new(tls: Arc<ClientConfig>, proxies: Arc<Proxies>) -> Arc<Self> {
        Arc::new(Self { tls, proxies, idle: Mutex::default() })
    }

    /// Sends a request and reads the head of its answer.
    pub fn send(self: &Arc<Self>, request: &mut Request<'_>, cancel: &Cancel) -> Result<Response, SendError> {
        if let Some(mut connection) = self.idle_connection(&request.url.origin) {
            connection.stream_mut().serve(cancel);
            match self.exchange(&mut connection, request) {
                Ok(head) => return Ok(self.response(connection, head, request)),
                // The server may have closed it just now; what can be sent again is.
                Err(error) if cancel.is_cancelled() || matches!(request.body, Body::Stream(..)) => {
                    return Err(SendError::Io(error));
                }
                Err(_) => {}
            }
        }
        let proxy = self.proxies.serving(&request.url.origin);
        let stream = Stream::dial(&request.url.origin, &self.tls, proxy, cancel)?;
        let mut connection = Connection::new(stream);
        let head = self.exchange(&mut connection, request).map_err(SendError::Io)?;
        Ok(self.response(connection, head, request))
    }

    fn exchange(&self, connection: &mut Connection, request: &mut Request<'_>) -> io::Result<Head> {
        let sent = self.write(connection, request);
        match sent {
            // A server that refuses a body may answer and hang up before it has read all of it.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                let mut head = read_head(connection).map_err(|_| error)?;
                head.keep_alive = false;
                Ok(head)
            }
            Err(error) => Err(error),
            Ok(()) => read_head(connection),
        }
    }

    fn write(&self, connection: &mut Connection, request: &mut Request<'_>) -> io::Result<()> {
        let url = &request.url;
        let through = self.proxies.serving(&url.origin).filter(|_| !url.origin.secure);
        let target = if through.is_some() { url.to_string() } else { url.target.clone() };
        let mut head = format!("{} {target} HTTP/1.1\r\nHost: {}\r\n", request.method, url.origin.authority());
        head.push_str(concat!("User-Agent: berth/", env!("CARGO_PKG_VERSION"), "\r\n"));
        if let Some(user) = through.and_then(|proxy| proxy.credentials.as_ref()) {
            head.push_str(&format!("Proxy-Authorization: {}\r\n", crate::auth::basic(user)));
        }
        for (name, value) in &request.headers {
            // A value that would begin another header is nobody's honest wish.
            if !value.contains(['\r', '\n']) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let length = match &request.body {
            Body::Nothing => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stream(_, length) => *length,
        };
        if length > 0 || !matches!(request.method, "GET" | "HEAD" | "DELETE") {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let stream = connection.stream_mut();
        stream.write_all(head.as_bytes())?;
        match &mut request.body {
            Body::Nothing => {}
            Body::Bytes(bytes) => stream.write_all(bytes)?,
            Body::Stream(source, length) => send_stream(stream, *source, *length)?,
        }
        stream.flush()
    }

    fn response(self: &Arc<Self>, connection: Connection, head: Head, request: &Request<'_>) -> Response {
        let remaining = Remaining::of(&head, request.method == "HEAD");
        let (origin, agent) = (request.url.origin.clone(), Arc::clone(self));
        let mut response = Response { head, origin, agent, connection: Some(connection), remaining };
        response.release_if_done();
        response
    }

    fn idle_connection(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.lock().get_mut(origin)?.pop()?;
            if since.elapsed() < IDLE && connection.unused().is_empty() && connection.stream_mut().is_quiet() {
                return Some(connection);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Origin, Vec<(Connection, Instant)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Large pieces: each costs a read of the file and a write to the socket.
const SEND: usize = 256 * 1024;

fn send_stream(stream: &mut Stream, source: &mut dyn Read, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; SEND.min(usize::try_from(length).unwrap_or(SEND))];
    let mut left = length;
    while left > 0 {
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        match source.read(&mut buffer[..room])? {
            0 => return Err(io::Error::other("the file is shorter than it was")),
            count => {
                stream.write_all(&buffer[..count])?;
                left -= count as u64;
            }
        }
    }
    Ok(())
}

fn read_head(connection: &mut Connection) -> io::Result<Head> {
    Head::read(connection, MAX_HEAD).map_err(|error| match error {
        HeadError::Io(error) => error,
        malformed => io::Error::other(malformed),
    })
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The whole body, which may have `limit` bytes at most.
    pub fn whole(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.by_ref().take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("the answer has more than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Reads a short body to its end, so that the connection can be used again; of a long one the connection is closed.
    pub fn forget(mut self) {
        const SHORT: u64 = 64 * 1024;
        let _ = self.whole(SHORT);
    }

    fn release_if_done(&mut self) {
        if self.remaining != Remaining::Nothing || !self.head.keep_alive {
            return;
        }
        if let Some(connection) = self.connection.take() {
            let mut idle = self.agent.lock();
            let kept = idle.entry(self.origin.clone()).or_default();
            if kept.len() < KEEP {
                kept.push((connection, Instant::now()));
            }
        }
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(connection) = &mut self.connection else { return Ok(0) };
        let count = self.remaining.read(connection, buffer)?;
        self.release_if_done();
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Serves the answers one after another on as many connections as the client makes, and tells what was asked.
    fn served(connections: Vec<Vec<&'static str>>) -> (Origin, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("address").port();
        let server = thread::spawn(move || {
            let mut asked = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().expect("accept");
                for answer in answers {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                        head.push(byte[0]);
                    }
                    asked.push(String::from_utf8_lossy(&head).into_owned());
                    stream.write_all(answer.as_bytes()).expect("write");
                }
            }
            asked
        });
        (Origin { secure: false, host: "127.0.0.1".to_owned(), port }, server)
    }

    fn agent() -> Arc<Agent> {
        Agent::new(crate::tls::HostTls::default().configuration().expect("tls"), Arc::default())
    }

    fn get(agent: &Arc<Agent>, origin: &Origin, target: &str) -> io::Result<String> {
        let headers = vec![("Accept", "x".to_owned()), ("Bad", "a\r\nInjected: b".to_owned())];
        let mut request = Request { method: "GET", url: origin.at(target), headers, body: Body::Nothing };
        let mut response = agent.send(&mut request, &Cancel::default()).map_err(|error| match error {
            SendError::Io(error) | SendError::NotTls(error) => error,
        })?;
        Ok(String::from_utf8_lossy(&response.whole(1000)?).into_owned())
    }

    #[test]
    fn a_connection_is_used_again_and_a_dead_one_replaced() {
        let (origin, server) = served(vec![
            vec![
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
            ],
            vec!["HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthree"],
            vec!["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"],
        ]);
        let agent = agent();
        assert_eq!(get(&agent, &origin, "/1").expect("one"), "one");
        assert_eq!(get(&agent, &origin, "/2").expect("two"), "two");
        assert_eq!(get(&agent, &origin, "/3").expect("three"), "three");
        assert_eq!(get(&agent, &origin, "/4").expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
        let asked = server.join().expect("server");
        assert_eq!(asked.len(), 4);
        assert!(asked[0].starts_with("GET /1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{}", asked[0]);
        assert!(!asked[0].contains("Injected"), "{}", asked[0]);
    }

    #[test]
    fn who_is_not_wanted_any_more_does_not_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("address").port();
        let origin = Origin { secure: false, host: "127.0.0.1".to_owned(), port };
        let cancel = Cancel::default();
        cancel.cancel();
        let mut request = Request { method: "GET", url: origin.at("/"), headers: Vec::new(), body: Body::Nothing };
        assert!(agent().send(&mut request, &cancel).is_err());
    }
}
