//! A daemon of paper: an HTTP server on a unix socket that gives the answers of a script and writes down what it was asked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

/// The answer to requests of one method whose path, without version, begins with `path`.
#[derive(Clone)]
pub struct Route {
    pub method: &'static str,
    pub path: String,
    pub status: u16,
    pub body: String,
}

/// The server of one scenario; ends with the process.
pub struct Server {
    script: Arc<Mutex<Vec<Route>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Listens on `socket`.
    pub fn start(socket: &Path) -> io::Result<Server> {
        let listener = UnixListener::bind(socket)?;
        let server = Server { script: Arc::default(), asked: Arc::default() };
        let (script, asked) = (Arc::clone(&server.script), Arc::clone(&server.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                thread::spawn(move || while serve(&stream, &script, &asked).unwrap_or(false) {});
            }
        });
        Ok(server)
    }

    /// Answers by `routes` from now on.
    pub fn play(&self, routes: &[Route]) {
        *self.script.lock().expect("script") = routes.to_vec();
        self.asked.lock().expect("asked").clear();
    }

    /// What was asked since, in a form that two clients can be compared by.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("asked").clone()
    }
}

/// Answers one request; false when the client is gone.
fn serve(stream: &UnixStream, script: &Mutex<Vec<Route>>, asked: &Mutex<Vec<String>>) -> io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let body = read_body(&mut reader)?;
    let target = without_version(&target);
    if target.starts_with("/_ping") {
        answer(stream, 200, "OK", method == "HEAD")?;
        return Ok(true);
    }
    asked.lock().expect("asked").push(format!("{method} {} {}", sorted_query(target), sorted_body(&body)));
    let script = script.lock().expect("script").clone();
    let fitting = script.iter().filter(|route| route.method == method && target.starts_with(&route.path));
    match fitting.max_by_key(|route| route.path.len()) {
        Some(route) => answer(stream, route.status, &route.body, false)?,
        None => answer(stream, 404, "{\"message\":\"page not found\"}\n", false)?,
    }
    Ok(true)
}

fn read_body(reader: &mut BufReader<&UnixStream>) -> io::Result<Vec<u8>> {
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        chunked |= line == "transfer-encoding: chunked";
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap_or_default();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    while chunked {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or_default();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..size]);
        chunked = size > 0;
    }
    Ok(body)
}

fn without_version(target: &str) -> &str {
    match target.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])) {
        Some(rest) => rest,
        None => target,
    }
}

/// A document with its keys in order; anything else as it is.
fn sorted_body(body: &[u8]) -> String {
    fn sort(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(entries) => {
                let sorted: BTreeMap<_, _> = entries.into_iter().map(|(key, value)| (key, sort(value))).collect();
                sorted.into_iter().collect()
            }
            other => other,
        }
    }
    match serde_json::from_slice(body) {
        Ok(document) => sort(document).to_string(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// Clients order the parameters of a query as they like, and may leave out what is empty.
fn sorted_query(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let query = query.replace('+', "%20");
    let mut parameters: Vec<&str> = query.split('&').filter(|parameter| !parameter.ends_with('=')).collect();
    parameters.sort_unstable();
    format!("{path}?{}", parameters.join("&")).trim_end_matches('?').to_owned()
}

fn answer(mut stream: &UnixStream, status: u16, body: &str, head_only: bool) -> io::Result<()> {
    let bodiless = matches!(status, 204 | 304);
    let length = if bodiless { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!(
        "HTTP/1.1 {status} Status\r\nApi-Version: 1.50\r\nContent-Type: application/json\r\nDocker-Experimental: false\r\n\
         Ostype: linux\r\nServer: Paper/1\r\n{length}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    if !head_only && !bodiless {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}
