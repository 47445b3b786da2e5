//! containerd's Task service, versions 2 and 3: the container and its processes for a foreign manager.
//!
//! Streams are what [`crate::foreign`] opens, and no log is kept. Checkpoints are not supported.

use std::path::Path;

use berth_oci::runtime::Mount;
use berth_proto::Any;
use berth_proto::containerd::events;
use berth_proto::containerd::runc::{Options, ProcessDetails};
use berth_proto::containerd::task as api;
use berth_proto::containerd::task_types::{ProcessInfo, Status as TaskStatus};
use berth_proto::shim::StreamSet;
use berth_proto::ttrpc::{Code, Status};
use prost::Message;
use rustix::process::Pid;

use crate::client::{Framing, Wish};
use crate::error::ShimError;
use crate::foreign::{self, Names, Opened, Owner};
use crate::launch::mount;
use crate::process::{Exit, Life, MAIN, Process};
use crate::publisher::timestamp;
use crate::service::{decode, read_process, reply};
use crate::shim::{Awaited, Reply, Shim, found};
use crate::stdio::StdinMode;
use crate::task::{NewTask, Streams, Task, now, raw};

/// Type of the `Empty` messages.
type Empty = ();

impl Shim {
    /// Answers a call of the service.
    pub(crate) fn call_task(&mut self, method: &str, payload: &[u8]) -> Result<Reply, Status> {
        match method {
            "State" => self.task_state(&decode::<api::StateRequest>(payload)?.exec_id),
            "Create" => self.task_create(decode(payload)?),
            "Start" => self.task_start(&decode::<api::StartRequest>(payload)?.exec_id),
            "Delete" => self.task_delete(&decode::<api::DeleteRequest>(payload)?.exec_id),
            "Pids" => self.task_pids(),
            "Pause" => self.task_pause(true),
            "Resume" => self.task_pause(false),
            "Kill" => self.task_kill(&decode(payload)?),
            "Exec" => self.task_exec(decode(payload)?),
            "ResizePty" => self.task_resize(&decode(payload)?),
            "CloseIO" => self.task_close_io(&decode(payload)?),
            "Update" => self.task_update(&decode(payload)?),
            "Wait" => self.task_wait(&decode::<api::WaitRequest>(payload)?.exec_id),
            "Stats" => self.task_stats(),
            "Connect" => self.task_connect(),
            "Shutdown" => self.task_shutdown(decode::<api::ShutdownRequest>(payload)?.now),
            other => Err(Status::new(Code::Unimplemented, format!("method Task.{other}"))),
        }
    }

    fn task_create(&mut self, request: api::CreateTaskRequest) -> Result<Reply, Status> {
        let pid = self.try_create(&request).map_err(|error| error.to_status())?;
        let io = events::TaskIo {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let event = events::TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: Some(io),
            checkpoint: String::new(),
            pid,
        };
        self.publish("/tasks/create", "TaskCreate", &event);
        reply(&api::CreateTaskResponse { pid })
    }

    fn try_create(&mut self, request: &api::CreateTaskRequest) -> Result<u32, ShimError> {
        if self.task.is_some() {
            return Err(ShimError::Exists(format!("this shim has container {} already", request.id)));
        }
        if !request.checkpoint.is_empty() {
            return Err(ShimError::Unimplemented("starting from a checkpoint is not supported".to_owned()));
        }
        let options = options(request.options.as_ref())?;
        self.origin.enter(&options.shim_cgroup)?;
        let names =
            Names { stdin: request.stdin.clone(), stdout: request.stdout.clone(), stderr: request.stderr.clone() };
        let (streams, given, ends) = self.open_streams(names, &request.id, request.terminal)?;
        let mounts: Vec<Mount> = request.rootfs.iter().map(mount).collect();
        let mut task = Task::create(
            &self.poll,
            NewTask {
                id: &request.id,
                bundle: Path::new(&request.bundle),
                rootfs: &mounts,
                root: None,
                network: None,
                seccomp_cache: None,
                terminal: request.terminal,
                streams: given,
                root_switch: if options.no_pivot_root {
                    berth_runtime::RootSwitch::Chroot
                } else {
                    berth_runtime::RootSwitch::Pivot
                },
                keyring: if options.no_new_keyring {
                    berth_runtime::Keyring::Inherited
                } else {
                    berth_runtime::Keyring::New
                },
                layout: &self.origin.layout,
                gate: berth_runtime::StartGate::Caller,
            },
        )?;
        let pid = task.process(MAIN).and_then(|main| main.life.pid()).map_or(0, raw);
        if let Some(main) = task.process_mut(MAIN) {
            main.foreign = Some(Box::new(streams));
        }
        self.task = Some(task);
        self.attach_ends(MAIN, ends)?;
        Ok(pid)
    }

