//! A registry on loopback that misbehaves as it is told.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    reason = "each test uses a part of it"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use berth_model::Digest;

use super::sha256;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection breaks after so many bytes of a blob.
    Cut(usize),
    /// Nothing comes any more after so many bytes of a blob, for ever.
    Stall(usize),
    /// A status with `Retry-After: 0`.
    Status(u16, &'static str),
    /// A login page with status 200.
    Html,
    /// Blobs have other bytes.
    Lie,
    /// Sends to another server.
    Redirect(String),
    /// Does not know ranges.
    NoRanges,
    /// Asks who it is: `Basic`.
    Basic,
}

#[derive(Default)]
pub struct State {
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub uploads: BTreeMap<String, Vec<u8>>,
    /// Faults of the next requests for blobs, one each.
    pub blob_faults: VecDeque<Fault>,
    /// A fault of every request for a blob.
    pub every_blob: Option<Fault>,
    /// Faults of the next requests of any kind.
    pub faults: VecDeque<Fault>,
    /// A fault of every request.
    pub every: Option<Fault>,
    /// What was asked, with its headers.
    pub asked: Vec<String>,
    /// Bytes of blobs that were sent.
    pub sent: u64,
    /// Bytes of blobs that came in.
    pub received: u64,
    /// Where uploads break, once.
    pub cut_upload: Option<usize>,
}

#[derive(Clone)]
pub struct Faulty {
    pub state: Arc<Mutex<State>>,
    pub port: u16,
}

