//! `berth.shim.v1`: what Berth's own manager asks for. Starting the container is in [`crate::launch`].

use berth_oci::runtime::LinuxResources;
use berth_proto::shim::{self as api, State};
use berth_proto::ttrpc::{Code, Status};
use prost::Message;

use crate::client::{Framing, Wish};
use crate::error::ShimError;
use crate::process::{Exit, Life, Process};
use crate::shim::{Awaited, Leaving, Reply, Shim, TakeOver, found};
use crate::stdio::{StdinMode, Stream};
use crate::task::{Streams, Task, now, raw};

impl Shim {
    /// Answers a call of the service.
    pub(crate) fn call_shim(&mut self, connection: u32, method: &str, payload: &[u8]) -> Result<Reply, Status> {
        match method {
            "Launch" => self.launch(connection, &decode(payload)?),
            "Status" => self.status(),
            "Wait" => self.wait(&decode::<api::WaitRequest>(payload)?.exec_id),
            "Attach" => self.attach_call(decode(payload)?),
            "Exec" => self.exec(decode(payload)?),
            "Resize" => self.resize(&decode(payload)?),
            "CloseStdin" => self.close_stdin(&decode::<api::CloseStdinRequest>(payload)?.exec_id),
            "Kill" => self.kill(&decode(payload)?),
            "Pause" => self.pause(),
            "Resume" => self.resume(),
            "Update" => self.update(&decode::<api::UpdateRequest>(payload)?.resources),
            "Stats" => self.stats(),
            "Processes" => self.processes(),
            "LogStatus" => self.log_status(),
            "Shutdown" => self.shutdown(connection, decode(payload)?),
            other => Err(Status::new(Code::Unimplemented, format!("method {}.{other}", api::SERVICE))),
        }
    }

    /// The container, which must have been launched.
    pub(crate) fn the_task(&mut self) -> Result<&mut Task, Status> {
        self.task.as_mut().ok_or_else(|| Status::new(Code::FailedPrecondition, "no container was launched"))
    }

    fn status(&mut self) -> Result<Reply, Status> {
        let task = self.the_task()?;
        let main = task.named("").map(|main| main.life);
        let life = main.ok_or_else(|| Status::new(Code::Internal, "no main process"))?;
        let exec = |process: &Process| api::ExecStatus {
            exec_id: process.exec_id.clone(),
            pid: process.life.pid().map_or(0, raw),
            state: state_of(process.life, false).into(),
            exit: process.life.exit().map(exit_message),
        };
        reply(&api::StatusResponse {
            state: state_of(life, task.paused).into(),
            pid: life.pid().map_or(0, raw),
            shim_pid: std::process::id(),
            started_at_ns: task.started_at.nanos(),
            exit: life.exit().map(exit_message),
            execs: task.execs().iter().map(exec).collect(),
            oom_killed: task.oom_killed,
            id: task.id.clone(),
        })
    }

    fn wait(&mut self, exec_id: &str) -> Result<Reply, Status> {
        let number = found(self.the_task()?.named(exec_id), exec_id)?.number;
        Ok(Reply::When(Awaited::Exit(number)))
    }

    fn attach_call(&mut self, request: api::AttachRequest) -> Result<Reply, Status> {
        let task = self.the_task()?;
        let streams = request.streams.unwrap_or_default();
        let main = found(task.named(""), "")?;
        let (process, framing) = (main.number, framing_of(main.terminal));
        let mut before = Vec::new();
        if let Some(log) = task.log().filter(|_| request.after_log) {
            for (stream, wanted) in [(Stream::Stdout, streams.stdout), (Stream::Stderr, streams.stderr)] {
                let unfinished = log.unfinished(stream);
                if wanted && !unfinished.is_empty() {
                    if framing == Framing::Multiplexed {
                        before.extend_from_slice(&crate::client::frame_header(stream, unfinished.len()));
                    }
                    before.extend_from_slice(unfinished);
                }
            }
        }
        let answer = api::AttachResponse { log: task.log().map(crate::log::Log::position) }.encode_to_vec();
        let wish = Wish { streams, framing, detach_keys: request.detach_keys };
        Ok(Reply::TakeOver(Box::new(TakeOver { answer, process, wish, before })))
    }

