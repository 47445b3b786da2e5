//! Raw streams: the exact heads of attach, exec and the websocket, frames, half-closed input, connections that were in use.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

use berth_testkit::Berth;
use serde_json::{Value, json};

use crate::start;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
const OPENED: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                      Connection: Upgrade\r\nUpgrade: tcp\r\n";

/// A client's end of a raw connection, and what it has read.
struct Raw(UnixStream, Vec<u8>);

impl Raw {
    fn open(berth: &Berth, request: &str) -> Self {
        let stream = UnixStream::connect(berth.sandbox().socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut raw = Raw(stream, Vec::new());
        raw.send(request.as_bytes());
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the daemon reads");
    }

    /// Waits for the end of a head: from then on the client is attached.
    fn await_head(&mut self) {
        let mut byte = [0];
        while !self.1.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).expect("a head");
            self.1.push(byte[0]);
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    fn close_input(&mut self) {
        self.0.shutdown(Shutdown::Write).expect("half close");
    }

    /// Everything up to the end, which the daemon must reach.
    fn rest(mut self) -> Vec<u8> {
        self.0.read_to_end(&mut self.1).expect("the stream ends");
        self.1
    }
}

fn attach(name: &str, query: &str, headers: &str) -> String {
    format!("POST /v1.56/containers/{name}/attach?{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

fn create(berth: &Berth, name: &str, command: &[&str], tty: bool) {
    let body = json!({"Image": "busybox", "Cmd": command, "OpenStdin": true, "StdinOnce": true, "Tty": tty,
                      "HostConfig": {"NetworkMode": "none"}});
    let (status, answer) = berth.api("POST", &format!("/containers/create?name={name}"), Some(&body));
    assert_eq!(status, 201, "{answer}");
}

fn run(berth: &Berth, name: &str) {
    assert_eq!(berth.api("POST", &format!("/containers/{name}/start"), None).0, 204);
}

fn frame(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short").to_be_bytes();
    [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
}

#[track_caller]
fn assert_stream(bytes: &[u8], head: &str, frames: &[Vec<u8>]) {
    let expected = [head.as_bytes(), &frames.concat()].concat();
    assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&expected));
}

#[test]
fn attach_upgrades_and_carries_both_directions() {
    let berth = start();
    create(&berth, "box", &["sh", "-c", "echo out; cat"], false);
    let mut client = Raw::open(&berth, &attach("box", "stream=1&stdin=1&stdout=1&stderr=1", UPGRADE));
    client.await_head();
    run(&berth, "box");
    client.send(b"in\n");
    client.close_input();
    assert_stream(&client.rest(), &format!("{OPENED}\r\n"), &[frame(1, "out\n"), frame(1, "in\n")]);
}

#[test]
fn attach_without_upgrade_answers_200_with_the_name_that_old_clients_know() {
    let berth = start();
    create(&berth, "box", &["cat"], false);
    let mut client = Raw::open(&berth, &attach("box", "stream=1&stdin=1&stdout=1", ""));
    client.await_head();
    run(&berth, "box");
    client.send(b"in\n");
    client.close_input();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
    assert_stream(&client.rest(), head, &[frame(1, "in\n")]);
}

#[test]
fn input_that_came_with_the_request_on_a_used_connection_is_not_lost() {
    let berth = start();
    create(&berth, "box", &["cat"], false);
    let ping = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client =
        Raw::open(&berth, &format!("{ping}{}early\n", attach("box", "stream=1&stdin=1&stdout=1", UPGRADE)));
    client.close_input();
    // The head of the ping, its body, and the head of attach.
    client.await_head();
    let body = client.take(2);
    client.1.extend_from_slice(&body);
    client.await_head();
    run(&berth, "box");
    let bytes = client.rest();
    let text = String::from_utf8_lossy(&bytes);
    let (pinged, stream) = text.split_once("OKHTTP/1.1 101").expect("both answers");
    assert!(pinged.starts_with("HTTP/1.1 200 OK\r\n"), "{pinged}");
    assert!(stream.ends_with("\x01\0\0\0\0\0\0\x06early\n"), "{stream:?}");
}

#[test]
fn a_refused_attach_is_a_raw_answer() {
    let berth = start();
    let refused = |request: &str| String::from_utf8(Raw::open(&berth, request).rest()).expect("text");
    let head = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
    assert_eq!(
        refused(&attach("nosuch", "stream=1", UPGRADE)),
        format!("{}No such container: nosuch\r\n", head("404 Not Found"))
    );
    assert_eq!(
        refused(&attach("nosuch", "detachKeys=bogus-x", UPGRADE)),
        format!("{}Invalid detach keys (bogus-x) provided\r\n", head("400 Bad Request"))
    );
}

#[test]
fn detach_keys_leave_a_terminal_and_its_container_alone() {
    let berth = start();
    create(&berth, "box", &["sleep", "600"], true);
    run(&berth, "box");
    let mut client = Raw::open(&berth, &attach("box", "stream=1&stdin=1&stdout=1", UPGRADE));
    client.send(b"\x10\x11");
    let head = OPENED.replace("multiplexed-stream", "raw-stream");
    assert_stream(&client.rest(), &format!("{head}\r\n"), &[]);
    assert_eq!(berth.api("GET", "/containers/box/json", None).1["State"]["Status"], "running");
    let actions = berth.run("events --since 1h --until 0s --filter container=box --format '{{.Action}}'").succeeds();
    assert!(actions.lines().any(|action| action == "detach"), "{actions}");
}

fn exec(berth: &Berth, body: &Value, start: &str, headers: &str) -> (String, Raw) {
    let (status, created) = berth.api("POST", "/containers/box/exec", Some(body));
    assert_eq!(status, 201, "{created}");
    let id = created["Id"].as_str().expect("an id").to_owned();
    let length = start.len();
    let head = format!(
        "POST /v1.56/exec/{id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    );
    let raw = Raw::open(berth, &format!("{head}{headers}\r\n{start}"));
    (id, raw)
}

/// The headers of every answer, as they stand in a head of exec start.
fn common() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("Api-Version: 1.56\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Berth/{version} (linux)\r\n")
}

#[test]
fn exec_streams_and_reports_its_end() {
    let berth = start();
    create(&berth, "box", &["sleep", "600"], false);
    run(&berth, "box");
    let body = json!({"Cmd": ["sh", "-c", "echo o; sleep 0.1; echo e >&2; exit 3"], "AttachStdout": true, "AttachStderr": true});
    let (id, raw) = exec(&berth, &body, "{}", UPGRADE);
    assert_stream(&raw.rest(), &format!("{OPENED}{}\r\n", common()), &[frame(1, "o\n"), frame(2, "e\n")]);
    assert_eq!(berth.api("GET", &format!("/exec/{id}/json"), None).1["ExitCode"], 3);

    let body = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true});
    let (_, mut raw) = exec(&berth, &body, "{}", "");
    raw.send(b"abc\n");
    raw.close_input();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n{}\r\n", common());
    assert_stream(&raw.rest(), &head, &[frame(1, "abc\n")]);
}

