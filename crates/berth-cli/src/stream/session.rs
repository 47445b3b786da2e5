//! One attached process: the loop, and what ends it.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use berth_client::Stream;
use berth_client::frames::{Demultiplexer, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::detach::{DetachFilter, DetachKeys};
use super::outlet::Outlet;
use super::signals::{Happened, Signals};
use super::terminal::RawTerminal;
use crate::error::CliError;

/// How much is read at first, of the connection and of stdin: many processes say little, and each page of room has its price.
const FIRST_READ: usize = 4 * 1024;

/// How much is read at a time once so much comes.
const LARGEST_READ: usize = 32 * 1024;

/// A size that the daemon did not take, because the process has only just begun, is offered again after this time.
const RESIZE_RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Connections of an attached process.
pub(crate) struct Plan {
    /// The hijacked connection.
    pub stream: Stream,
    /// What has come of it already.
    pub early: Vec<u8>,
    /// Whether the process has a terminal, so that the stream has no frames.
    pub tty: bool,
    /// Whether stdin is connected.
    pub stdin: bool,
    /// Whether any output is.
    pub output: bool,
    /// The keys that detach; only a terminal's are looked at.
    pub detach_keys: DetachKeys,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The stream is over: the process has ended, or the daemon is gone.
    StreamOver,
    /// The user typed the detach keys.
    Detached,
    /// A signal ends the client with this code.
    Signalled(u8),
}

/// What a session asks of the daemon while it runs. Failures are not the session's: a process that has ended takes no signal.
pub(crate) trait Process {
    /// Sends a signal by its number.
    fn kill(&self, signal: i32);
    /// Tells the size of the terminal; false if it should be told again.
    fn resize(&self) -> bool;
}

/// An attached process.
pub(crate) struct Session {
    stream: Stream,
    stream_over: bool,
    /// Whether the stream may hold more although poll(2) does not say so: bytes of TLS, or a read that was cut short.
    more_to_read: bool,
    buffer: Vec<u8>,
    frames: Option<Demultiplexer>,
    stdout: Outlet,
    stderr: Outlet,
    input: Input,
    output: bool,
    signals: Option<Signals>,
    resizes_left: u32,
    engine_error: Vec<u8>,
    _raw: Option<RawTerminal>,
}

/// What goes to the process.
struct Input {
    open: bool,
    filter: Option<DetachFilter>,
    waiting: Vec<u8>,
    /// stdin has ended and the daemon is to be told.
    closing: bool,
}

impl Session {
    /// Makes the terminal raw if there is one, and the connection non-blocking.
    pub fn begin(plan: Plan, signals: Option<Signals>) -> Result<Session, CliError> {
        plan.stream.set_nonblocking(true)?;
        let raw = if plan.tty && plan.stdin && super::terminal::stdin_is_terminal() {
            Some(RawTerminal::enter()?)
        } else {
            None
        };
        let mut session = Session {
            more_to_read: matches!(plan.stream, Stream::Tls(_)),
            stream: plan.stream,
            stream_over: false,
            buffer: vec![0; FIRST_READ],
            frames: (!plan.tty).then(Demultiplexer::default),
            stdout: Outlet::new(rustix::stdio::stdout()),
            stderr: Outlet::new(rustix::stdio::stderr()),
            input: Input {
                open: plan.stdin,
                filter: plan.tty.then(|| DetachFilter::new(plan.detach_keys)),
                waiting: Vec::new(),
                closing: false,
            },
            output: plan.output,
            signals,
            resizes_left: if plan.tty { 10 } else { 0 },
            engine_error: Vec::new(),
            _raw: raw,
        };
        session.take_output(&plan.early)?;
        Ok(session)
    }

    /// Runs until the stream is over and all output is written, the user detaches, or a signal ends the client.
    pub fn run(&mut self, process: &dyn Process) -> Result<End, CliError> {
        loop {
            if self.resizes_left > 0 {
                self.resizes_left = if process.resize() { 0 } else { self.resizes_left - 1 };
            }
            if self.stream_over && self.stdout.is_empty() && self.stderr.is_empty() {
                return self.engine_error().map(|()| End::StreamOver);
            }
            // Without output the end of our input is all there is to wait for.
            if !self.output && !self.input.open && self.input.waiting.is_empty() && !self.input.closing {
                return Ok(End::StreamOver);
            }
            let ready = self.wait()?;
            if ready.signal
                && let Some(end) = self.handle_signals(process)?
            {
                return Ok(end);
            }
            if ready.stdout {
                self.stdout.write_some()?;
            }
            if ready.stderr {
                self.stderr.write_some()?;
            }
            if ready.stream_out || !self.input.waiting.is_empty() || self.input.closing {
                self.send_input()?;
            }
            if (ready.stream_in || self.more_to_read) && !self.stdout.is_full() && !self.stderr.is_full() {
                self.receive()?;
            }
            if ready.stdin && self.read_stdin()? {
                return Ok(End::Detached);
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let blocked = self.stdout.is_full() || self.stderr.is_full();
        let mut stream_flags = PollFlags::empty();
        stream_flags.set(PollFlags::IN, !self.stream_over && !blocked);
        stream_flags
            .set(PollFlags::OUT, !self.stream_over && (!self.input.waiting.is_empty() || self.stream.has_unsent()));
        let mut fds = Vec::with_capacity(5);
        let mut add = |wanted: bool, fd, flags| -> Option<usize> {
            wanted.then(|| {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                fds.len() - 1
            })
        };
        let stream = add(!self.stream_over, self.stream.as_fd(), stream_flags);
        let stdin = add(self.input.open && self.input.waiting.is_empty(), rustix::stdio::stdin(), PollFlags::IN);
        let stdout = add(!self.stdout.is_empty(), self.stdout.as_fd(), PollFlags::OUT);
        let stderr = add(!self.stderr.is_empty(), self.stderr.as_fd(), PollFlags::OUT);
        let signal = self.signals.as_ref().and_then(|signals| add(true, signals.as_fd(), PollFlags::IN));
        let timeout = match () {
            () if self.more_to_read && !blocked => Some(Timespec::default()),
            () if self.resizes_left > 0 => Some(RESIZE_RETRY),
            () => None,
        };
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let came = |index: Option<usize>| index.map_or(PollFlags::empty(), |index| fds[index].revents());
        let ended = PollFlags::HUP | PollFlags::ERR;
        Ok(Ready {
            stream_in: came(stream).intersects(PollFlags::IN | ended),
            stream_out: came(stream).contains(PollFlags::OUT),
            stdin: !came(stdin).is_empty(),
            stdout: !came(stdout).is_empty(),
            stderr: !came(stderr).is_empty(),
            signal: !came(signal).is_empty(),
        })
    }

    fn handle_signals(&mut self, process: &dyn Process) -> Result<Option<End>, CliError> {
        let Some(signals) = &mut self.signals else { return Ok(None) };
        while let Some(happened) = signals.take()? {
            match happened {
                Happened::Resized => drop(process.resize()),
                Happened::Forward(number) => process.kill(number),
                Happened::End(code) => return Ok(Some(End::Signalled(code))),
                Happened::ForceEnd => {
                    return Err(CliError::message("got 3 SIGTERM/SIGINTs, forcefully exiting"));
                }
            }
        }
        Ok(None)
    }

    /// Reads once from the connection and hands it to the outlets.
    fn receive(&mut self) -> Result<(), CliError> {
        self.with_buffer(Self::receive_into)
    }

    fn receive_into(&mut self, buffer: &mut Vec<u8>) -> Result<(), CliError> {
        match self.stream.read(buffer) {
            Ok(0) => {
                self.stream_over = true;
                self.more_to_read = false;
            }
            Ok(count) => {
                self.more_to_read = count == buffer.len() || matches!(self.stream, Stream::Tls(_));
                self.take_output(&buffer[..count])?;
                grow_if_full(buffer, count);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.more_to_read = false;
            }
            // A daemon that dies resets the connection; what follows says what that means.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.stream_over = true;
                self.more_to_read = false;
            }
            Err(error) => return Err(CliError::message(format!("reading the output of the container: {error}"))),
        }
        Ok(())
    }

    /// Lends the one buffer for a read.
    fn with_buffer<T>(&mut self, read: impl FnOnce(&mut Self, &mut Vec<u8>) -> T) -> T {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = read(self, &mut buffer);
        self.buffer = buffer;
        result
    }

    fn take_output(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let Session { frames, stdout, stderr, engine_error, .. } = self;
        match frames {
            None => stdout.push(bytes),
            Some(frames) => frames
                .feed(bytes, |kind, content| match kind {
                    Kind::Stdout | Kind::Stdin => stdout.push(content),
                    Kind::Stderr => stderr.push(content),
                    Kind::Engine => engine_error.extend_from_slice(content),
                })
                .map_err(|error| CliError::message(error.to_string()))?,
        }
        Ok(())
    }

    fn engine_error(&self) -> Result<(), CliError> {
        if self.engine_error.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.engine_error);
        Err(CliError::message(format!("error from daemon in stream: {}", text.trim_end())))
    }

    /// Reads once from stdin; true if the detach keys were typed.
    fn read_stdin(&mut self) -> Result<bool, CliError> {
        self.with_buffer(Self::read_stdin_into)
    }

    fn read_stdin_into(&mut self, buffer: &mut Vec<u8>) -> Result<bool, CliError> {
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // A terminal that hung up, or a shell that took it back: the same as its end.
            Err(_) => 0,
        };
        if count == 0 {
            self.input.open = false;
            self.input.closing = true;
            self.send_input()?;
            return Ok(false);
        }
        let detached = match &mut self.input.filter {
            Some(filter) => filter.pass(&buffer[..count], &mut self.input.waiting),
            None => {
                self.input.waiting.extend_from_slice(&buffer[..count]);
                false
            }
        };
        grow_if_full(buffer, count);
        self.send_input()?;
        Ok(detached)
    }

    /// Sends what waits, and closes our direction once stdin has ended. A process that no longer reads is not our failure.
    fn send_input(&mut self) -> Result<(), CliError> {
        if self.stream_over {
            self.input.waiting.clear();
            self.input.closing = false;
            return Ok(());
        }
        while !self.input.waiting.is_empty() {
            match self.stream.write(&self.input.waiting) {
                Ok(count) => drop(self.input.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    self.input.waiting.clear();
                    self.input.open = false;
                }
            }
        }
        match self.stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            _ => {}
        }
        if self.input.closing {
            self.input.closing = false;
            let _ = self.stream.shutdown_write();
        }
        Ok(())
    }
}

/// Makes more room once a read has used all of it.
fn grow_if_full(buffer: &mut Vec<u8>, count: usize) {
    if count == buffer.len() && count < LARGEST_READ {
        buffer.resize(2 * count, 0);
    }
}

/// Which descriptors have something for us.
struct Ready {
    stream_in: bool,
    stream_out: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    signal: bool,
}