impl Faulty {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let faulty = Self { state: Arc::default(), port };
        let server = faulty.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        faulty
    }

    pub fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        self.with(|state| state.blobs.insert(digest.to_string(), bytes.to_vec()));
        digest
    }

    pub fn manifest(&self, tag: &str, kind: &str, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        self.with(|state| {
            state.manifests.insert(digest.to_string(), (kind.to_owned(), bytes.to_vec()));
            state.manifests.insert(tag.to_owned(), (kind.to_owned(), bytes.to_vec()));
        });
        digest
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while self.answer(&mut reader, &stream).is_some_and(|goes_on| goes_on) {}
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }

    fn answer(&self, reader: &mut BufReader<TcpStream>, mut stream: &TcpStream) -> Option<bool> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let before = head.len();
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line).ok()?;
            // TLS is answered as plain servers do.
            head.push_str(std::str::from_utf8(&line).ok()?);
            if head.len() == before {
                return None;
            }
        }
        let lower = head.to_ascii_lowercase();
        let header =
            |name: &str| lower.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        let (method, target) = head.lines().next()?.rsplit_once(' ')?.0.split_once(' ')?;
        let path = target.split('?').next()?;
        let is_blob = path.contains("/blobs/sha256") && method == "GET";
        let fault = self.with(|state| {
            state.asked.push(head.clone());
            let of_blob = if is_blob { state.blob_faults.pop_front().or(state.every_blob.clone()) } else { None };
            of_blob.or(state.faults.pop_front()).or(state.every.clone())
        });
        let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        let cut = self.with(|state| if method == "PATCH" { state.cut_upload.take() } else { None });
        reader.take(cut.unwrap_or(length).min(length) as u64).read_to_end(&mut body).ok()?;
        if method != "GET" {
            self.with(|state| state.received += body.len() as u64);
        }
        let mut send = |status: u16, headers: &str, body: &[u8]| {
            let length = body.len();
            let body = if method == "HEAD" { &[] } else { body };
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n");
            stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(body)).ok().map(|()| true)
        };
        match &fault {
            Some(Fault::Status(status, body)) => return send(*status, "Retry-After: 0\r\n", body.as_bytes()),
            Some(Fault::Html) => {
                return send(200, "Content-Type: text/html; charset=utf-8\r\n", b"<html>log in</html>");
            }
            Some(Fault::Redirect(to)) => return send(307, &format!("Location: {to}{target}\r\n"), b""),
            Some(Fault::Basic) if header("authorization").is_none() => {
                return send(
                    401,
                    "WWW-Authenticate: Basic realm=\"r\"\r\n",
                    b"{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}",
                );
            }
            _ => {}
        }
        if path.contains("/blobs/uploads") {
            return self.upload(method, target, body, cut.is_some(), &mut send);
        }
        let name = path.rsplit('/').next()?;
        if path.ends_with("/v2/") {
            return send(200, "", b"{}");
        }
        if path.ends_with("/tags/list") {
            let tags: Vec<String> =
                self.with(|state| state.manifests.keys().filter(|tag| !tag.contains(':')).cloned().collect());
            return send(200, "", serde_json::json!({ "tags": tags }).to_string().as_bytes());
        }
        if path.contains("/manifests/") {
            if method == "PUT" {
                let kind = header("content-type").unwrap_or_default();
                self.manifest(name, &kind, &body);
                return send(201, "", b"");
            }
            return match self.with(|state| state.manifests.get(name).cloned()) {
                Some((kind, bytes)) => {
                    let digest = sha256(&bytes);
                    send(200, &format!("Content-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\n"), &bytes)
                }
                None => {
                    send(404, "", b"{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}")
                }
            };
        }
        let Some(mut bytes) = self.with(|state| state.blobs.get(name).cloned()) else {
            return send(404, "", b"{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}");
        };
        if matches!(fault, Some(Fault::Lie)) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let range = header("range").and_then(|range| range.strip_prefix("bytes=").map(str::to_owned));
        let range = range.filter(|_| !matches!(fault, Some(Fault::NoRanges)));
        let (mut status, mut headers) = (200, String::new());
        if let Some((start, end)) = range.as_ref().and_then(|range| range.split_once('-')) {
            let (start, end): (usize, usize) = (start.parse().ok()?, end.parse().ok()?);
            if start >= bytes.len() {
                return send(416, "", b"");
            }
            headers = format!("Content-Range: bytes {start}-{end}/{}\r\n", bytes.len());
            bytes = bytes[start..bytes.len().min(end + 1)].to_vec();
            status = 206;
        }
        let (Some(Fault::Cut(after)) | Some(Fault::Stall(after))) = fault else {
            if method == "GET" {
                self.with(|state| state.sent += bytes.len() as u64);
            }
            return send(status, &headers, &bytes);
        };
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", bytes.len());
        let part = &bytes[..after.min(bytes.len())];
        self.with(|state| state.sent += part.len() as u64);
        stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(part)).ok()?;
        if matches!(fault, Some(Fault::Stall(_))) {
            thread::sleep(Duration::from_secs(60));
        }
        Some(false)
    }

    fn upload(
        &self,
        method: &str,
        target: &str,
        body: Vec<u8>,
        cut: bool,
        send: &mut dyn FnMut(u16, &str, &[u8]) -> Option<bool>,
    ) -> Option<bool> {
        let path = target.split('?').next()?;
        let id = path.rsplit('/').next()?.to_owned();
        let location = format!("Location: {path}\r\n");
        match method {
            "POST" => {
                if let Some(digest) = target.split("mount=").nth(1).and_then(|rest| rest.split('&').next()) {
                    let known = self.with(|state| state.blobs.contains_key(digest));
                    if known && target.contains("from=mountable") {
                        return send(201, "", b"");
                    }
                }
                let id = self.with(|state| {
                    let id = format!("u{}", state.uploads.len());
                    state.uploads.insert(id.clone(), Vec::new());
                    id
                });
                send(202, &format!("Location: {path}{id}\r\n"), b"")
            }
            "PATCH" => {
                let have = self.with(|state| {
                    let upload = state.uploads.entry(id).or_default();
                    upload.extend_from_slice(&body);
                    upload.len()
                });
                if cut {
                    return Some(false);
                }
                send(202, &format!("{location}Range: 0-{}\r\n", have - 1), b"")
            }
            "GET" => {
                let have = self.with(|state| state.uploads.get(&id).map(Vec::len))?;
                send(204, &format!("{location}Range: 0-{}\r\n", have.saturating_sub(1)), b"")
            }
            _ => {
                let mut whole = self.with(|state| state.uploads.remove(&id)).unwrap_or_default();
                whole.extend_from_slice(&body);
                let digest = sha256(&whole).to_string();
                if !target.contains(&digest) {
                    return send(400, "", b"{\"errors\":[{\"code\":\"DIGEST_INVALID\"}]}");
                }
                self.with(|state| state.blobs.insert(digest, whole));
                send(201, "", b"")
            }
        }
    }
}
