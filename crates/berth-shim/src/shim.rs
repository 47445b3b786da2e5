//! The shim's one loop: who is connected, what it waits for, and what happens to whom.
//!
//! Everything is done in the order in which the kernel tells of it, by one thread. A call that cannot be answered at once
//! leaves a [`Waiter`]; work that nobody waits for becomes a [`Chore`] and is done when there is nothing else to do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_cgroup::Layout;
use berth_proto::ttrpc::{Call, Code, Status};
use berth_sys::signalfd::SignalFd;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::client::{Client, Received, Wish};
use crate::connection::{Connection, Side};
use crate::listener::Listener;
use crate::poll::{EventFlags, Key, Poll};
use crate::process::{Exit, Life, MAIN, Output, Process};
use crate::publisher::Publisher;
use crate::stdio::Stream;
use crate::task::{Task, now};

/// How long the streams of an executed process outlive it when others hold them open.
const EXEC_STREAMS_GRACE: Duration = Duration::from_secs(2);
/// How often a log that would block is tried again.
const LOG_RETRY: Duration = Duration::from_millis(20);
/// So many executed processes that are gone are remembered, for those who ask late.
const REMEMBERED_EXECS: usize = 64;

/// The state of a shim.
pub struct Shim {
    pub(crate) poll: Poll,
    pub(crate) layout: Layout,
    pub(crate) listener: Option<Listener>,
    pub(crate) task: Option<Task>,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) leaving: Leaving,
    pub(crate) chores: Vec<Chore>,
    signals: SignalFd,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    waiters: Vec<Waiter>,
    last_number: u32,
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
struct Waiter {
    connection: u32,
    stream: u32,
    what: Awaited,
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
    /// A shim without a container. Signals are blocked by now.
    pub fn new(poll: Poll, signals: SignalFd, layout: Layout) -> io::Result<Self> {
        poll.watch(&signals, Key::Signals, EventFlags::IN)?;
        Ok(Self {
            poll,
            layout,
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

    /// Serves until the shim has to leave.
    pub fn run(mut self) -> io::Result<()> {
        while !self.has_left() {
            let events = self.poll.wait(self.patience())?;
            for (key, flags) in events.iter() {
                self.handle(key, flags);
            }
            self.do_what_is_due();
            if events.is_empty() && !self.chores.is_empty() {
                let chore = self.chores.remove(0);
                self.perform(chore);
            }
        }
        Ok(())
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

    /// Attaches a client to a process.
    pub fn attach(
        &mut self,
        descriptor: OwnedFd,
        process: u32,
        wish: Wish,
        before: Vec<u8>,
        early: &[u8],
    ) -> io::Result<()> {
        let number = self.next_number();
        let mut client = Client::new(&self.poll, number, process, descriptor, wish, before)?;
        let received = client.receive_early(early);
        self.clients.push(client);
        self.take_input(number, received);
        Ok(())
    }

    /// A number that no other connection, client or process has or had.
    pub fn next_number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// The descriptors that came with a connection's calls.
    pub fn take_received(&mut self, connection: u32) -> Vec<OwnedFd> {
        self.connections.iter_mut().find(|c| c.number == connection).map(Connection::take_received).unwrap_or_default()
    }

    fn has_left(&self) -> bool {
        let said = self.connections.iter().all(|connection| !connection.has_outgoing());
        self.leaving == Leaving::Now && said && self.clients.is_empty()
    }

    fn patience(&self) -> Option<Duration> {
        if !self.chores.is_empty() {
            return Some(Duration::ZERO);
        }
        let fading = self.fading.iter().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let log = self.task.as_ref().filter(|task| task.log_waits()).map(|_| LOG_RETRY);
        let publisher = self.publisher.as_ref().and_then(Publisher::patience);
        fading.chain(log).chain(publisher).min()
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

    // Calls.

    fn serve(&mut self, number: u32, flags: EventFlags) {
        let Some(index) = self.connections.iter().position(|c| c.number == number) else { return };
        let mut side = Side::Open;
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            side = self.connections[index].read();
        }
        while let Some(call) = self.connection(number).and_then(Connection::next_call) {
            self.answer_call(number, call);
        }
        if let Some(connection) = self.connections.iter_mut().find(|c| c.number == number)
            && (connection.flush(&self.poll) == Side::Closed || side == Side::Closed)
        {
            self.hang_up(number);
        }
    }

    fn answer_call(&mut self, number: u32, call: Call) {
        let Call { stream, request } = call;
        let reply = self.dispatch(number, &request);
        match reply {
            Ok(Reply::Now(payload)) => self.answer(number, stream, Ok(payload)),
            Ok(Reply::When(what)) => {
                self.waiters.push(Waiter { connection: number, stream, what });
                if let Some(exit) = self.exit_of(what.process()) {
                    self.tell_exit(what.process(), exit);
                }
            }
            Ok(Reply::TakeOver(over)) => self.hand_over(number, stream, *over),
            Err(status) => self.answer(number, stream, Err(status)),
        }
    }

    fn dispatch(&mut self, number: u32, request: &berth_proto::ttrpc::Request) -> Result<Reply, Status> {
        match request.service.as_str() {
            berth_proto::shim::SERVICE => self.call_shim(number, &request.method, &request.payload),
            berth_proto::containerd::task::SERVICE_V2 | berth_proto::containerd::task::SERVICE_V3 => {
                self.call_task(&request.method, &request.payload)
            }
            other => Err(Status::new(Code::Unimplemented, format!("service {other}"))),
        }
    }

    fn answer(&mut self, number: u32, stream: u32, result: Result<Vec<u8>, Status>) {
        if let Some(connection) = self.connections.iter_mut().find(|c| c.number == number) {
            connection.answer(stream, result);
            // A connection that breaks here says so by an event.
            let _ = connection.flush(&self.poll);
        }
    }

    fn hand_over(&mut self, number: u32, stream: u32, over: TakeOver) {
        let Some(index) = self.connections.iter().position(|c| c.number == number) else { return };
        let mut connection = self.connections.remove(index);
        self.waiters.retain(|waiter| waiter.connection != number);
        connection.answer(stream, Ok(over.answer));
        let (socket, early, mut first) = connection.into_parts(&self.poll);
        first.extend_from_slice(&over.before);
        if let Err(_gone) = self.attach_first(socket, over.process, over.wish, first, &early) {
            // Only this client is concerned, and it sees the connection closed.
        }
        self.settle(over.process);
    }

    fn attach_first(
        &mut self,
        socket: OwnedFd,
        process: u32,
        wish: Wish,
        first: Vec<u8>,
        early: &[u8],
    ) -> io::Result<()> {
        self.attach(socket, process, wish, first, early)?;
        let number = self.last_number;
        match self.clients.iter_mut().find(|client| client.number == number) {
            Some(client) => client.flush(&self.poll),
            None => Ok(()),
        }
    }

    fn hang_up(&mut self, number: u32) {
        self.connections.retain(|c| c.number != number);
        self.waiters.retain(|waiter| waiter.connection != number);
    }

    fn connection(&mut self, number: u32) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.number == number)
    }

    // Streams.

    fn pump(&mut self, number: u32, stream: Stream) {
        // A few pieces at a time, so that one noisy process does not keep everybody else waiting.
        for _ in 0..4 {
            if !self.pump_once(number, stream) {
                return;
            }
        }
    }

    /// Moves one piece of output. Says whether there may be more.
    fn pump_once(&mut self, number: u32, stream: Stream) -> bool {
        let mut buffer = [0; 16 * 1024];
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) else { return false };
        match process.read(stream, &mut buffer) {
            Output::Bytes(count) => {
                self.deliver(number, stream, &buffer[..count]);
                count == buffer.len()
            }
            Output::Nothing => false,
            Output::End => {
                process.end(&self.poll, stream);
                if let Some(task) = &mut self.task
                    && number == MAIN
                {
                    task.finish_log(stream);
                }
                self.settle(number);
                false
            }
        }
    }

    fn deliver(&mut self, number: u32, stream: Stream, bytes: &[u8]) {
        let Some(task) = &mut self.task else { return };
        if number == MAIN {
            task.write_log(stream, bytes);
        }
        let mut gone = Vec::new();
        let mut behind = false;
        for client in self.clients.iter_mut().filter(|client| client.process == number && client.wants(stream)) {
            match client.push(&self.poll, stream, bytes) {
                Ok(()) => behind |= client.is_behind(),
                Err(_) => gone.push(client.number),
            }
        }
        if behind && let Some(process) = task.process_mut(number) {
            process.pause_output(&self.poll);
        }
        for client in gone {
            self.dismiss(client);
        }
    }

    fn hear(&mut self, number: u32, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
            let (process, alive) = (client.process, client.flush(&self.poll).is_ok());
            if !alive {
                self.dismiss(number);
                return;
            }
            self.resume_output(process);
            self.settle(process);
        }
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if flags.contains(EventFlags::IN) || broken {
            self.hear_input(number, broken);
        }
    }

