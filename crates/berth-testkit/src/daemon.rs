//! The daemon of one test, and requests to it by hand.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Sandbox;

/// How long a daemon has to answer at first: machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that runs in a sandbox.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start(program: &Path, sandbox: &Sandbox, options: &[String]) -> Self {
        Self::start_to_die(program, sandbox, options, "")
    }

    /// Starts a daemon that ends itself by SIGKILL as soon as it reaches a point of `berth_sys::fault`; an empty name is never reached.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start_to_die(program: &Path, sandbox: &Sandbox, options: &[String], point: &str) -> Self {
        let log = File::options().create(true).append(true).open(sandbox.log()).expect("a log file");
        let mut child = sandbox
            .command(program)
            .arg("daemon")
            .args(["--data-root".as_ref(), sandbox.root().as_os_str()])
            .args(["--exec-root".as_ref(), sandbox.run().as_os_str()])
            .arg("--host")
            .arg(format!("unix://{}", sandbox.socket().display()))
            .args(["--cgroup-parent", sandbox.cgroup_parent(), "--log-level", "debug"])
            .args(options)
            .env("BERTH_DIE_AT", point)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("nsenter, from Debian's util-linux");
        let deadline = Instant::now() + PATIENCE;
        while !answers(&sandbox.socket()) {
            let ended = child.try_wait().expect("our child");
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(sandbox.log()).unwrap_or_default();
                panic!("the daemon does not answer ({ended:?}):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child }
    }

    /// Its process: nsenter becomes the daemon.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended by itself. Says whether it did.
    #[must_use]
    pub fn has_died(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let asked = stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: berth\r\nConnection: close\r\n\r\n");
    let mut head = [0; 15];
    asked.is_ok() && stream.read_exact(&mut head).is_ok() && head == *b"HTTP/1.1 200 OK"
}

/// One request and its answer.
pub(crate) fn request(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
) -> (u16, serde_json::Value) {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    let body = body.map(ToString::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: berth\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("the daemon reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() };
    (status, serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)))
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or(0);
        if length == 0 || rest.len() < length {
            break;
        }
        text.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    text
}
