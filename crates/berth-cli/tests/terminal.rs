//! Clients on a terminal: raw while attached, as it was afterwards, sizes, detach keys.
#![forbid(unsafe_code)]

mod server;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use server::{Asked, Server, berth, json};

/// A terminal and the client on it.
struct Terminal {
    master: File,
    slave: File,
    child: Child,
    shown: Vec<u8>,
}

impl Terminal {
    fn run(server: &Server, words: &[&str]) -> Terminal {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("pty");
        grantpt(&master).expect("grant");
        unlockpt(&master).expect("unlock");
        let path = ptsname(&master, Vec::new()).expect("name").into_string().expect("text");
        let slave = OpenOptions::new().read(true).write(true).open(path).expect("slave");
        tcsetwinsize(&slave, Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 }).expect("size");
        let end = || Stdio::from(slave.try_clone().expect("clone"));
        let mut command = Command::new(berth());
        command.args(words).env_clear().env("DOCKER_HOST", server.host()).env("HOME", "/nonexistent");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("client");
        Terminal { master: master.into(), slave, child, shown: Vec::new() }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).expect("attributes").local_modes.contains(LocalModes::ICANON)
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("type");
    }

    /// Reads until all that was shown so far holds `want` so many times.
    fn read_until(&mut self, want: &str, times: usize) {
        let mut buffer = [0; 1024];
        while self.shown().matches(want).count() < times {
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).expect("poll");
            assert!(ready > 0, "{want:?} was not shown {times} times, but {:?}", self.shown());
            let count = self.master.read(&mut buffer).expect("read");
            self.shown.extend_from_slice(&buffer[..count]);
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    fn end(&mut self) -> ExitStatus {
        eventually(|| self.child.try_wait().expect("wait"))
    }
}

fn eventually<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "nothing happened in five seconds");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A container with a terminal that sends back what it reads.
fn echo() -> Server {
    Server::start(|asked: &Asked, writer: &mut UnixStream| match asked.route().split('?').next().unwrap_or_default() {
        "/containers/create" => json(writer, 201, "{\"Id\":\"abc\",\"Warnings\":[]}"),
        "/containers/abc/attach" => {
            let _ = write!(writer, "HTTP/1.1 101 UPGRADED\r\n\r\nready\r\n");
            let mut buffer = [0; 100];
            while let Ok(count @ 1..) = writer.read(&mut buffer) {
                let _ = writer.write_all(&buffer[..count]);
                if buffer[..count].contains(&4) {
                    break;
                }
            }
            false
        }
        "/containers/abc/wait" => {
            let body = "{\"StatusCode\":5}";
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
        }
        _ => write!(writer, "HTTP/1.1 204 No Content\r\n\r\n").is_ok(),
    })
}

#[test]
fn a_terminal_is_raw_while_attached_and_keeps_its_size() {
    let server = echo();
    let mut terminal = Terminal::run(&server, &["run", "-it", "busybox"]);
    terminal.read_until("ready", 1);
    eventually(|| terminal.is_raw().then_some(()));
    // Ctrl-C is a key like any other now, and nothing is echoed by the terminal itself.
    terminal.type_keys(b"a\x03b");
    terminal.read_until("b", 1);
    assert_eq!(terminal.shown(), "ready\r\na\u{3}b");
    terminal.type_keys(b"\x04");
    assert_eq!(terminal.end().code(), Some(5));
    assert!(!terminal.is_raw());
    let asked = server.take_asked();
    let create: serde_json::Value = serde_json::from_slice(&asked[0].body).expect("body");
    assert_eq!(create["HostConfig"]["ConsoleSize"], serde_json::json!([33, 77]));
    assert!(asked.iter().any(|asked| asked.route() == "/containers/abc/resize?h=33&w=77"));
}

#[test]
fn what_was_typed_ahead_is_for_the_container() {
    let server = echo();
    let mut terminal = Terminal::run(&server, &["run", "-it", "busybox"]);
    // Before the terminal is raw it shows this itself; the container shows it again.
    terminal.type_keys(b"ahead\n");
    terminal.read_until("ready", 1);
    eventually(|| terminal.is_raw().then_some(()));
    terminal.type_keys(b"!");
    terminal.read_until("!", 1);
    assert!(terminal.shown().contains("ahead\n!") || terminal.shown().contains("ahead\r!"), "{:?}", terminal.shown());
    terminal.type_keys(b"\x04");
    assert_eq!(terminal.end().code(), Some(5));
}

#[test]
fn the_detach_keys_leave_the_container_and_exit_well() {
    let server = echo();
    let mut terminal = Terminal::run(&server, &["run", "-it", "--detach-keys", "ctrl-x,y", "busybox"]);
    terminal.read_until("ready", 1);
    eventually(|| terminal.is_raw().then_some(()));
    terminal.type_keys(b"\x18z");
    terminal.read_until("z", 1);
    terminal.type_keys(b"\x18y");
    assert_eq!(terminal.end().code(), Some(0));
    assert!(!terminal.is_raw());
}

#[test]
fn a_signal_ends_the_client_with_its_terminal_put_right() {
    let server = echo();
    let mut terminal = Terminal::run(&server, &["run", "-it", "busybox"]);
    terminal.read_until("ready", 1);
    eventually(|| terminal.is_raw().then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&terminal.child), rustix::process::Signal::TERM)
        .expect("kill");
    assert_eq!(terminal.end().code(), Some(143));
    assert!(!terminal.is_raw());
}

#[test]
fn a_new_size_is_told() {
    let server = echo();
    let mut terminal = Terminal::run(&server, &["run", "-it", "busybox"]);
    terminal.read_until("ready", 1);
    eventually(|| terminal.is_raw().then_some(()));
    tcsetwinsize(&terminal.slave, Winsize { ws_row: 44, ws_col: 88, ws_xpixel: 0, ws_ypixel: 0 }).expect("size");
    rustix::process::kill_process(rustix::process::Pid::from_child(&terminal.child), rustix::process::Signal::WINCH)
        .expect("kill");
    let want = "/containers/abc/resize?h=44&w=88";
    eventually(|| server.take_asked().iter().any(|asked| asked.route() == want).then_some(()));
    terminal.type_keys(b"\x04");
    assert_eq!(terminal.end().code(), Some(5));
}
