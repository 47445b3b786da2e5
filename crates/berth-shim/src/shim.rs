//! The shim's one loop: who is connected, what it waits for, and what happens to whom.
//!
//! Everything is done in the order in which the kernel tells of it, by one thread. A call that cannot be answered at once
//! leaves a [`Waiter`]; work that nobody waits for becomes a [`Chore`] and is done when there is nothing else to do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_proto::ttrpc::{Code, Status};
use berth_sys::signalfd::SignalFd;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::client::{Client, Wish};
use crate::connection::Connection;
use crate::listener::Listener;
use crate::origin::Origin;
use crate::poll::{EventFlags, Key, Poll};
use crate::process::{Exit, Life, MAIN, Process};
use crate::publisher::Publisher;
use crate::reuse::Blank;
use crate::stdio::Stream;
use crate::task::{Task, now};

/// How long the streams of an executed process outlive it when others hold them open.
const EXEC_STREAMS_GRACE: Duration = Duration::from_secs(2);
/// How often a log that would block is tried again.
const LOG_RETRY: Duration = Duration::from_millis(20);
/// How long the work that a start leaves behind waits: a container that lives shorter needs none of it.
const START_CHORES_DELAY: Duration = Duration::from_millis(100);
/// So many executed processes that are gone are remembered, for those who ask late.
const REMEMBERED_EXECS: usize = 64;

/// The state of a shim.
pub struct Shim {
    pub(crate) poll: Poll,
    pub(crate) origin: Origin,
    pub(crate) listener: Option<Listener>,
    pub(crate) task: Option<Task>,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) leaving: Leaving,
    chores: Vec<(Instant, Chore)>,
    signals: SignalFd,
    pub(crate) connections: Vec<Connection>,
    pub(crate) clients: Vec<Client>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) last_number: u32,
    /// Executed processes that are gone, and when their streams are ended.
    fading: Vec<(Instant, u32)>,
}

/// Whether the shim is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Not now.
    Stays,
    /// Once its container is gone: the machine is going down.
    AfterExit,
    /// As soon as everything has been said.
    Now,
    /// Not for good: once everything has been said it is as before its container, and another one may come.
    ForTheNext,
}

/// Work that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Write `shim.json`.
    WriteRecord,
    /// Watch for a lack of memory.
    WatchMemory,
    /// Give back what only the start needed.
    ReleaseMemory,
    /// Remove the cgroup and let the mounts of a container go that is gone.
    CleanUp,
}

/// A call whose answer comes later.
pub struct Waiter {
    /// The connection it came on.
    pub connection: u32,
    /// Its number there.
    pub stream: u32,
    /// What it waits for.
    pub what: Awaited,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The end of a process, told as `berth.shim.v1` does.
    Exit(u32),
    /// The end of a process, told as containerd's Task service does.
    TaskExit(u32),
}

/// The answer to a call.
pub enum Reply {
    /// Here it is.
    Now(Vec<u8>),
    /// It comes when something has happened.
    When(Awaited),
    /// Here it is, and from now on the connection carries the streams of a process.
    TakeOver(Box<TakeOver>),
}

/// What becomes of a connection that is taken over.
pub struct TakeOver {
    /// The answer to the call.
    pub answer: Vec<u8>,
    /// The process whose streams it carries.
    pub process: u32,
    /// How.
    pub wish: Wish,
    /// Output that comes first, framed already.
    pub before: Vec<u8>,
}

impl Shim {
    /// A shim that waits on its connection to hear what to launch.
    pub fn new(blank: Blank) -> io::Result<Self> {
        let Blank { origin, connection } = blank;
        let mut shim = Self::begin(origin)?;
        let number = shim.next_number();
        shim.connections.push(Connection::resume(&shim.poll, number, connection)?);
        Ok(shim)
    }

