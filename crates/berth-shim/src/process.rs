//! One process of the container that the shim answers for: the main one, or one that was executed later.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use berth_model::Timestamp;
use rustix::io::Errno;
use rustix::process::{Pid, WaitStatus};

use crate::poll::{EventFlags, Key, Poll};
use crate::stdio::{Outer, Stream};

/// The number of the main process.
pub const MAIN: u32 = 0;

/// A process and its streams.
#[derive(Debug)]
pub struct Process {
    /// Its number within the shim.
    pub number: u32,
    /// Its name to the manager; empty for the main process.
    pub exec_id: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Its life.
    pub life: Life,
    /// Whether stdin ends with the first client that wrote it.
    pub stdin_once: bool,
    /// Its pidfd, where nobody else keeps one.
    pub pidfd: Option<OwnedFd>,
    /// What is to be executed, while it is only announced.
    pub spec: Option<Box<berth_oci::runtime::Process>>,
    /// Its streams as containerd named them; none for Berth's own manager.
    pub foreign: Option<Box<crate::foreign::Streams>>,
    stdin: Option<Stdin>,
    stdout: Source,
    stderr: Source,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Made, but its program has not begun.
    Created(Option<Pid>),
    /// Its program runs.
    Running(Pid),
    /// It is gone.
    Exited(Pid, Exit),
}

impl Life {
    /// Its number in the shim's pid namespace, where it has or had one.
    pub fn pid(self) -> Option<Pid> {
        match self {
            Life::Created(pid) => pid,
            Life::Running(pid) | Life::Exited(pid, _) => Some(pid),
        }
    }

    /// How it ended, if it has.
    pub fn exit(self) -> Option<Exit> {
        match self {
            Life::Exited(_, exit) => Some(exit),
            Life::Created(_) | Life::Running(_) => None,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its status, or 128 and the signal's number.
    pub code: u32,
    /// When.
    pub at: Timestamp,
    /// Whether the kernel killed somebody in the container because it ran out of memory.
    pub oom_killed: bool,
}

impl Exit {
    /// Reads a status as wait(2) gives it.
    pub fn new(status: WaitStatus, at: Timestamp) -> Self {
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 255,
        };
        Self { code: code.unsigned_abs(), at, oom_killed: false }
    }
}

#[derive(Debug)]
struct Stdin {
    descriptor: OwnedFd,
    waiting: Vec<u8>,
    /// Ends once everything that waits was taken.
    ending: bool,
}

/// A stream of output.
#[derive(Debug)]
enum Source {
    /// It has ended, or never was.
    Ended,
    /// It is read.
    Flowing(OwnedFd),
    /// It is not read: a client is behind.
    Paused(OwnedFd),
}

/// What reading output gave.
pub enum Output {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The end.
    End,
}

impl Process {
    /// A process that is about to be; its streams come later.
    pub fn new(number: u32, exec_id: String, terminal: bool) -> Self {
        Self {
            number,
            exec_id,
            terminal,
            life: Life::Created(None),
            stdin_once: false,
            pidfd: None,
            spec: None,
            foreign: None,
            stdin: None,
            stdout: Source::Ended,
            stderr: Source::Ended,
        }
    }

    /// Takes over the shim's ends of its streams and watches them.
    pub fn set_streams(&mut self, poll: &Poll, outer: Outer) -> io::Result<()> {
        self.stdin = outer.stdin.map(|descriptor| Stdin { descriptor, waiting: Vec::new(), ending: false });
        for (stream, descriptor) in [(Stream::Stdout, outer.stdout), (Stream::Stderr, outer.stderr)] {
            if let Some(descriptor) = descriptor {
                poll.watch(&descriptor, Key::Output(self.number, stream), EventFlags::IN)?;
                *self.source(stream) = Source::Flowing(descriptor);
            }
        }
        Ok(())
    }

    /// Reads output into `buffer`.
    pub fn read(&mut self, stream: Stream, buffer: &mut [u8]) -> Output {
        let (Source::Flowing(descriptor) | Source::Paused(descriptor)) = self.source(stream) else {
            return Output::Nothing;
        };
        match rustix::io::read(descriptor, buffer) {
            Ok(0) => Output::End,
            Ok(count) => Output::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR) => Output::Nothing,
            // A terminal whose other side is closed says EIO.
            Err(_) => Output::End,
        }
    }

