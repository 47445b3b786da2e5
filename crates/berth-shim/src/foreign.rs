//! Streams as containerd names them: FIFOs, files, or a program that logs.
//!
//! Without a terminal the process gets them as its own descriptors and the shim copies nothing. It only holds each FIFO
//! open, so that the process neither sees the end of its input nor a broken pipe while the manager restarts.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use berth_sys::exec::CStrings;
use berth_sys::spawn::{Program, SpawnRequest};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::ShimError;
use crate::stdio::{Inner, null};

/// How long a logging program may take until it reads.
const LOGGER_PATIENCE: Duration = Duration::from_secs(10);

/// The names of a process's streams; empty where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Input.
    pub stdin: String,
    /// Output.
    pub stdout: String,
    /// Errors.
    pub stderr: String,
}

/// The streams of a process, as long as it lives.
#[derive(Debug)]
pub struct Streams {
    /// Their names.
    pub names: Names,
    stdin: Option<OwnedFd>,
    others: Vec<OwnedFd>,
}

impl Streams {
    /// Names only.
    pub fn unopened(names: Names) -> Self {
        Self { names, stdin: None, others: Vec::new() }
    }

    /// Lets input end when its last writer does.
    pub fn release_stdin(&mut self) {
        self.stdin = None;
    }

    /// The process is gone.
    pub fn release(&mut self) {
        self.stdin = None;
        self.others = Vec::new();
    }
}

/// Streams that were opened, and the ends for whoever uses them.
pub struct Opened {
    /// What the shim keeps.
    pub streams: Streams,
    /// Read from for input.
    pub stdin: Option<OwnedFd>,
    /// Written to with output.
    pub stdout: Option<OwnedFd>,
    /// Written to with errors.
    pub stderr: Option<OwnedFd>,
}

impl Opened {
    /// All three for a process without a terminal.
    pub fn into_inner(self) -> io::Result<(Streams, Inner)> {
        let or_null = |fd: Option<OwnedFd>| fd.map_or_else(null, Ok);
        Ok((self.streams, Inner::new(or_null(self.stdin)?, or_null(self.stdout)?, or_null(self.stderr)?)))
    }
}

/// Who the streams are for; a logging program is told.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The container.
    pub id: &'a str,
    /// Its namespace within containerd.
    pub namespace: &'a str,
}

/// Opens streams by their names.
pub fn open(names: Names, owner: Owner<'_>) -> Result<Opened, ShimError> {
    let mut opened = Opened { streams: Streams::unopened(Names::default()), stdin: None, stdout: None, stderr: None };
    if let Some(fifo) = path_of(&names.stdin) {
        let failed = || ShimError::own("opening stdin", fifo);
        opened.streams.stdin = hold(fifo).map_err(failed())?;
        opened.stdin = Some(
            rustix::fs::open(fifo, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(io::Error::from)
                .map_err(failed())?,
        );
    }
    if names.stdout.starts_with("binary://") {
        let failed = ShimError::own("starting the logging program", &names.stdout);
        let (stdout, stderr) = start_logger(&names.stdout, owner).map_err(failed)?;
        (opened.stdout, opened.stderr) = (Some(stdout), Some(stderr));
    } else {
        opened.stdout = output(&names.stdout, &mut opened.streams.others)?;
        opened.stderr = output(&names.stderr, &mut opened.streams.others)?;
    }
    opened.streams.names = names;
    Ok(opened)
}

fn output(name: &str, holds: &mut Vec<OwnedFd>) -> Result<Option<OwnedFd>, ShimError> {
    let failed = || ShimError::own("opening output", name);
    if let Some(path) = name.strip_prefix("file://") {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map_err(io::Error::from);
        return file.map(Some).map_err(failed());
    }
    let Some(fifo) = path_of(name) else { return Ok(None) };
    holds.extend(hold(fifo).map_err(failed())?);
    let end = rustix::fs::open(fifo, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from);
    end.map(Some).map_err(failed())
}

/// The path of a FIFO, which may be written as a URI.
fn path_of(name: &str) -> Option<&str> {
    let path = name.strip_prefix("fifo://").unwrap_or(name);
    (!path.is_empty()).then_some(path)
}

/// Opens both sides of a FIFO, so that neither side of it ever lacks its other.
fn hold(path: &str) -> io::Result<Option<OwnedFd>> {
    let held = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode);
    // Anything else has no other side.
    Ok((kind == FileType::Fifo).then_some(held))
}

