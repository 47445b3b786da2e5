//! A registry server of the program under test, in a sandbox, and requests to it by hand.

use std::{
    fs::File,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Sandbox;

/// How long a server has to answer at first: machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry that serves on a loopback port of a sandbox, for the clients there, and on a socket, for the test.
pub struct Registry {
    program: PathBuf,
    options: Vec<String>,
    enter: Vec<String>,
    directory: PathBuf,
    port: u16,
    child: Option<Child>,
}

/// An answer of a registry.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Registry {
    /// Starts a registry on the port of a sandbox's loopback, with further options of `berth registry serve`. Its directory is
    /// `registry-PORT` in that of the sandbox; started there again, it finds what is in it.
    #[must_use]
    pub fn start(program: &str, sandbox: &Sandbox, port: u16, options: &[&str]) -> Self {
        let enter = sandbox.command("true");
        let words = enter.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
        let mut registry = Self {
            program: PathBuf::from(program),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            enter: words[..words.len() - 1].to_vec(),
            directory: sandbox.path().join(format!("registry-{port}")),
            port,
            child: None,
        };
        registry.restart();
        registry
    }

    /// Starts it, if it does not run, and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn restart(&mut self) {
        if self.child.is_some() {
            return;
        }
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut child = std::process::Command::new("nsenter")
            .args(&self.enter)
            .arg(&self.program)
            .args(["registry", "serve"])
            .arg(&self.directory)
            .args(["--listen", &format!("127.0.0.1:{}", self.port), "--listen"])
            .arg(format!("unix://{}", self.socket().display()))
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("nsenter, from Debian's util-linux");
        let deadline = Instant::now() + PATIENCE;
        while !answers(&self.socket()) {
            let ended = child.try_wait().expect("our child");
            if ended.is_some() || Instant::now() > deadline {
                panic!("the registry does not answer ({ended:?}):\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
    }

    /// The address that clients in the sandbox reach it by: `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory that it serves.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it by SIGKILL while others talk to it; [`Self::kill`] then takes note of it.
    pub fn kill_in_place(&self) {
        let pid = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Asks it to end, and waits.
    ///
    /// # Panics
    /// If it does not end well.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match child.try_wait().expect("our child") {
                Some(status) => return assert!(status.success(), "the registry ended with {status}:\n{}", self.log()),
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    panic!("the registry does not end:\n{}", self.log());
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// A request with a body and further headers, on a connection of its own.
    ///
    /// # Panics
    /// If the registry does not answer.
    #[must_use]
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = self.try_request(method, target, headers, body);
        answer.unwrap_or_else(|| panic!("no whole answer to {method} {target}"))
    }

    /// A request to a registry that may be killed meanwhile: nothing if there is no whole answer.
    #[must_use]
    pub fn try_request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let is_framed = headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if !is_framed {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        // A registry that refuses a body need not read it.
        let _ = stream.write_all(body);
        Answer::of(&mut stream)
    }

    /// A connection for requests by hand.
    ///
    /// # Panics
    /// If the registry does not run.
    #[must_use]
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("the registry listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn socket(&self) -> PathBuf {
        self.directory.with_extension("sock")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.with_extension("log")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- registry log ---\n{}", self.log());
        }
        self.kill();
    }
}

impl Answer {
    /// Reads an answer to the end of its connection.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn read(stream: &mut UnixStream) -> Self {
        Self::of(stream).expect("a whole answer")
    }

    fn of(stream: &mut UnixStream) -> Option<Self> {
        let _ = stream.shutdown(Shutdown::Write);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        let end_of_head = |bytes: &[u8]| bytes.windows(4).position(|window| window == b"\r\n\r\n");
        while bytes.starts_with(b"HTTP/1.1 100 ") {
            let end = end_of_head(&bytes)?;
            bytes.drain(..end + 4);
        }
        let end = end_of_head(&bytes)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Some(Self {
            status: status?,
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            body: bytes[end + 4..].to_vec(),
        })
    }

    /// A header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// It must have this status.
    ///
    /// # Panics
    /// If it has not.
    #[track_caller]
    pub fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// It must be a refusal with this status and code.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn refuses(&self, status: u16, code: &str) -> &Self {
        self.expect(status);
        assert_eq!(self.json()["errors"][0]["code"], code, "{}", self.text());
        self
    }
}

fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n");
    let mut head = [0; 15];
    asked.is_ok() && stream.read_exact(&mut head).is_ok() && head == *b"HTTP/1.1 200 OK"
}
