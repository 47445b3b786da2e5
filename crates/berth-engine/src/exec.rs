//! Processes beside a container's main one (B044, B045).

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use berth_model::{ContainerId, ErrorKind, ExecId, lifecycle::State};
use berth_proto::shim::{ConsoleSize, ExecRequest, StreamSet};
use berth_sys::fault;
use tokio::sync::oneshot;

use crate::{
    EngineError, Inner, attach::StreamEnd, blocking, bundle, clock, container::Handle, shim::LaunchError,
    view::ContainerView,
};

/// What is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecCreate {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// As whom; as the container's user when empty.
    pub user: String,
    /// Where; the container's working directory when empty.
    pub working_dir: String,
    /// With a terminal.
    pub tty: bool,
    /// With every capability.
    pub privileged: bool,
    /// Wants stdin.
    pub attach_stdin: bool,
    /// Wants stdout.
    pub attach_stdout: bool,
    /// Wants stderr.
    pub attach_stderr: bool,
    /// Keys by which a client leaves, as given.
    pub detach_keys: String,
    /// The terminal's first size, rows and columns.
    pub console_size: Option<[u32; 2]>,
}

/// How it is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    /// Nobody looks at its streams.
    pub detach: bool,
    /// The terminal's first size, rows and columns.
    pub console_size: Option<[u32; 2]>,
}

/// An exec that runs.
pub struct ExecStarted {
    /// Its streams, unless it is detached.
    pub stream: Option<StreamEnd>,
    /// Whether it has a terminal, and so no frames.
    pub terminal: bool,
    /// Whether its client may leave by keys, and which.
    pub detach_keys: String,
    /// Its container.
    pub container: ContainerId,
    /// Resolves when its end can be asked for. A process it left behind may keep the streams open longer, or not as long.
    pub ended: Ended,
}

/// The end of an exec, to wait for.
pub struct Ended(oneshot::Receiver<()>);

impl Future for Ended {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

/// An exec, as it is now.
#[derive(Clone, Debug)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// What it runs.
    pub request: ExecCreate,
    /// Where it is in its life.
    pub state: ExecState,
}

/// Where an exec is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// Not run yet.
    Created,
    /// Being started.
    Starting,
    /// Runs.
    Running {
        /// Its process.
        pid: u32,
    },
    /// Has ended, or could not be started.
    Ended {
        /// 0 to 255; 126 and 127 for a start that failed.
        code: i32,
        /// Its process; 0 if there never was one.
        pid: u32,
    },
}

/// All execs. They are not on record: without their engine nobody asks for them, and their processes belong to the shim.
#[derive(Default)]
pub(crate) struct Execs {
    table: Mutex<HashMap<String, Entry>>,
}

/// An exec, and when it ended.
struct Entry {
    view: ExecView,
    ended: Option<Instant>,
}

/// How long an exec that has ended can be asked for.
const KEPT: Duration = Duration::from_secs(300);

impl Execs {
    /// An exec, as it is now.
    pub(crate) fn get(&self, id: &str) -> Result<ExecView, EngineError> {
        let missing = || EngineError::NoSuchExec(id.to_owned());
        self.lock().get(id).map(|entry| entry.view.clone()).ok_or_else(missing)
    }

    /// Forgets the execs of a container that is gone.
    pub(crate) fn forget(&self, container: &ContainerId) {
        self.lock().retain(|_, entry| entry.view.container != *container);
    }

    /// Forgets the execs of a container whose run is over that never ran: nothing can start them any more.
    pub(crate) fn forget_unstarted(&self, container: &ContainerId) {
        self.lock().retain(|_, entry| entry.view.container != *container || entry.view.state != ExecState::Created);
    }

    /// Ids of a container's execs that have not ended.
    pub(crate) fn of(&self, container: &ContainerId) -> Vec<ExecId> {
        let table = self.lock();
        let mut ids: Vec<ExecId> = table
            .values()
            .filter(|entry| entry.view.container == *container && entry.ended.is_none())
            .map(|entry| entry.view.id.clone())
            .collect();
        ids.sort();
        ids
    }