    fn task_start(&mut self, exec_id: &str) -> Result<Reply, Status> {
        let pid = self.try_start(exec_id).map_err(|error| error.to_start_status())?;
        let pid = raw(pid);
        let container_id = self.the_task()?.id.clone();
        if exec_id.is_empty() {
            self.do_after_start(&[crate::shim::Chore::WatchMemory, crate::shim::Chore::ReleaseMemory]);
            self.publish("/tasks/start", "TaskStart", &events::TaskStart { container_id, pid });
        } else {
            let event = events::TaskExecStarted { container_id, exec_id: exec_id.to_owned(), pid };
            self.publish("/tasks/exec-started", "TaskExecStarted", &event);
        }
        reply(&api::StartResponse { pid })
    }

    fn try_start(&mut self, exec_id: &str) -> Result<Pid, ShimError> {
        let missing = || ShimError::NotFound(format!("no such process: {exec_id:?}"));
        let task = self.task.as_mut().ok_or_else(missing)?;
        if exec_id.is_empty() {
            return task.start();
        }
        let process = task.named(exec_id).ok_or_else(missing)?;
        let Life::Created(None) = process.life else {
            return Err(ShimError::State(format!("process {exec_id:?} was started already")));
        };
        let (number, terminal) = (process.number, process.terminal);
        let spec =
            process.spec.take().ok_or_else(|| ShimError::State(format!("process {exec_id:?} was started already")))?;
        let names = process.foreign.as_ref().map(|streams| streams.names.clone()).unwrap_or_default();
        let id = task.id.clone();
        let (streams, given, ends) = self.open_streams(names, &id, terminal)?;
        let task = self.task.as_mut().ok_or_else(missing)?;
        let mut process = Process::new(number, exec_id.to_owned(), terminal);
        process.foreign = Some(Box::new(streams));
        let pid = task.exec(&self.poll, process, &spec, given)?;
        self.attach_ends(number, ends)?;
        Ok(pid)
    }

