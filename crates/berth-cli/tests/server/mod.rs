//! A daemon made of canned answers on a unix socket, which writes down what it was asked.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query, with the version.
    pub path: String,
    pub body: Vec<u8>,
}

impl Asked {
    /// Path and query without the version.
    pub fn route(&self) -> &str {
        match self.path.strip_prefix("/v").and_then(|rest| rest.find('/').map(|at| &rest[at..])) {
            Some(route) => route,
            None => &self.path,
        }
    }
}

/// What the daemon does with one request. It writes the whole answer itself; `false` ends the connection.
pub type Answer = Arc<dyn Fn(&Asked, &mut UnixStream) -> bool + Send + Sync>;

/// A running daemon; its threads end with the test's process.
pub struct Server {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked, &mut UnixStream) -> bool + Send + Sync + 'static) -> Server {
        let directory = tempfile::tempdir().expect("directory");
        let listener = UnixListener::bind(directory.path().join("sock")).expect("bind");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer): (_, Answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &answer));
            }
        });
        Server { directory, asked }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.directory.path().join("sock").display())
    }

    /// All requests so far but pings, and forgets them.
    pub fn take_asked(&self) -> Vec<Asked> {
        let mut asked = std::mem::take(&mut *self.asked.lock().expect("lock"));
        asked.retain(|asked| !asked.path.ends_with("/_ping"));
        asked
    }
}

fn serve(stream: UnixStream, log: &Mutex<Vec<Asked>>, answer: &Answer) {
    let mut writer = stream.try_clone().expect("clone");
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read_request(&mut reader) {
        log.lock().expect("lock").push(asked.clone());
        if asked.path.ends_with("/_ping") {
            let body = if asked.method == "HEAD" { "" } else { "OK" };
            let _ = write!(
                writer,
                "HTTP/1.1 200 OK\r\nApi-Version: 1.56\r\nOstype: linux\r\nContent-Length: 2\r\n\r\n{body}"
            );
        } else if !answer(&asked, &mut writer) {
            let _ = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<UnixStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        chunked = size > 0;
    }
    Some(Asked { method, path, body })
}

/// Writes a JSON answer.
pub fn json(writer: &mut UnixStream, status: u16, body: &str) -> bool {
    let head = "Api-Version: 1.56\r\nOstype: linux\r\nContent-Type: application/json";
    write!(writer, "HTTP/1.1 {status} X\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
}

/// The client of this crate.
pub fn berth() -> PathBuf {
    // Tests lie in `deps`, beside `examples`, which cargo builds for them.
    let test = std::env::current_exe().expect("own path");
    let client = test.parent().and_then(Path::parent).expect("deps").join("examples/client");
    assert!(client.exists(), "run all tests of the crate, or build its example `client` first");
    client
}

/// Runs a client against `host`, with an empty configuration and nothing of our environment but PATH.
pub fn run(program: &Path, host: &str, words: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(program)
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .env("DOCKER_HOST", host)
        .env("PRESENT", "here")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("client");
    child.stdin.take().expect("stdin").write_all(stdin.as_bytes()).expect("write");
    child.wait_with_output().expect("output")
}