    fn set_state(&self, id: &str, state: ExecState) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.view.state = state;
            if matches!(state, ExecState::Ended { .. }) {
                entry.ended = Some(Instant::now());
            }
        }
    }

    fn insert(&self, view: ExecView) {
        let mut table = self.lock();
        table.retain(|_, entry| entry.ended.is_none_or(|ended| ended.elapsed() < KEPT));
        table.insert(view.id.to_string(), Entry { view, ended: None });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // The table is whole between any two statements that could panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn create(engine: &Inner, handle: &Handle, request: ExecCreate) -> Result<ExecId, EngineError> {
    let view = handle.view();
    must_run(&view)?;
    if request.command.is_empty() {
        return Err(EngineError::invalid("No exec command specified"));
    }
    if !request.user.is_empty() {
        bundle::check_user(engine, &view, &request.user)?;
    }
    let id = clock::new_id();
    let action = format!("exec_create: {}", told(&request.command));
    let exec = ExecView { id: id.clone(), container: view.id.clone(), request, state: ExecState::Created };
    engine.execs.insert(exec);
    engine.publish(&view, &action, [("execID", id.to_string())]);
    Ok(id)
}

/// The command as events tell it: the program, a blank, and its arguments, if there are any.
fn told(command: &[String]) -> String {
    let (program, arguments) = command.split_first().expect("refused when it was created");
    format!("{program} {}", arguments.join(" "))
}

fn must_run(view: &ContainerView) -> Result<(), EngineError> {
    match view.state {
        State::Running { .. } => Ok(()),
        State::Paused { .. } => {
            Err(EngineError::conflict(format!("container {} is paused, unpause the container before exec", view.name)))
        }
        State::Restarting { .. } => Err(EngineError::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            view.id
        ))),
        _ => Err(EngineError::NotRunning(view.id.to_string())),
    }
}

pub(crate) async fn start(engine: &Arc<Inner>, id: &str, request: ExecStart) -> Result<ExecStarted, EngineError> {
    let exec = begin(&engine.execs, id)?;
    let started = tokio::spawn(run(Arc::clone(engine), exec, request));
    started.await.map_err(|_| EngineError::ShuttingDown)?
}

/// Takes the one start that an exec has.
fn begin(execs: &Execs, id: &str) -> Result<ExecView, EngineError> {
    let mut table = execs.lock();
    let exec = &mut table.get_mut(id).ok_or_else(|| EngineError::NoSuchExec(id.to_owned()))?.view;
    match exec.state {
        ExecState::Created => {}
        ExecState::Ended { .. } => {
            return Err(EngineError::conflict(format!("exec command {id} has already run")));
        }
        ExecState::Starting | ExecState::Running { .. } => {
            return Err(EngineError::conflict(format!("exec command {id} is already running")));
        }
    }
    exec.state = ExecState::Starting;
    Ok(exec.clone())
}

async fn run(engine: Arc<Inner>, exec: ExecView, start: ExecStart) -> Result<ExecStarted, EngineError> {
    match launch(&engine, &exec, start).await {
        Ok(started) => Ok(started),
        Err(error) => {
            let code = match &error {
                EngineError::Start(failure) => failure.code,
                _ => 126,
            };
            engine.execs.set_state(exec.id.as_str(), ExecState::Ended { code, pid: 0 });
            Err(error)
        }
    }
}