    fn task_exec(&mut self, request: api::ExecProcessRequest) -> Result<Reply, Status> {
        let number = self.next_number();
        let task = self.the_task()?;
        if request.exec_id.is_empty() || task.named(&request.exec_id).is_some() {
            return Err(Status::new(Code::AlreadyExists, format!("process {:?} exists", request.exec_id)));
        }
        let names = Names { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
        foreign::check(&names).map_err(|error| error.to_status())?;
        let spec = request.spec.unwrap_or_default();
        let spec = read_process(&spec.value, request.terminal).map_err(|error| error.to_status())?;
        let mut process = Process::new(number, request.exec_id.clone(), request.terminal);
        process.spec = Some(Box::new(spec));
        process.foreign = Some(Box::new(foreign::Streams::unopened(names)));
        task.add_exec(process);
        let event = events::TaskExecAdded { container_id: request.id, exec_id: request.exec_id };
        self.publish("/tasks/exec-added", "TaskExecAdded", &event);
        reply_empty()
    }

    fn task_delete(&mut self, exec_id: &str) -> Result<Reply, Status> {
        let task = self.the_task()?;
        let container_id = task.id.clone();
        let life = found(task.named(exec_id), exec_id)?.life;
        let exit = match (life, life.exit()) {
            (_, Some(exit)) => exit,
            // Never started: there is nothing to wait for, and nothing to keep.
            (Life::Created(None), None) => Exit { code: 0, at: now(), oom_killed: false },
            (Life::Created(Some(_)), None) if exec_id.is_empty() => {
                self.end_container();
                let main = self.the_task()?.process(MAIN).and_then(|main| main.life.exit());
                main.unwrap_or(Exit { code: 137, at: now(), oom_killed: false })
            }
            _ => {
                return Err(Status::new(
                    Code::FailedPrecondition,
                    format!("process {exec_id:?} of {container_id} is running"),
                ));
            }
        };
        let pid = life.pid().map_or(0, raw);
        let number = found(self.the_task()?.named(exec_id), exec_id)?.number;
        self.end_streams(number);
        if exec_id.is_empty() {
            if let Some(mut task) = self.task.take() {
                task.clean_up();
            }
        } else {
            self.the_task()?.take_exec(exec_id);
        }
        let exited_at = Some(timestamp(exit.at));
        let event = events::TaskDelete { container_id, pid, exit_status: exit.code, exited_at, id: exec_id.to_owned() };
        self.publish("/tasks/delete", "TaskDelete", &event);
        reply(&api::DeleteResponse { pid, exit_status: exit.code, exited_at })
    }

    fn task_state(&mut self, exec_id: &str) -> Result<Reply, Status> {
        let task = self.the_task()?;
        let (id, bundle, paused) = (task.id.clone(), task.bundle.display().to_string(), task.paused);
        let process = found(task.named(exec_id), exec_id)?;
        let status = match process.life {
            Life::Created(_) => TaskStatus::Created,
            Life::Running(_) if paused => TaskStatus::Paused,
            Life::Running(_) => TaskStatus::Running,
            Life::Exited(..) => TaskStatus::Stopped,
        };
        let names = process.foreign.as_ref().map(|streams| streams.names.clone()).unwrap_or_default();
        let exit = process.life.exit();
        reply(&api::StateResponse {
            id,
            bundle,
            pid: process.life.pid().map_or(0, raw),
            status: status.into(),
            stdin: names.stdin,
            stdout: names.stdout,
            stderr: names.stderr,
            terminal: process.terminal,
            exit_status: exit.map_or(0, |exit| exit.code),
            exited_at: exit.map(|exit| timestamp(exit.at)),
            exec_id: exec_id.to_owned(),
        })
    }

    fn task_pids(&mut self) -> Result<Reply, Status> {
        let pids = self.pids()?;
        let task = self.the_task()?;
        let info = |pid: u32| {
            let exec =
                task.execs().iter().find(|exec| exec.life.exit().is_none() && exec.life.pid().map(raw) == Some(pid));
            let details = exec.map(|exec| Any {
                type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
                value: ProcessDetails { exec_id: exec.exec_id.clone() }.encode_to_vec(),
            });
            ProcessInfo { pid, info: details }
        };
        reply(&api::PidsResponse { processes: pids.into_iter().map(info).collect() })
    }

    fn task_pause(&mut self, paused: bool) -> Result<Reply, Status> {
        self.set_paused(paused)?;
        let container_id = self.the_task()?.id.clone();
        if paused {
            self.publish("/tasks/paused", "TaskPaused", &events::TaskPaused { container_id });
        } else {
            self.publish("/tasks/resumed", "TaskResumed", &events::TaskResumed { container_id });
        }
        reply_empty()
    }

    fn task_kill(&mut self, request: &api::KillRequest) -> Result<Reply, Status> {
        let killed = self.the_task()?.kill(&request.exec_id, request.signal, request.all);
        killed.map_err(|error| error.to_status())?;
        reply_empty()
    }

    fn task_resize(&mut self, request: &api::ResizePtyRequest) -> Result<Reply, Status> {
        self.resize_terminal(&request.exec_id, request.width, request.height)?;
        reply_empty()
    }

    fn task_close_io(&mut self, request: &api::CloseIoRequest) -> Result<Reply, Status> {
        let process = found(self.the_task()?.named(&request.exec_id), &request.exec_id)?;
        if let Some(streams) = process.foreign.as_mut().filter(|_| request.stdin) {
            streams.release_stdin();
        }
        reply_empty()
    }

    fn task_update(&mut self, request: &api::UpdateTaskRequest) -> Result<Reply, Status> {
        let resources = request.resources.as_ref();
        let resources = resources.ok_or_else(|| Status::new(Code::InvalidArgument, "no resources were given"))?;
        self.update_resources(&resources.value)?;
        reply_empty()
    }

    fn task_wait(&mut self, exec_id: &str) -> Result<Reply, Status> {
        let number = found(self.the_task()?.named(exec_id), exec_id)?.number;
        Ok(Reply::When(Awaited::TaskExit(number)))
    }

    fn task_stats(&mut self) -> Result<Reply, Status> {
        let usage = self.usage()?;
        reply(&api::StatsResponse { stats: Some(crate::metrics::pack(&usage, self.origin.layout.version())) })
    }

    fn task_connect(&mut self) -> Result<Reply, Status> {
        let main = self.task.as_ref().and_then(|task| task.process(MAIN)).and_then(|main| main.life.pid());
        let shim_pid = std::process::id();
        reply(&api::ConnectResponse { shim_pid, task_pid: main.map_or(0, raw), version: String::new() })
    }

    fn task_shutdown(&mut self, now: bool) -> Result<Reply, Status> {
        if self.task.is_none() || now {
            self.end_container();
            self.leave();
        }
        // Otherwise the container is still to be deleted, and the manager asks again.
        reply_empty()
    }

    // Streams.

    /// Opens the streams of a process: what is kept, what the runtime gets, and what the shim copies for a terminal.
    fn open_streams(
        &self,
        names: Names,
        id: &str,
        terminal: bool,
    ) -> Result<(foreign::Streams, Streams, Ends), ShimError> {
        foreign::check(&names)?;
        let namespace = self.publisher.as_ref().map_or("", |publisher| publisher.namespace());
        let opened = foreign::open(names, Owner { id, namespace })?;
        if terminal {
            let Opened { streams, stdin, stdout, .. } = opened;
            let mode = if stdin.is_some() { StdinMode::Open } else { StdinMode::Closed };
            return Ok((streams, Streams::Own(mode), Ends { stdin, stdout }));
        }
        let (streams, inner) = opened.into_inner().map_err(ShimError::own("opening", "/dev/null"))?;
        Ok((streams, Streams::Given(inner), Ends { stdin: None, stdout: None }))
    }

    /// Copies between a terminal and the manager's streams.
    fn attach_ends(&mut self, number: u32, ends: Ends) -> Result<(), ShimError> {
        let input = StreamSet { stdin: true, stdout: false, stderr: false };
        let output = StreamSet { stdin: false, stdout: true, stderr: false };
        for (end, streams) in [(ends.stdin, input), (ends.stdout, output)] {
            if let Some(end) = end {
                let wish = Wish { streams, framing: Framing::Plain, detach_keys: Vec::new() };
                let attached = self.attach(end, number, wish, Vec::new(), &[]);
                attached.map_err(ShimError::own("attaching the streams of the terminal", ""))?;
            }
        }
        Ok(())
    }

    // Events.

    fn publish(&mut self, topic: &str, name: &str, event: &impl Message) {
        if let Some(publisher) = &mut self.publisher {
            publisher.publish(&self.poll, now(), topic, name, event);
        }
    }

    /// Tells the manager that a process is gone.
    pub(crate) fn publish_exit(&mut self, number: u32, pid: Pid, exit: Exit) {
        let Some(task) = &self.task else { return };
        let exec_id = task.process(number).map(|process| process.exec_id.clone()).unwrap_or_default();
        let id = if exec_id.is_empty() { task.id.clone() } else { exec_id };
        let event = events::TaskExit {
            container_id: task.id.clone(),
            id,
            pid: raw(pid),
            exit_status: exit.code,
            exited_at: Some(timestamp(exit.at)),
        };
        self.publish("/tasks/exit", "TaskExit", &event);
    }

    /// Tells the manager that the container has run out of memory.
    pub(crate) fn publish_oom(&mut self) {
        let Some(task) = &self.task else { return };
        let event = events::TaskOom { container_id: task.id.clone() };
        self.publish("/tasks/oom", "TaskOOM", &event);
    }
}

/// The manager's ends of a terminal's streams.
struct Ends {
    stdin: Option<std::os::fd::OwnedFd>,
    stdout: Option<std::os::fd::OwnedFd>,
}

/// The answer to `Wait`.
pub fn wait_response(exit: Exit) -> api::WaitResponse {
    api::WaitResponse { exit_status: exit.code, exited_at: Some(timestamp(exit.at)) }
}

fn reply_empty() -> Result<Reply, Status> {
    let empty: Empty = ();
    reply(&empty)
}

/// The options of the `runc` kind of runtimes; others have none that concern us.
fn options(any: Option<&Any>) -> Result<Options, ShimError> {
    match any {
        Some(any) if any.type_url.ends_with("containerd.runc.v1.Options") => Options::decode(any.value.as_slice())
            .map_err(|error| ShimError::Invalid(format!("options cannot be read: {error}"))),
        _ => Ok(Options::default()),
    }
}