/// Starts `binary:///program?argument=value`: it reads output from its descriptor 3, errors from 4, and closes 5 when ready.
fn start_logger(uri: &str, owner: Owner<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let rest = uri.strip_prefix("binary://").unwrap_or(uri);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = decoded(path);
    let mut arguments = vec![path.clone()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        arguments.push(decoded(name));
        if !value.is_empty() {
            arguments.push(decoded(value));
        }
    }
    let environment = [
        format!("CONTAINER_ID={}", owner.id).into_bytes(),
        format!("CONTAINER_NAMESPACE={}", owner.namespace).into_bytes(),
    ];
    let (stdout_reader, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr_reader, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let (ready, ready_writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let null = null()?;
    let path = CString::new(path)?;
    SpawnRequest {
        program: Program::Path(&path),
        arguments: &CStrings::from_texts(arguments)?,
        environment: &CStrings::from_texts(environment)?,
        stdio: [null.as_fd(), null.as_fd(), null.as_fd()],
        more: &[stdout_reader.as_fd(), stderr_reader.as_fd(), ready_writer.as_fd()],
        directory: c"/",
        new_session: false,
    }
    .run()?;
    drop(ready_writer);
    let patience = Timespec { tv_sec: LOGGER_PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let readable = poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&patience))?;
    if readable == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not get ready"));
    }
    Ok((stdout, stderr))
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    out
}

/// Whether a name is one this shim can open: refused early, before anything was made.
pub fn check(names: &Names) -> Result<(), ShimError> {
    for name in [&names.stdin, &names.stdout, &names.stderr] {
        let known = name.split_once("://").is_none_or(|(scheme, _)| ["fifo", "file", "binary"].contains(&scheme));
        if !known || (!name.contains("://") && !name.is_empty() && !Path::new(name).is_absolute()) {
            return Err(ShimError::Invalid(format!("unknown kind of stream: {name:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const OWNER: Owner<'_> = Owner { id: "abc", namespace: "tests" };

    #[test]
    fn names_are_checked() {
        let names = |stdout: &str| Names { stdout: stdout.to_owned(), ..Names::default() };
        for good in ["", "/run/x", "fifo:///run/x", "file:///x", "binary:///bin/true?a=b"] {
            check(&names(good)).unwrap();
        }
        for bad in ["relative", "http://x"] {
            assert!(check(&names(bad)).is_err());
        }
        assert_eq!(decoded("/a%20b+c%zz"), b"/a b c%zz");
    }

    #[test]
    fn a_fifo_is_held_open_until_released() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let names = Names { stdout: path.to_str().unwrap().to_owned(), ..Names::default() };
        let mut opened = open(names, OWNER).unwrap();
        let writer = opened.stdout.take().unwrap();
        assert_eq!(rustix::io::write(&writer, b"kept").unwrap(), 4);
        let mut reader = std::fs::File::open(&path).unwrap();
        drop(writer);
        opened.streams.release();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn a_program_reads_the_output() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("log ger");
        let out = directory.path().join("out");
        let text = "#!/bin/sh\nexec 5>&-\n{ echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $2\"; cat <&3; } > \"$2\"\n";
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let script = script.to_str().unwrap().replace(' ', "%20");
        let stdout = format!("binary://{script}?file={}", out.display());
        let opened = open(Names { stdout, ..Names::default() }, OWNER).unwrap();
        rustix::io::write(opened.stdout.as_ref().unwrap(), b"text\n").unwrap();
        drop(opened);
        // Not waited for as a child: the tests beside this one have children too.
        let written = format!("tests/abc {}\ntext\n", out.display());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::fs::read_to_string(&out).ok().as_ref() != Some(&written) {
            assert!(std::time::Instant::now() < deadline, "{:?}", std::fs::read_to_string(&out));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