    /// A shim without a container.
    pub fn begin(origin: Origin) -> io::Result<Self> {
        // Orphans of the container come to us, not to init.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let signals = SignalFd::new(&[Signal::CHILD.as_raw(), Signal::TERM.as_raw()])?.onto_stdout()?;
        let poll = Poll::new()?.onto_stdin()?;
        poll.watch(&signals, Key::Signals, EventFlags::IN)?;
        Ok(Self {
            poll,
            origin,
            listener: None,
            task: None,
            publisher: None,
            leaving: Leaving::Stays,
            chores: Vec::new(),
            signals,
            connections: Vec::new(),
            clients: Vec::new(),
            waiters: Vec::new(),
            last_number: MAIN,
            fading: Vec::new(),
        })
    }

    /// Serves until the shim has to leave; gives what is left of one that stays for another container.
    pub fn run(mut self) -> io::Result<Option<Blank>> {
        while !self.has_left() {
            let events = self.poll.wait(self.patience())?;
            for (key, flags) in events.iter() {
                self.handle(key, flags);
            }
            self.do_what_is_due();
            if events.is_empty()
                && let Some(chore) = self.next_chore()
            {
                self.perform(chore);
            }
        }
        Ok(if self.leaving == Leaving::ForTheNext { self.into_blank() } else { None })
    }

    /// Serves calls on a connected socket.
    pub fn adopt(&mut self, socket: OwnedFd) -> io::Result<()> {
        let number = self.next_number();
        self.connections.push(Connection::new(&self.poll, number, socket)?);
        Ok(())
    }

    /// Listens for connections.
    pub fn listen(&mut self, listener: Listener) -> io::Result<()> {
        self.poll.watch(&listener, Key::Listener, EventFlags::IN)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// A number that no other connection, client or process has or had.
    pub fn next_number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    fn has_left(&self) -> bool {
        let said = self.connections.iter().all(|connection| !connection.has_outgoing());
        matches!(self.leaving, Leaving::Now | Leaving::ForTheNext) && said && self.clients.is_empty()
    }

    fn patience(&self) -> Option<Duration> {
        let left = |due: &Instant| due.saturating_duration_since(Instant::now());
        let chores = self.chores.iter().map(|(due, _)| left(due));
        let fading = self.fading.iter().map(|(due, _)| left(due));
        let log = self.task.as_ref().filter(|task| task.log_waits()).map(|_| LOG_RETRY);
        let publisher = self.publisher.as_ref().and_then(Publisher::patience);
        chores.chain(fading).chain(log).chain(publisher).min()
    }

    /// Leaves what a container that runs for a while needs.
    pub(crate) fn do_after_start(&mut self, chores: &[Chore]) {
        let due = Instant::now() + START_CHORES_DELAY;
        self.chores.extend(chores.iter().map(|chore| (due, *chore)));
    }

    pub(crate) fn forget_chores(&mut self) {
        self.chores.clear();
    }

    fn next_chore(&mut self) -> Option<Chore> {
        let now = Instant::now();
        let index = self.chores.iter().position(|(due, _)| *due <= now)?;
        Some(self.chores.remove(index).1)
    }

    fn do_what_is_due(&mut self) {
        if let Some(task) = &mut self.task {
            task.flush_log();
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.retry_if_due(&self.poll);
        }
        if !self.fading.is_empty() {
            let now = Instant::now();
            let due: Vec<u32> = self.fading.iter().filter(|(due, _)| *due <= now).map(|(_, number)| *number).collect();
            self.fading.retain(|(_, number)| !due.contains(number));
            for number in due {
                self.end_streams(number);
            }
        }
    }

    fn handle(&mut self, key: Key, flags: EventFlags) {
        match key {
            Key::Signals => self.take_signals(),
            Key::Listener => {
                if let Some(Ok(Some(socket))) = self.listener.as_ref().map(Listener::accept) {
                    // If it cannot be watched it is closed, and the manager tries again.
                    let _ = self.adopt(socket);
                }
            }
            Key::Connection(number) => self.serve(number, flags),
            Key::Client(number) => self.hear(number, flags),
            Key::Output(number, stream) => self.pump(number, stream),
            Key::Stdin(number) => self.resume_input(number),
            Key::Oom => self.notice_lack_of_memory(),
            Key::Publisher => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.handle(&self.poll, flags);
                }
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.take() {
            if signal == Signal::TERM.as_raw() {
                // Somebody ends everything, such as a machine that goes down. The container comes first.
                self.leaving =
                    if self.task.as_ref().is_none_or(Task::is_over) { Leaving::Now } else { Leaving::AfterExit };
            }
        }
        self.reap_all();
    }

    /// Takes the status of every child that is gone: one signal may stand for many.
    pub(crate) fn reap_all(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.reap(pid, status);
        }
    }

