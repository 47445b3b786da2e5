//! The streams of one process: pipes or a terminal, and the shim's side of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

/// One of the two streams of output. A terminal has only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Number 1.
    Stdout,
    /// Number 2.
    Stderr,
}

impl Stream {
    /// The number, as frames carry it.
    pub fn number(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }

    /// The name, as logs carry it.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Whether a process has a stdin that somebody may write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinMode {
    /// It reads `/dev/null`.
    Closed,
    /// It reads what clients write.
    Open,
}

/// The process's ends of its streams; closed here once it has them.
#[derive(Debug)]
pub struct Inner {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Inner {
    /// Takes three descriptors as they are.
    pub fn new(stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> Self {
        Self { stdin, stdout, stderr }
    }

    /// As the runtime wants them.
    pub fn as_stdio(&self) -> berth_runtime::Stdio<'_> {
        berth_runtime::Stdio { input: self.stdin.as_fd(), output: self.stdout.as_fd(), error: self.stderr.as_fd() }
    }
}

/// The shim's ends; all non-blocking.
#[derive(Debug, Default)]
pub struct Outer {
    /// Where input goes.
    pub stdin: Option<OwnedFd>,
    /// Where output comes from.
    pub stdout: Option<OwnedFd>,
    /// Where errors come from.
    pub stderr: Option<OwnedFd>,
}

/// Makes pipes for a process without a terminal.
pub fn pipes(stdin: StdinMode) -> io::Result<(Inner, Outer)> {
    let (stdout, inner_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, inner_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(stdout.as_fd())?;
    set_nonblocking(stderr.as_fd())?;
    let (inner_stdin, stdin) = match stdin {
        StdinMode::Closed => (null()?, None),
        StdinMode::Open => {
            let (inner, outer) = pipe_with(PipeFlags::CLOEXEC)?;
            set_nonblocking(outer.as_fd())?;
            (inner, Some(outer))
        }
    };
    let outer = Outer { stdin, stdout: Some(stdout), stderr: Some(stderr) };
    Ok((Inner { stdin: inner_stdin, stdout: inner_stdout, stderr: inner_stderr }, outer))
}

/// The shim's ends of a terminal, given its master.
pub fn terminal(master: OwnedFd, stdin: StdinMode) -> io::Result<Outer> {
    set_nonblocking(master.as_fd())?;
    // A copy, so that reading and writing are waited for apart.
    let stdin = match stdin {
        StdinMode::Open => Some(rustix::io::fcntl_dupfd_cloexec(&master, 3)?),
        StdinMode::Closed => None,
    };
    Ok(Outer { stdin, stdout: Some(master), stderr: None })
}

/// `/dev/null`.
pub fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes reads and writes return instead of waiting. See fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}