    fn exec(&mut self, request: api::ExecRequest) -> Result<Reply, Status> {
        let number = self.next_number();
        let task =
            self.task.as_mut().ok_or_else(|| Status::new(Code::FailedPrecondition, "no container was launched"))?;
        let spec = read_process(&request.process, request.terminal).map_err(|error| error.to_start_status())?;
        if request.exec_id.is_empty() || task.named(&request.exec_id).is_some() {
            return Err(Status::new(Code::AlreadyExists, format!("process {:?} exists", request.exec_id)));
        }
        let mut process = Process::new(number, request.exec_id.clone(), request.terminal);
        process.stdin_once = true;
        let stdin = if request.open_stdin { StdinMode::Open } else { StdinMode::Closed };
        let pid =
            task.exec(&self.poll, process, &spec, Streams::Own(stdin)).map_err(|error| error.to_start_status())?;
        if let (Some(size), Some(master)) = (request.console_size, task.process(number).and_then(Process::master)) {
            // The program runs; that its first size is wrong is no reason to end it.
            let _ = berth_sys::pty::resize(master, size_of(size.width, size.height));
        }
        let answer = api::ExecResponse { pid: raw(pid), started_at_ns: now().nanos() }.encode_to_vec();
        let streams = request.streams.unwrap_or_default();
        if !(streams.stdin || streams.stdout || streams.stderr) {
            return Ok(Reply::Now(answer));
        }
        let wish = Wish { streams, framing: framing_of(request.terminal), detach_keys: request.detach_keys };
        Ok(Reply::TakeOver(Box::new(TakeOver { answer, process: number, wish, before: Vec::new() })))
    }

    fn resize(&mut self, request: &api::ResizeRequest) -> Result<Reply, Status> {
        self.resize_terminal(&request.exec_id, request.width, request.height)?;
        reply(&api::ResizeResponse {})
    }

    /// Sets the size of a process's terminal.
    pub(crate) fn resize_terminal(&mut self, exec_id: &str, width: u32, height: u32) -> Result<(), Status> {
        let process = found(self.the_task()?.named(exec_id), exec_id)?;
        let no_terminal = || Status::new(Code::FailedPrecondition, format!("process {exec_id:?} has no terminal"));
        let master = process.master().ok_or_else(no_terminal)?;
        berth_sys::pty::resize(master, size_of(width, height))
            .map_err(|error| Status::new(Code::Unknown, format!("resizing the terminal: {error}")))
    }

    fn close_stdin(&mut self, exec_id: &str) -> Result<Reply, Status> {
        found(self.the_task()?.named(exec_id), exec_id)?.close_input();
        reply(&api::CloseStdinResponse {})
    }

    fn kill(&mut self, request: &api::KillRequest) -> Result<Reply, Status> {
        let killed = self.the_task()?.kill(&request.exec_id, request.signal, request.all);
        killed.map_err(|error| error.to_status())?;
        reply(&api::KillResponse {})
    }

    fn pause(&mut self) -> Result<Reply, Status> {
        self.set_paused(true)?;
        reply(&api::PauseResponse {})
    }

    fn resume(&mut self) -> Result<Reply, Status> {
        self.set_paused(false)?;
        reply(&api::ResumeResponse {})
    }

    /// Freezes the container or thaws it.
    pub(crate) fn set_paused(&mut self, paused: bool) -> Result<(), Status> {
        let task = self.the_task()?;
        let change = |task: &mut Task| -> Result<(), ShimError> {
            let container = task.container()?;
            let changed = if paused { container.pause() } else { container.resume() };
            Ok(changed?)
        };
        change(task).map_err(|error| error.to_status())?;
        task.paused = paused;
        Ok(())
    }

    fn update(&mut self, resources: &[u8]) -> Result<Reply, Status> {
        self.update_resources(resources)?;
        reply(&api::UpdateResponse {})
    }

    /// Changes the limits; `resources` is JSON.
    pub(crate) fn update_resources(&mut self, resources: &[u8]) -> Result<(), Status> {
        let change = |task: &mut Task| -> Result<(), ShimError> {
            let what = || "resources".to_owned();
            let resources: LinuxResources =
                serde_json::from_slice(resources).map_err(|source| ShimError::Document { what: what(), source })?;
            task.container()?.update(&resources)?;
            Ok(())
        };
        change(self.the_task()?).map_err(|error| error.to_status())
    }

    fn stats(&mut self) -> Result<Reply, Status> {
        let usage = self.usage()?;
        let usage = serde_json::to_vec(&usage).map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        reply(&api::StatsResponse { usage, read_at_ns: now().nanos() })
    }

    /// What the container has used.
    pub(crate) fn usage(&mut self) -> Result<berth_cgroup::Usage, Status> {
        let read =
            |task: &mut Task| -> Result<berth_cgroup::Usage, ShimError> { Ok(task.container()?.cgroup().usage()?) };
        read(self.the_task()?).map_err(|error| error.to_status())
    }