    pub(crate) fn reap(&mut self, pid: Pid, status: WaitStatus) {
        let Some(task) = &mut self.task else { return };
        match task.number_of(pid) {
            Some(number) => self.exited(number, pid, status),
            // An orphan of the container, or a helper of the log.
            None => task.reaped_other(pid),
        }
    }

    fn exited(&mut self, number: u32, pid: Pid, status: WaitStatus) {
        let mut exit = Exit::new(status, now());
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.pump_once(number, stream) {}
        }
        let Some(task) = &mut self.task else { return };
        if number == MAIN {
            exit.oom_killed = task.main_is_gone(exit);
            self.chores.push((Instant::now(), Chore::CleanUp));
            if self.leaving == Leaving::AfterExit {
                self.leaving = Leaving::Now;
            }
        }
        if let Some(process) = task.process_mut(number) {
            process.life = Life::Exited(pid, exit);
            process.drop_input(&self.poll);
            process.resume_output(&self.poll);
            if let Some(streams) = &mut process.foreign {
                streams.release();
            }
            if number != MAIN && !process.output_ended() {
                self.fading.push((Instant::now() + EXEC_STREAMS_GRACE, number));
            }
        }
        task.forget_old_execs(REMEMBERED_EXECS);
        self.publish_exit(number, pid, exit);
        self.tell_exit(number, exit);
        self.settle(number);
    }

    pub(crate) fn exit_of(&self, number: u32) -> Option<Exit> {
        self.task.as_ref()?.process(number)?.life.exit()
    }

    pub(crate) fn tell_exit(&mut self, number: u32, exit: Exit) {
        let (told, waiting): (Vec<Waiter>, _) =
            std::mem::take(&mut self.waiters).into_iter().partition(|w| w.what.process() == number);
        self.waiters = waiting;
        for Waiter { connection, stream, what } in told {
            self.answer(connection, stream, Ok(what.tell(exit)));
        }
    }

    fn perform(&mut self, chore: Chore) {
        let Some(task) = &mut self.task else { return };
        match chore {
            Chore::WriteRecord => task.write_record(self.listener.as_ref().map(Listener::path)),
            Chore::WatchMemory => {
                if let Some(watch) = task.watch_memory() {
                    // Without it the lack of memory is still seen when the container ends.
                    let _ = self.poll.watch(watch.as_fd(), Key::Oom, EventFlags::IN | EventFlags::PRI);
                    // It may have happened before anybody watched.
                    self.notice_lack_of_memory();
                }
            }
            Chore::ReleaseMemory => berth_sys::heap::release_unused(self.origin.stack),
            Chore::CleanUp => task.clean_up(),
        }
    }

    fn notice_lack_of_memory(&mut self) {
        if self.task.as_mut().is_some_and(Task::lack_of_memory_was_fatal) {
            self.publish_oom();
        }
    }
}

impl Awaited {
    /// The process it is about.
    pub fn process(self) -> u32 {
        match self {
            Awaited::Exit(number) | Awaited::TaskExit(number) => number,
        }
    }
}

/// Asks for a process that must be there.
pub fn found<'a>(process: Option<&'a mut Process>, exec_id: &str) -> Result<&'a mut Process, Status> {
    process.ok_or_else(|| Status::new(Code::NotFound, format!("no such process: {exec_id:?}")))
}
