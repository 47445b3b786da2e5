//! The registry beside others: nginx with the same file, and Debian's docker-registry with the same manifests.
//!
//! `cargo run --release -p bench --bin registry [-- BERTH]` as root. Everything runs in a network namespace of its own with temporary
//! directories; the samples are taken in turns, so that a busy moment of the machine meets everybody.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use berth_testkit::Sandbox;
use sha2::{Digest as _, Sha256};

/// Says that we are in the namespace already.
const INSIDE: &str = "--inside";
const BLOB: usize = 1 << 30;
const BLOB_ROUNDS: usize = 25;
const MANIFESTS: usize = 2000;
const CLIENTS: usize = 32;
/// Requests of one round, all clients together.
const REQUESTS: usize = 20_000;
const MANIFEST_ROUNDS: usize = 3;
/// How long a server has to answer at first.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == INSIDE) {
        return measure(Path::new(&words[1]), Path::new(&words[2]));
    }
    let here = std::env::current_exe()?;
    let berth = match words.first() {
        Some(path) => PathBuf::from(path),
        None => here.with_file_name("berth"),
    };
    let berth = berth.canonicalize().with_context(|| format!("the program {}: name it", berth.display()))?;
    let sandbox = Sandbox::new();
    let status = sandbox.command(here).arg(INSIDE).arg(berth).arg(sandbox.path()).status()?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

/// A server that runs.
struct Server {
    name: &'static str,
    port: u16,
    child: Child,
}

impl Server {
    fn start(name: &'static str, port: u16, command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { name, port, child: child.with_context(|| format!("starting {name}"))? };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "{name} does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// It and its children.
    fn processes(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|id| id.parse().ok()).chain([id]).collect()
    }

    /// Processor time so far.
    fn cpu(&self) -> Duration {
        let ticks = |id: &u32| -> Option<u64> {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        };
        // A tick is a hundredth of a second on every Linux that anybody uses.
        Duration::from_millis(self.processes().iter().filter_map(ticks).sum::<u64>() * 10)
    }

    /// The most memory that was resident, in MiB.
    fn memory(&self) -> f64 {
        let kib = |id: &u32| -> Option<f64> {
            let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        self.processes().iter().filter_map(kib).sum::<f64>() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ids = self.processes();
        for id in ids.into_iter().filter_map(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn measure(berth: &Path, directory: &Path) -> Result<()> {
    let blob = directory.join("www/blob");
    fs::create_dir_all(directory.join("www"))?;
    let digest = make_blob(&blob)?;
    let ours = berth_server(berth, directory)?;
    let nginx = nginx_server(directory)?;
    push_blob(&ours, &blob, &digest)?;
    let targets = [(&ours, format!("/v2/bench/blobs/{digest}")), (&nginx, "/blob".to_owned())];
    let mut seconds = [Vec::new(), Vec::new()];
    let mut cpu = [Vec::new(), Vec::new()];
    for round in 0..=BLOB_ROUNDS {
        for (n, (server, target)) in targets.iter().enumerate() {
            let (started, before) = (Instant::now(), server.cpu());
            let bytes = get(server.port, target)?;
            ensure!(bytes == BLOB as u64, "{} gave {bytes} bytes", server.name);
            // The first round only warms up.
            if round > 0 {
                seconds[n].push(started.elapsed().as_secs_f64());
                cpu[n].push((server.cpu() - before).as_secs_f64());
            }
        }
    }
    let (seconds, cpu) = (seconds.map(median), cpu.map(median));
    println!("GET of a blob of 1 GiB, median of {BLOB_ROUNDS}:");
    for (n, (server, _)) in targets.iter().enumerate() {
        let speed = BLOB as f64 / seconds[n] / 1e6;
        println!("  {:16} {speed:8.0} MB/s  {:6.2} s of processor", server.name, cpu[n]);
    }
    println!("  ratio to nginx   {:8.2}", seconds[1] / seconds[0]);
    drop(nginx);
    manifests(&ours, directory)
}

/// The middle one; there is at least one.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn manifests(ours: &Server, directory: &Path) -> Result<()> {
    let other = docker_registry(directory)?;
    let servers = [ours, &other];
    for server in servers {
        push_manifests(server)?;
    }
    let mut best = [0.0_f64; 2];
    for _ in 0..MANIFEST_ROUNDS {
        for (n, server) in servers.iter().enumerate() {
            best[n] = best[n].max(requests_per_second(server)?);
        }
    }
    println!("{MANIFESTS} small manifests by {CLIENTS} clients, best of {MANIFEST_ROUNDS}:");
    for (n, server) in servers.iter().enumerate() {
        println!("  {:16} {:8.0} requests/s  {:6.1} MiB at most", server.name, best[n], server.memory());
    }
    println!("  ratio            {:8.2}", best[0] / best[1]);
    Ok(())
}

fn make_blob(path: &Path) -> Result<String> {
    let mut file = fs::File::create(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0_u8; 1 << 20];
    for n in 0..BLOB / piece.len() {
        // Different pieces, quickly made.
        piece.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at.wrapping_mul(31) >> (n % 7)) as u8);
        hash.update(&piece);
        file.write_all(&piece)?;
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

fn berth_server(berth: &Path, directory: &Path) -> Result<Server> {
    let mut command = Command::new(berth);
    command.args(["registry", "serve", "--log-level", "error"]).arg(directory.join("berth"));
    Server::start("berth", 5000, &mut command)
}

fn nginx_server(directory: &Path) -> Result<Server> {
    let path = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {path}/nginx-{kind}; "))
        .collect();
    let text = format!(
        "worker_processes 2; daemon off; pid {path}/nginx.pid; error_log {path}/nginx.log; user root;\n\
         events {{ }}\nhttp {{ access_log off; sendfile on; tcp_nopush on; {temporary}\n\
         server {{ listen 127.0.0.1:5002; root {path}/www; }} }}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, text)?;
    Server::start("nginx", 5002, Command::new("nginx").arg("-c").arg(file))
}

fn docker_registry(directory: &Path) -> Result<Server> {
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}/docker}}, cache: {{blobdescriptor: inmemory}}}}\n\
         http: {{addr: \"127.0.0.1:5001\"}}\n",
        directory.display()
    );
    let file = directory.join("docker.yml");
    fs::write(&file, text)?;
    Server::start("docker-registry", 5001, Command::new("docker-registry").arg("serve").arg(file))
}