#[test]
fn a_websocket_carries_output_unmarked_and_ends_normally() {
    let berth = start();
    create(&berth, "box", &["sh", "-c", "echo err >&2; sleep 0.1; echo out"], false);
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let path = "/v1.56/containers/box/attach/ws?stream=1&stdout=1&stderr=1";
    let mut client = Raw::open(&berth, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{handshake}\r\n"));
    client.await_head();
    run(&berth, "box");
    let bytes = client.rest();
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(bytes, [head.as_bytes(), b"\x82\x04err\n\x82\x04out\n\x88\x02\x03\xe8"].concat());
    let plain = Raw::open(&berth, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).rest();
    assert_eq!(plain, b"HTTP/1.1 400 Bad Request\r\n\r\nnot websocket protocol");
}

#[test]
fn wait_sends_its_head_before_the_container_ends() {
    let berth = start();
    create(&berth, "box", &["sleep", "600"], false);
    run(&berth, "box");
    let mut client = Raw::open(&berth, "POST /containers/box/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut head = [0; 17];
    client.0.read_exact(&mut head).expect("the head comes at once");
    assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");
    assert_eq!(berth.api("POST", "/containers/box/kill", None).0, 204);
    assert!(String::from_utf8_lossy(&client.rest()).contains("{\"StatusCode\":137}"));
}

#[test]
fn who_reads_slowly_gets_all_of_it_after_the_end() {
    let berth = start();
    for words in ["--rm", "--log-driver none", "--restart no"] {
        berth.run(&format!("create --name flood {words} busybox sh -c 'yes | head -c 1000000'")).succeeds();
        let mut raw = Raw::open(&berth, &attach("flood", "stream=1&stdout=1", UPGRADE));
        raw.await_head();
        raw.1.clear();
        run(&berth, "flood");
        // Nothing is read until the container is gone, and its shim has been asked to leave.
        crate::eventually("the container has ended", || berth.run("ps -q").stdout.is_empty());
        let _ = berth.run("rm flood");
        crate::eventually("the container is removed", || berth.run("ps -aq").stdout.is_empty());
        let (bytes, mut told, mut at) = (raw.rest(), 0, 0);
        while let Some(length) = bytes.get(at + 4..at + 8) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            (told, at) = (told + length, at + 8 + length);
        }
        assert_eq!((told, at), (1_000_000, bytes.len()), "{words}");
    }
}