async fn launch(engine: &Arc<Inner>, exec: &ExecView, start: ExecStart) -> Result<ExecStarted, EngineError> {
    let handle = engine.registry.find(exec.container.as_str())?;
    let view = handle.view();
    must_run(&view)?;
    let shim = handle.run(|container| Box::pin(async move { container.running_shim() })).await?;
    let process = {
        let (engine, view, request) = (Arc::clone(engine), Arc::clone(&view), exec.request.clone());
        blocking(move || bundle::exec_process(&engine, &view, &request)).await?
    };
    let wanted = &exec.request;
    let streams = StreamSet {
        stdin: !start.detach && wanted.attach_stdin,
        stdout: !start.detach && wanted.attach_stdout,
        stderr: !start.detach && wanted.attach_stderr,
    };
    let size = start.console_size.or(wanted.console_size).filter(|[height, width]| *height > 0 && *width > 0);
    let request = ExecRequest {
        exec_id: exec.id.to_string(),
        process: serde_json::to_vec(&process).expect("a process is JSON"),
        terminal: wanted.tty,
        streams: Some(streams),
        open_stdin: wanted.attach_stdin,
        detach_keys: Vec::new(),
        console_size: size.map(|[height, width]| ConsoleSize { width, height }),
    };
    let action = format!("exec_start: {}", told(&wanted.command));
    engine.publish(&view, &action, [("execID", exec.id.to_string())]);
    // What it does is not in the container's description.
    engine.snapshots.share(&view.id);
    if wanted.privileged {
        engine.networks.recall(&view.id);
    }
    fault::point("exec:ready");
    let (response, raw) = shim.exec(&request).await.map_err(|error| match error {
        LaunchError::Failed(failure) => EngineError::Start(failure),
        LaunchError::Broken(error) => error,
    })?;
    fault::point("exec:launched");
    engine.execs.set_state(exec.id.as_str(), ExecState::Running { pid: response.pid });
    let (engine, id, pid) = (Arc::clone(engine), exec.id.clone(), response.pid);
    let ended_view = Arc::clone(&view);
    let (tell, ended) = oneshot::channel();
    tokio::spawn(async move {
        // A shim that is gone took its container with it.
        let code = shim.wait(id.as_str()).await.map_or(137, |exit| exit.code);
        engine.execs.set_state(id.as_str(), ExecState::Ended { code, pid });
        engine.publish(&ended_view, "exec_die", [("execID", id.to_string()), ("exitCode", code.to_string())]);
        // Nobody may be waiting.
        let _ = tell.send(());
    });
    Ok(ExecStarted {
        stream: raw.map(StreamEnd::from),
        terminal: wanted.tty,
        detach_keys: wanted.detach_keys.clone(),
        container: exec.container.clone(),
        ended: Ended(ended),
    })
}

pub(crate) async fn resize(engine: &Arc<Inner>, id: &str, width: u32, height: u32) -> Result<(), EngineError> {
    let exec = engine.execs.get(id)?;
    if !matches!(exec.state, ExecState::Running { .. }) {
        return Err(EngineError::Refused {
            kind: ErrorKind::Conflict,
            message: format!("exec {id} is not running: its terminal cannot be resized"),
        });
    }
    let handle = engine.registry.find(exec.container.as_str())?;
    let shim = handle.run(|container| Box::pin(async move { container.running_shim() })).await?;
    shim.resize(id, width, height).await
}

pub(crate) fn detached(engine: &Inner, id: &str) {
    if let Ok(exec) = engine.execs.get(id)
        && let Ok(handle) = engine.registry.find(exec.container.as_str())
    {
        engine.publish(&handle.view(), "exec_detach", [("execID", id.to_owned())]);
    }
}

/// Ends an exec that its watcher no longer waits for.
pub(crate) struct KillOnDrop {
    engine: Arc<Inner>,
    id: ExecId,
    ended: bool,
}

impl KillOnDrop {
    pub(crate) fn new(engine: &Arc<Inner>, id: ExecId) -> Self {
        Self { engine: Arc::clone(engine), id, ended: false }
    }

    /// Leaves the exec alone, and forgets it: nobody else knows its id.
    pub(crate) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let exec = self.engine.execs.lock().remove(self.id.as_str()).map(|entry| entry.view);
        let Some(exec) = exec.filter(|exec| !self.ended && !matches!(exec.state, ExecState::Ended { .. })) else {
            return;
        };
        let (engine, id) = (Arc::clone(&self.engine), self.id.clone());
        tokio::spawn(async move {
            let Ok(handle) = engine.registry.find(exec.container.as_str()) else { return };
            if let Ok(shim) = handle.run(|container| Box::pin(async move { container.running_shim() })).await
                && let Err(error) = shim.kill_exec(id.as_str()).await
            {
                tracing::debug!(%error, "a check that took too long could not be ended");
            }
        });
    }
}