fn push_blob(server: &Server, path: &Path, digest: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let head =
        format!("POST /v2/bench/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: r\r\nContent-Length: {BLOB}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    std::io::copy(&mut fs::File::open(path)?, &mut stream)?;
    let answer = answer(&mut stream, &mut Vec::new())?;
    ensure!(answer.status == 201, "pushing the blob: {}", answer.status);
    Ok(())
}

fn push_manifests(server: &Server) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let mut ahead = Vec::new();
    let mut send = |method: &str, target: &str, kind: &str, body: &str| -> Result<Answer> {
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: r\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes())?;
        answer(&mut stream, &mut ahead)
    };
    let config =
        format!("sha256:{}", Sha256::digest(b"{}").iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let begun = send("POST", "/v2/many/blobs/uploads/", "application/octet-stream", "")?;
    let location = begun.location.context("no place for the upload")?;
    let path = location.find("/v2/").map_or(location.as_str(), |at| &location[at..]);
    let joint = if path.contains('?') { '&' } else { '?' };
    let done = send("PUT", &format!("{path}{joint}digest={config}"), "application/octet-stream", "{}")?;
    ensure!(done.status == 201, "pushing the configuration: {}", done.status);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    for n in 0..MANIFESTS {
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[],"annotations":{{"n":"{n}"}}}}"#
        );
        let done = send("PUT", &format!("/v2/many/manifests/t{n}"), kind, &body)?;
        ensure!(done.status == 201, "pushing a manifest to {}: {}", server.name, done.status);
    }
    Ok(())
}

fn requests_per_second(server: &Server) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(server.port, &next))).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    results.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(REQUESTS as f64 / started.elapsed().as_secs_f64())
}

fn client(port: u16, next: &AtomicUsize) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut ahead = Vec::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= REQUESTS {
            return Ok(());
        }
        let tag = n.wrapping_mul(7) % MANIFESTS;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        write!(stream, "GET /v2/many/manifests/t{tag} HTTP/1.1\r\nHost: r\r\nAccept: {kind}\r\n\r\n")?;
        let answer = answer(&mut stream, &mut ahead)?;
        ensure!(answer.status == 200, "a manifest: {}", answer.status);
    }
}

/// The whole body of a large answer is read and forgotten: how many bytes.
fn get(port: u16, target: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0; 256 << 10];
    let mut head = Vec::new();
    let mut total = 0_u64;
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(total);
        }
        match total {
            0 => {
                head.extend_from_slice(&buffer[..n]);
                if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                    ensure!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head[..end]));
                    total = (head.len() - end - 4) as u64;
                }
            }
            _ => total += n as u64,
        }
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
}

/// Reads one answer from a connection that goes on.
fn answer(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> Result<Answer> {
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(end) = ahead.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&ahead[..end]).into_owned();
            let field = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            let length = field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            if ahead.len() >= end + 4 + length {
                ahead.drain(..end + 4 + length);
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
                return Ok(Answer { status, location: field("location") });
            }
        }
        match stream.read(&mut buffer)? {
            0 => bail!("the server hung up"),
            n => ahead.extend_from_slice(&buffer[..n]),
        }
    }
}