    fn processes(&mut self) -> Result<Reply, Status> {
        let pids = self.pids()?;
        reply(&api::ProcessesResponse { pids })
    }

    /// Every process in the container's cgroup.
    pub(crate) fn pids(&mut self) -> Result<Vec<u32>, Status> {
        let read = |task: &mut Task| -> Result<Vec<u32>, ShimError> { Ok(task.container()?.cgroup().pids()?) };
        read(self.the_task()?).map_err(|error| error.to_status())
    }

    fn log_status(&mut self) -> Result<Reply, Status> {
        let status = self.the_task()?.log().map(crate::log::Log::status).unwrap_or_default();
        reply(&status)
    }

    fn shutdown(&mut self, connection: u32, request: api::ShutdownRequest) -> Result<Reply, Status> {
        let api::ShutdownRequest { force, stay } = request;
        let may_stay = stay && !force && self.leaving == Leaving::Stays;
        if let Some(task) = &mut self.task {
            if !task.is_over() {
                if !force {
                    return Err(Status::new(Code::FailedPrecondition, format!("container {} is running", task.id)));
                }
                self.end_container();
            }
            self.end_streams(crate::process::MAIN);
        }
        self.leave();
        reply(&api::ShutdownResponse { stays: may_stay && self.stay(connection) })
    }

    /// Kills the container and waits for its end, which every living container has.
    pub(crate) fn end_container(&mut self) {
        let Some(task) = &mut self.task else { return };
        let pid = task.process(crate::process::MAIN).and_then(|main| main.life.pid());
        // Frozen processes would not see the signal on v1.
        if task.paused {
            let _ = task.container().map(|container| container.resume());
        }
        let _ = task.kill("", 9, true);
        let _ = task.kill("", 9, false);
        if let Some(pid) = pid
            && let Ok(Some((_, status))) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
        {
            self.reap(pid, status);
        }
    }

    /// Takes everything back that the shim has made, and ends it once the answer is sent.
    pub(crate) fn leave(&mut self) {
        if let Some(task) = &mut self.task {
            task.clean_up();
            if let Some(directory) = &task.runtime_dir {
                crate::records::remove(directory);
            }
        }
        self.take_leave();
        self.forget_chores();
        if let Some(listener) = self.listener.take() {
            listener.remove();
        }
        self.leaving = Leaving::Now;
    }
}

impl Awaited {
    /// The answer to a call that waited for an exit.
    pub(crate) fn tell(self, exit: Exit) -> Vec<u8> {
        match self {
            Awaited::Exit(_) => {
                api::WaitResponse { exit_code: exit.code, exited_at_ns: exit.at.nanos(), oom_killed: exit.oom_killed }
                    .encode_to_vec()
            }
            Awaited::TaskExit(_) => crate::task_service::wait_response(exit).encode_to_vec(),
        }
    }
}

/// Reads a message.
pub fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, Status> {
    M::decode(payload).map_err(|error| Status::new(Code::InvalidArgument, format!("request cannot be read: {error}")))
}

/// An answer that is ready.
pub fn reply(message: &impl Message) -> Result<Reply, Status> {
    Ok(Reply::Now(message.encode_to_vec()))
}

/// How output goes to a client of a process.
pub fn framing_of(terminal: bool) -> Framing {
    if terminal { Framing::Plain } else { Framing::Multiplexed }
}

/// A terminal's size; what is beyond its range is as large as it gets.
pub fn size_of(width: u32, height: u32) -> berth_sys::pty::Size {
    let clamp = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    berth_sys::pty::Size { width: clamp(width), height: clamp(height) }
}

/// Reads the description of a process that is to be executed.
pub fn read_process(text: &[u8], terminal: bool) -> Result<berth_oci::runtime::Process, ShimError> {
    let what = || "process".to_owned();
    let mut process: berth_oci::runtime::Process =
        serde_json::from_slice(text).map_err(|source| ShimError::Document { what: what(), source })?;
    process.terminal = terminal;
    Ok(process)
}

fn state_of(life: Life, paused: bool) -> State {
    match life {
        Life::Created(_) => State::Created,
        Life::Running(_) if paused => State::Paused,
        Life::Running(_) => State::Running,
        Life::Exited(..) => State::Exited,
    }
}

fn exit_message(exit: Exit) -> api::Exit {
    api::Exit { exit_code: exit.code, exited_at_ns: exit.at.nanos(), oom_killed: exit.oom_killed }
}
