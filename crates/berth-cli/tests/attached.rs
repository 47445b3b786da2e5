//! `run`, `exec`, `logs` and their like against canned answers: what is asked in which order, what is printed, how the client exits.
#![forbid(unsafe_code)]

mod server;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use server::{Asked, Server, berth, json, run};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn frame(stream: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// The daemon of one container: what it writes, how it ends.
#[derive(Clone, Default)]
struct Story {
    /// Bytes of the attach stream after start.
    output: Vec<u8>,
    /// Whether all of stdin is read first, and sent back as stdout.
    echo: bool,
    exit_code: i64,
    start_error: Option<&'static str>,
    image_missing: bool,
}

impl Story {
    fn serve(self) -> Server {
        let pulled = Arc::new(AtomicBool::new(!self.image_missing));
        let (started, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        Server::start(move |asked: &Asked, writer: &mut UnixStream| {
            let route = asked.route().split('?').next().unwrap_or_default();
            let wait_for = |flag: &AtomicBool| {
                while !flag.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            match route {
                "/containers/create" if !pulled.load(Ordering::SeqCst) => {
                    json(writer, 404, "{\"message\":\"No such image: busybox:latest\"}")
                }
                "/containers/create" => {
                    json(writer, 201, &format!("{{\"Id\":\"{ID}\",\"Warnings\":[\"mind the gap\"]}}"))
                }
                "/images/create" => {
                    pulled.store(true, Ordering::SeqCst);
                    json(writer, 200, "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n")
                }
                _ if route.ends_with("/attach") => {
                    let _ = write!(writer, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
                    wait_for(&started);
                    if self.echo {
                        let mut input = String::new();
                        let _ = writer.read_to_string(&mut input);
                        let _ = writer.write_all(&frame(1, &input));
                    }
                    let _ = writer.write_all(&self.output);
                    ended.store(true, Ordering::SeqCst);
                    false
                }
                _ if route.ends_with("/wait") => {
                    let _ = write!(writer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    if self.start_error.is_none() {
                        wait_for(&ended);
                    }
                    let body = format!("{{\"StatusCode\":{},\"Error\":null}}", self.exit_code);
                    write!(writer, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).is_ok()
                }
                _ if route.ends_with("/start") => match self.start_error {
                    Some(text) => json(writer, 400, &format!("{{\"message\":\"{text}\"}}")),
                    None => {
                        started.store(true, Ordering::SeqCst);
                        write!(writer, "HTTP/1.1 204 No Content\r\n\r\n").is_ok()
                    }
                },
                _ => json(writer, 404, "{\"message\":\"page not found\"}"),
            }
        })
    }
}

fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(code), stdout.into(), stderr.into())
    );
}

fn routes(server: &Server) -> Vec<String> {
    let short = |asked: Asked| format!("{} {}", asked.method, asked.route().replace(ID, "ID"));
    server.take_asked().into_iter().map(short).collect()
}

#[test]
fn run_attaches_and_waits_before_it_starts_and_ends_with_the_exit_code() {
    let output = [frame(1, "out\n"), frame(2, "err\n"), frame(1, &"x".repeat(200_000))].concat();
    let server = Story { output, exit_code: 7, ..Story::default() }.serve();
    let done = run(&berth(), &server.host(), &["run", "--rm", "busybox", "true"], "");
    check(&done, 7, &format!("out\n{}", "x".repeat(200_000)), "WARNING: mind the gap\nerr\n");
    let mut routes = routes(&server);
    assert_eq!(routes.remove(0), "POST /containers/create");
    assert_eq!(routes.pop().as_deref(), Some("POST /containers/ID/start"));
    routes.sort();
    assert_eq!(
        routes,
        ["POST /containers/ID/attach?stderr=1&stdout=1&stream=1", "POST /containers/ID/wait?condition=removed"]
    );
}

#[test]
fn run_i_sends_all_of_stdin_and_its_end() {
    let server = Story { echo: true, ..Story::default() }.serve();
    // More than all buffers on the way hold.
    let input = "line of input\n".repeat(100_000);
    let done = run(&berth(), &server.host(), &["run", "-i", "busybox", "cat"], &input);
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stdout == input.as_bytes(), "{} of {} bytes came back", done.stdout.len(), input.len());
}

#[test]
fn run_d_prints_the_id() {
    let server = Story::default().serve();
    let done = run(&berth(), &server.host(), &["run", "-d", "busybox"], "");
    check(&done, 0, &format!("{ID}\n"), "WARNING: mind the gap\n");
    assert_eq!(routes(&server), ["POST /containers/create", "POST /containers/ID/start"]);
}

#[test]
fn run_pulls_a_missing_image() {
    let server = Story { image_missing: true, ..Story::default() }.serve();
    let done = run(&berth(), &server.host(), &["run", "-d", "busybox"], "");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(
        stderr.starts_with("Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\n"),
        "{stderr}"
    );
    assert_eq!(done.stdout, format!("{ID}\n").as_bytes());
    let server = Story { image_missing: true, ..Story::default() }.serve();
    let done = run(&berth(), &server.host(), &["run", "--pull", "never", "busybox"], "");
    let hint = "Run 'berth run --help' for more information";
    check(&done, 125, "", &format!("berth: Error response from daemon: No such image: busybox:latest\n\n{hint}\n"));
}

#[test]
fn a_start_that_fails_has_the_code_of_its_reason() {
    for (text, code) in [
        ("exec: nope: executable file not found in $PATH", 127),
        ("exec /etc: is a directory", 126),
        ("no space left on device", 125),
    ] {
        let server = Story { start_error: Some(text), ..Story::default() }.serve();
        let done = run(&berth(), &server.host(), &["run", "--rm", "busybox"], "");
        let hint = "Run 'berth run --help' for more information";
        let want = format!("WARNING: mind the gap\nberth: Error response from daemon: {text}\n\n{hint}\n");
        check(&done, code, "", &want);
    }
}

#[test]
fn a_lost_daemon_is_an_error_and_not_an_exit_code() {
    let server = Server::start(|asked, writer| match asked.route().split('?').next().unwrap_or_default() {
        "/containers/create" => json(writer, 201, &format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}")),
        route if route.ends_with("/attach") => {
            let _ = write!(writer, "HTTP/1.1 101 UPGRADED\r\n\r\n");
            std::thread::sleep(Duration::from_millis(100));
            false
        }
        route if route.ends_with("/wait") => {
            let _ = write!(writer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            std::thread::sleep(Duration::from_millis(100));
            false
        }
        _ => write!(writer, "HTTP/1.1 204 No Content\r\n\r\n").is_ok(),
    });
    let done = run(&berth(), &server.host(), &["run", "busybox"], "");
    assert_eq!(done.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(stderr.starts_with("error waiting for container: "), "{stderr}");
}

#[test]
fn signals_are_forwarded_until_patience_ends() {
    let server = Server::start(|asked, writer| match asked.route().split('?').next().unwrap_or_default() {
        "/containers/create" => json(writer, 201, &format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}")),
        route if route.ends_with("/attach") => {
            let _ = write!(writer, "HTTP/1.1 101 UPGRADED\r\n\r\n");
            let _ = writer.write_all(&frame(1, "ready\n"));
            std::thread::sleep(Duration::from_secs(10));
            false
        }
        route if route.ends_with("/wait") => {
            let _ = write!(writer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            std::thread::sleep(Duration::from_secs(10));
            false
        }
        _ => write!(writer, "HTTP/1.1 204 No Content\r\n\r\n").is_ok(),
    });
    let mut child = client(&berth(), &server.host(), &["run", "busybox"]);
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("stdout").read_exact(&mut ready).expect("ready");
    let pid = rustix::process::Pid::from_child(&child);
    let send = |signal, name: &str| {
        server.take_asked();
        rustix::process::kill_process(pid, signal).expect("kill");
        let want = format!("POST /containers/ID/kill?signal={name}");
        for _ in 0..500 {
            if routes(&server).contains(&want) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{name} was not forwarded");
    };
    send(rustix::process::Signal::USR1, "USR1");
    send(rustix::process::Signal::INT, "INT");
    send(rustix::process::Signal::TERM, "TERM");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("kill");
    let done = child.wait_with_output().expect("end");
    check(&done, 1, "", "got 3 SIGTERM/SIGINTs, forcefully exiting\n");
}

#[test]
fn exec_ends_with_the_exit_code_of_its_process() {
    let server = Server::start(|asked, writer| match asked.route() {
        "/containers/c/exec" => json(writer, 201, "{\"Id\":\"e1\"}"),
        "/exec/e1/start" => {
            let _ = write!(writer, "HTTP/1.1 101 UPGRADED\r\n\r\n");
            let mut input = String::new();
            let _ = writer.read_to_string(&mut input);
            let _ = writer.write_all(&frame(2, &input));
            false
        }
        "/exec/e1/json" => json(writer, 200, "{\"ID\":\"e1\",\"Running\":false,\"ExitCode\":42}"),
        _ => json(writer, 404, "{\"message\":\"page not found\"}"),
    });
    let done = run(&berth(), &server.host(), &["exec", "-i", "c", "sh", "-c", "x"], "typed\n");
    check(&done, 42, "", "typed\n");
    let create: serde_json::Value = serde_json::from_slice(&server.take_asked()[0].body).expect("body");
    assert_eq!(create["Cmd"], serde_json::json!(["sh", "-c", "x"]));
    assert_eq!(create["AttachStdin"], true);
}

#[test]
fn logs_take_frames_apart_and_leave_raw_output_alone() {
    let server = Server::start(|asked, writer| {
        let kind = if asked.path.contains("/tty/") { "raw" } else { "multiplexed" };
        let body = if kind == "raw" { b"raw\r\n".to_vec() } else { [frame(1, "one\n"), frame(2, "two\n")].concat() };
        let head = "Api-Version: 1.56\r\nContent-Type: application/vnd.docker";
        let _ = write!(writer, "HTTP/1.1 200 OK\r\n{head}.{kind}-stream\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all(&body).is_ok()
    });
    check(&run(&berth(), &server.host(), &["logs", "c"], ""), 0, "one\n", "two\n");
    check(&run(&berth(), &server.host(), &["logs", "-n", "5", "-t", "tty"], ""), 0, "raw\r\n", "");
    let routes = routes(&server);
    assert_eq!(routes[1], "GET /containers/tty/logs?stderr=1&stdout=1&tail=5&timestamps=1");
}

#[test]
fn an_older_daemon_is_spoken_to_in_its_version() {
    let server = Server::start(|asked, writer| match asked.path.strip_prefix("/v1.41") {
        Some(_) => write!(writer, "HTTP/1.1 204 No Content\r\nApi-Version: 1.41\r\n\r\n").is_ok(),
        None => {
            let body = "{\"message\":\"client version 1.56 is too new. Maximum supported API version is 1.41\"}";
            let head = "Api-Version: 1.41\r\nContent-Type: application/json";
            write!(writer, "HTTP/1.1 400 Bad Request\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
        }
    });
    check(&run(&berth(), &server.host(), &["start", "a", "b"], ""), 0, "a\nb\n", "");
    let paths: Vec<_> = server.take_asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/v1.56/containers/a/start", "/v1.41/containers/a/start", "/v1.41/containers/b/start"]);
}

#[test]
fn several_objects_go_on_after_an_error() {
    let server = Server::start(|asked, writer| match asked.route() {
        "/containers/bad" => json(writer, 404, "{\"message\":\"No such container: bad\"}"),
        _ => write!(writer, "HTTP/1.1 204 No Content\r\n\r\n").is_ok(),
    });
    let done = run(&berth(), &server.host(), &["rm", "a", "bad", "b"], "");
    check(&done, 1, "a\nb\n", "Error response from daemon: No such container: bad\n");
}

#[test]
fn no_daemon_is_told_with_the_host() {
    let done = run(&berth(), "unix:///nonexistent/sock", &["start", "a"], "");
    assert_eq!(done.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(stderr.starts_with("failed to connect to the berth API at unix:///nonexistent/sock; check if the path is correct and if the daemon is running: "), "{stderr}");
}

fn client(program: &Path, host: &str, words: &[&str]) -> std::process::Child {
    let mut command = Command::new(program);
    command.args(words).env_clear().env("DOCKER_HOST", host).env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("client")
}
