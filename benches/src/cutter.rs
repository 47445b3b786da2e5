//! A bad line: passes connections on to a server, cuts each after so many bytes, and counts what came through.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};

/// The first word that makes this program a bad line.
pub const WORD: &str = "--cutter";
/// No connection brings more, in bytes.
const CUT: u64 = 16_000_000;

/// Serves until its input ends. The words: own port, the server's port, a file for the count.
pub fn serve(words: &[String]) -> ExitCode {
    let [port, server, count] = words else { return ExitCode::FAILURE };
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    match listen(port, server, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cutter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn listen(port: &str, server: &str, count: &str) -> Result<()> {
    let (port, server): (u16, u16) = (port.parse()?, server.parse()?);
    // What a killed daemon had not read yet is lost: a line holds little, a kernel's loopback megabytes. Holds for this namespace only.
    for side in ["rmem", "wmem"] {
        std::fs::write(format!("/proc/sys/net/ipv4/tcp_{side}"), "4096 65536 65536").context("making buffers small")?;
    }
    let file = File::create(count).with_context(|| format!("making {count}"))?;
    let count = Arc::new(Mutex::new(Count { file, bytes: 0 }));
    let listener = TcpListener::bind(("127.0.0.1", port)).context("listening")?;
    for client in listener.incoming() {
        let (client, count) = (client.context("a client")?, Arc::clone(&count));
        // A client whose server is away finds its connection closed.
        std::thread::spawn(move || pass(client, server, &count));
    }
    Ok(())
}

/// How many bytes came, for others to read.
struct Count {
    file: File,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) -> std::io::Result<()> {
        self.bytes += bytes as u64;
        self.file.write_all_at(&self.bytes.to_le_bytes(), 0)
    }
}

fn pass(mut client: TcpStream, server: u16, count: &Mutex<Count>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server))?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut left, mut buffer) = (CUT, vec![0; 64 << 10]);
    while left > 0 {
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let bytes = server.read(&mut buffer[..room])?;
        if bytes == 0 {
            break;
        }
        client.write_all(&buffer[..bytes])?;
        count.lock().unwrap_or_else(PoisonError::into_inner).add(bytes)?;
        left -= bytes as u64;
    }
    server.shutdown(Shutdown::Both)?;
    client.shutdown(Shutdown::Both)
}