    /// Closes a stream of output that has ended.
    pub fn end(&mut self, poll: &Poll, stream: Stream) {
        // The copy of a terminal's master that input goes through would keep the registration alive.
        if let Source::Flowing(descriptor) = std::mem::replace(self.source(stream), Source::Ended) {
            poll.forget(&descriptor);
        }
    }

    /// Whether no output can come any more.
    pub fn output_ended(&self) -> bool {
        matches!((&self.stdout, &self.stderr), (Source::Ended, Source::Ended))
    }

    /// Reads no output until told otherwise.
    pub fn pause_output(&mut self, poll: &Poll) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let source = self.source(stream);
            *source = match std::mem::replace(source, Source::Ended) {
                Source::Flowing(descriptor) => {
                    // Unwatched, not only unasked: a hang-up would be told again and again.
                    poll.forget(&descriptor);
                    Source::Paused(descriptor)
                }
                other => other,
            };
        }
    }

    /// Reads output again.
    pub fn resume_output(&mut self, poll: &Poll) {
        let number = self.number;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let source = self.source(stream);
            *source = match std::mem::replace(source, Source::Ended) {
                Source::Paused(descriptor) => {
                    match poll.watch(&descriptor, Key::Output(number, stream), EventFlags::IN) {
                        Ok(()) => Source::Flowing(descriptor),
                        Err(_) => Source::Ended,
                    }
                }
                other => other,
            };
        }
    }

    /// Whether input is taken.
    pub fn takes_input(&self) -> bool {
        self.stdin.as_ref().is_some_and(|stdin| !stdin.ending)
    }

    /// Writes input. Says whether all was taken; if not, [`Key::Stdin`] tells when to call [`flush_input`](Self::flush_input).
    pub fn write_input(&mut self, poll: &Poll, bytes: &[u8]) -> bool {
        let key = Key::Stdin(self.number);
        let Some(stdin) = &mut self.stdin else { return true };
        let mut rest = bytes;
        if stdin.waiting.is_empty() {
            match write_some(&stdin.descriptor, bytes) {
                Some(count) => rest = &bytes[count..],
                None => {
                    self.stdin = None;
                    return true;
                }
            }
            if !rest.is_empty() && poll.watch(&stdin.descriptor, key, EventFlags::OUT).is_err() {
                return true;
            }
        }
        stdin.waiting.extend_from_slice(rest);
        stdin.waiting.is_empty()
    }

    /// Writes input that waits. Says whether all was taken.
    pub fn flush_input(&mut self, poll: &Poll) -> bool {
        let Some(stdin) = &mut self.stdin else { return true };
        match write_some(&stdin.descriptor, &stdin.waiting) {
            None => {
                poll.forget(&stdin.descriptor);
                self.stdin = None;
                return true;
            }
            Some(count) => drop(stdin.waiting.drain(..count)),
        }
        if !stdin.waiting.is_empty() {
            return false;
        }
        poll.forget(&stdin.descriptor);
        stdin.waiting = Vec::new();
        if stdin.ending {
            self.stdin = None;
        }
        true
    }

    /// Ends input once the process has taken what waits. A terminal has no such end.
    pub fn close_input(&mut self) {
        if self.terminal {
            return;
        }
        match &mut self.stdin {
            Some(stdin) if !stdin.waiting.is_empty() => stdin.ending = true,
            _ => self.stdin = None,
        }
    }

    /// Ends input at once: the process is gone.
    pub fn drop_input(&mut self, poll: &Poll) {
        if let Some(stdin) = self.stdin.take() {
            poll.forget(&stdin.descriptor);
        }
    }

    /// The terminal's master.
    pub fn master(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match &self.stdout {
            Source::Flowing(master) | Source::Paused(master) if self.terminal => Some(master.as_fd()),
            _ => None,
        }
    }

    fn source(&mut self, stream: Stream) -> &mut Source {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// How much was taken; `None` when nobody reads any more.
fn write_some(descriptor: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    match rustix::io::write(descriptor, bytes) {
        Ok(count) => Some(count),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}