    /// Reads what a client has written; of one that is gone, everything it left.
    fn hear_input(&mut self, number: u32, broken: bool) {
        loop {
            let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
            match client.receive() {
                Ok(Received::Nothing) | Err(_) if broken => return self.dismiss(number),
                Err(_) => return self.dismiss(number),
                Ok(Received::End) if broken => return self.dismiss(number),
                Ok(received) => self.take_input(number, received),
            }
            if !broken {
                return;
            }
        }
    }

    fn take_input(&mut self, number: u32, received: Received) {
        match received {
            Received::Nothing => {}
            Received::Bytes(bytes) => self.write_input(number, &bytes),
            Received::Detach(bytes) => {
                self.write_input(number, &bytes);
                if let Some(client) = self.take_client(number) {
                    // Detaching is not the end of input: the process keeps its stdin.
                    let process = client.process;
                    client.close(&self.poll);
                    self.resume_output(process);
                }
            }
            Received::End => {
                let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
                let (process, _) = (client.process, client.close_input(&self.poll));
                self.end_input_of(process);
            }
        }
    }

    fn write_input(&mut self, number: u32, bytes: &[u8]) {
        let Some(client) = self.clients.iter().find(|client| client.number == number) else { return };
        let target = client.process;
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(target)) else { return };
        if !bytes.is_empty() && process.takes_input() && !process.write_input(&self.poll, bytes) {
            self.hold_inputs(target, true);
        }
    }

    /// The process has taken more of its input.
    fn resume_input(&mut self, number: u32) {
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) else { return };
        if process.flush_input(&self.poll) {
            self.hold_inputs(number, false);
        }
    }

    fn hold_inputs(&mut self, process: u32, hold: bool) {
        for client in self.clients.iter_mut().filter(|client| client.process == process && client.has_stdin()) {
            // A client that cannot be watched any more is noticed at its next output.
            let _ = client.hold_input(&self.poll, hold);
        }
    }

    /// A client that wrote input has ended its side.
    fn end_input_of(&mut self, number: u32) {
        if let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number))
            && process.stdin_once
        {
            process.close_input();
        }
    }

    fn resume_output(&mut self, number: u32) {
        let caught_up = self.clients.iter().filter(|c| c.process == number).all(Client::has_caught_up);
        if caught_up && let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) {
            process.resume_output(&self.poll);
        }
    }

    /// Ends the clients of a process that is gone and has said everything.
    fn settle(&mut self, number: u32) {
        let over = match self.task.as_mut().and_then(|task| task.process_mut(number)) {
            Some(process) => process.life.exit().is_some() && process.output_ended(),
            None => true,
        };
        if !over {
            return;
        }
        for client in self.clients.iter_mut().filter(|client| client.process == number) {
            client.end();
        }
        let done: Vec<u32> =
            self.clients.iter().filter(|client| client.is_done()).map(|client| client.number).collect();
        for client in done.into_iter().filter_map(|number| self.take_client(number)).collect::<Vec<_>>() {
            client.close(&self.poll);
        }
    }

    /// Ends the streams of a process that is gone, whoever else holds them open.
    pub(crate) fn end_streams(&mut self, number: u32) {
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) else { return };
        if process.life.exit().is_none() {
            return;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            process.end(&self.poll, stream);
        }
        if let Some(task) = &mut self.task
            && number == MAIN
        {
            task.finish_log(Stream::Stdout);
            task.finish_log(Stream::Stderr);
        }
        self.settle(number);
    }

    /// Lets clients go that have not taken everything: the shim leaves.
    pub(crate) fn dismiss_all(&mut self) {
        for client in std::mem::take(&mut self.clients) {
            client.close(&self.poll);
        }
    }

    fn dismiss(&mut self, number: u32) {
        let Some(client) = self.take_client(number) else { return };
        if client.has_stdin() {
            self.end_input_of(client.process);
        }
        let process = client.process;
        client.close(&self.poll);
        self.resume_output(process);
    }

    fn take_client(&mut self, number: u32) -> Option<Client> {
        let index = self.clients.iter().position(|client| client.number == number)?;
        Some(self.clients.remove(index))
    }

    // Ends.

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.take() {
            if signal == rustix::process::Signal::TERM.as_raw() {
                // Somebody ends everything, such as a machine that goes down. The container comes first.
                self.leaving =
                    if self.task.as_ref().is_none_or(Task::is_over) { Leaving::Now } else { Leaving::AfterExit };
            }
        }
        // One signal may stand for many children.
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
            self.chores.push(Chore::CleanUp);
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

    fn exit_of(&self, number: u32) -> Option<Exit> {
        self.task.as_ref()?.process(number)?.life.exit()
    }

    fn tell_exit(&mut self, number: u32, exit: Exit) {
        let (told, waiting) = std::mem::take(&mut self.waiters).into_iter().partition(|w| w.what.process() == number);
        self.waiters = waiting;
        for Waiter { connection, stream, what } in Vec::<Waiter>::from(told) {
            self.answer(connection, stream, Ok(what.tell(exit)));
        }
    }

    // The rest.

    fn perform(&mut self, chore: Chore) {
        let Some(task) = &mut self.task else { return };
        match chore {
            Chore::WriteRecord => task.write_record(self.listener.as_ref().map(Listener::path)),
            Chore::WatchMemory => {
                if let Some(watch) = task.watch_memory() {
                    // Without it the lack of memory is still seen when the container ends.
                    let _ = self.poll.watch(watch.as_fd(), Key::Oom, EventFlags::IN | EventFlags::PRI);
                }
            }
            Chore::ReleaseMemory => berth_sys::heap::release_unused(),
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
    fn process(self) -> u32 {
        match self {
            Awaited::Exit(number) | Awaited::TaskExit(number) => number,
        }
    }
}

/// Asks for a process that must be there.
pub fn found<'a>(process: Option<&'a mut Process>, exec_id: &str) -> Result<&'a mut Process, Status> {
    process.ok_or_else(|| Status::new(Code::NotFound, format!("no such process: {exec_id:?}")))
}
