//! The engine's side of `berth.shim.v1`: starting shims, finding them again, and what is asked of them.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use berth_model::{ContainerId, Signal, Timestamp, lifecycle::Failure};
use berth_proto::{
    client::{CallError, Client, Raw},
    shim::{
        AttachRequest, AttachResponse, ExecRequest, ExecResponse, KillRequest, KillResponse, LaunchRequest,
        LaunchResponse, PauseRequest, PauseResponse, ProcessesRequest, ProcessesResponse, ResizeRequest,
        ResizeResponse, ResumeRequest, ResumeResponse, SERVICE, ShutdownRequest, ShutdownResponse, StartFailure,
        StatsRequest, StatsResponse, StatusRequest, StatusResponse, UpdateRequest, UpdateResponse, WaitRequest,
        WaitResponse,
    },
    ttrpc::Code,
};
use berth_sys::{
    exec::CStrings,
    fdpass,
    spawn::{Program, SpawnRequest, Spawned},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::unix::AsyncFd;

use crate::EngineError;

mod idle;

pub(crate) use idle::leaves_its_shim_alone;

use idle::{IdleShims, Rested};

/// Digits of a container's id.
const ID_LENGTH: usize = 64;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub code: i32,
    pub at: Timestamp,
    pub oom_killed: bool,
}

/// Starts shims: by a process that has begun already and forks, itself from a sealed copy of this program that no container can write to.
pub(crate) struct Launcher {
    program: OwnedFd,
    nothing: OwnedFd,
    /// The cgroup of shims.
    cgroup: String,
    /// The socket of the zygote (`berth-shim/src/zygote.rs`).
    zygote: Mutex<OwnedFd>,
    idle: Arc<IdleShims>,
}

/// Why a container's shim did not report a start.
pub(crate) enum LaunchError {
    /// The program, or what it needs, is not there or not allowed.
    Failed(Failure),
    /// The shim itself could not be started or asked.
    Broken(EngineError),
}

impl Launcher {
    /// Must run inside a tokio runtime. `cgroup` is that of shims.
    pub(crate) fn new(cgroup: String) -> Result<Self, EngineError> {
        let program =
            berth_sys::memfd::sealed_self().map_err(EngineError::io("copying this program", "/proc/self/exe"))?;
        let null = std::fs::File::options().read(true).write(true).open("/dev/null");
        let nothing: OwnedFd = null.map_err(EngineError::io("opening", "/dev/null"))?.into();
        let zygote = start_zygote(&program, &nothing, &cgroup).map_err(EngineError::io("starting", "berth-shim"))?;
        Ok(Self { program, nothing, cgroup, zygote: Mutex::new(zygote), idle: Arc::default() })
    }

    /// The cgroup of shims.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Finds the shim of a container, which waits to hear what to launch: one that has served another container, or a new one. It leaves again
    /// when it is dropped before.
    pub(crate) fn shim_for(self: &Arc<Self>, id: &ContainerId) -> Result<Newborn, EngineError> {
        let (client, origin) = match self.idle.take() {
            Some(rested) => (rested.into_client(), Origin::Idle),
            None => (self.fork_shim(id).map_err(starting(id))?, Origin::Forked),
        };
        Ok(Newborn { id: id.clone(), client, origin, launcher: Arc::clone(self) })
    }

    fn fork_shim(&self, id: &ContainerId) -> io::Result<Client> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        let order = |zygote: &OwnedFd| fdpass::send(zygote.as_fd(), id.as_str().as_bytes(), &[theirs.as_fd()]);
        if order(&zygote).is_err() {
            // Somebody has killed it. It holds nothing: another one does as well.
            *zygote = start_zygote(&self.program, &self.nothing, &self.cgroup)?;
            order(&zygote)?;
        }
        drop(zygote);
        Client::from_std(ours)
    }

    /// Starts one of the programs of the sealed copy, by its name and arguments. It has nothing of ours but its stdin.
    pub(crate) fn start(&self, words: &[&str], stdin: BorrowedFd<'_>) -> io::Result<Spawned> {
        start(&self.program, &self.nothing, words, &[], stdin)
    }
}

fn starting(id: &ContainerId) -> impl FnOnce(io::Error) -> EngineError {
    EngineError::io("starting the shim of", id.short())
}

/// A shim that has no container yet.
pub(crate) struct Newborn {
    id: ContainerId,
    client: Client,
    origin: Origin,
    launcher: Arc<Launcher>,
}

/// Where a shim without a container comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// From the zygote.
    Forked,
    /// From another container.
    Idle,
}

/// What becomes of a shim after its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It ends.
    Ends,
    /// It waits for another container, if it finds itself clean.
    Waits,
}

impl Newborn {
    /// Starts the container. `descriptors` are those the request speaks of.
    pub(crate) async fn launch(
        self,
        request: LaunchRequest,
        descriptors: &[BorrowedFd<'_>],
        afterwards: Afterwards,
    ) -> Result<(Shim, LaunchResponse), LaunchError> {
        let Self { id, client, origin, launcher } = self;
        let mut shim = Shim {
            socket: PathBuf::from(&request.socket_path),
            home: (afterwards == Afterwards::Waits).then(|| Arc::clone(&launcher.idle)),
            id,
            client,
        };
        let mut launched = shim.client.call_with_fds(SERVICE, "Launch", &request, descriptors).await;
        if origin == Origin::Idle && launched.as_ref().is_err_and(has_left_before) {
            shim.client = launcher.fork_shim(&shim.id).map_err(starting(&shim.id)).map_err(LaunchError::Broken)?;
            launched = shim.client.call_with_fds(SERVICE, "Launch", &request, descriptors).await;
        }
        match launched {
            Ok(response) => Ok((shim, response)),
            Err(error) => Err(match launch_failure(&error) {
                Some(failure) => LaunchError::Failed(failure),
                None => LaunchError::Broken(shim.failed(error)),
            }),
        }
    }
}

/// Without its cache of freed pieces, which count as used, glibc's allocator can give back most of what a start needed (tunables in its manual).
const ZYGOTE_ENVIRONMENT: &[&str] =
    if cfg!(target_env = "gnu") { &["GLIBC_TUNABLES=glibc.malloc.tcache_count=0"] } else { &[] };

/// Starts a zygote and gives its socket. It ends when that is closed, be it by our death.
fn start_zygote(program: &OwnedFd, nothing: &OwnedFd, cgroup: &str) -> io::Result<OwnedFd> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(io::Error::from)?;
    // The last one is room for the words by which `ps` will show shims.
    let room = " ".repeat("-id".len() + ID_LENGTH);
    let spawned =
        start(program, nothing, &["berth-shim", "--zygote", cgroup, &room], ZYGOTE_ENVIRONMENT, theirs.as_fd())?;
    tokio::spawn(reap(spawned.pidfd));
    Ok(ours)
}

fn start(
    program: &OwnedFd,
    nothing: &OwnedFd,
    words: &[&str],
    environment: &[&str],
    stdin: BorrowedFd<'_>,
) -> io::Result<Spawned> {
    let (arguments, environment) = (CStrings::from_texts(words)?, CStrings::from_texts(environment)?);
    SpawnRequest {
        program: Program::Descriptor(program.as_fd()),
        arguments: &arguments,
        environment: &environment,
        stdio: [stdin, nothing.as_fd(), nothing.as_fd()],
        more: &[],
        directory: c"/",
        new_session: true,
    }
    .run()
}

/// Takes the exit status of a program when it ends, so that it leaves no zombie.
pub(crate) async fn reap(pidfd: OwnedFd) {
    if let Ok(pidfd) = ended(pidfd).await {
        let options = rustix::process::WaitIdOptions::EXITED;
        let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), options);
    }
}

/// Waits until a process has ended, somebody else's too.
#[expect(
    deprecated,
    reason = "the new way is unsafe, and an owned descriptor that nobody else closes is sound this way too"
)]
pub(crate) async fn ended(pidfd: OwnedFd) -> io::Result<OwnedFd> {
    let pidfd = AsyncFd::new(pidfd)?;
    // A pidfd becomes readable when its process has ended.
    pidfd.readable().await?.retain_ready();
    Ok(pidfd.into_inner())
}

/// Whether a shim was gone, or about to go, when it was told what to launch: it has done nothing for the container.
fn has_left_before(error: &CallError) -> bool {
    error.was_never_heard() || error.status().is_some_and(|status| status.code() == Code::Unavailable)
}

fn launch_failure(error: &CallError) -> Option<Failure> {
    let status = error.status()?;
    let failure = StartFailure::of(status)?;
    Some(Failure { code: i32::try_from(failure.exit_code).unwrap_or(128), message: status.message.clone() })
}

/// A running shim. Clones share its connection.
#[derive(Clone)]
pub(crate) struct Shim {
    id: ContainerId,
    client: Client,
    socket: PathBuf,
    /// Where it goes after its container, if anywhere. Never that of a shim which was found again: it may be of an older program.
    home: Option<Arc<IdleShims>>,
}

/// A connection that carries a container's or exec's streams, and what is known of it.
pub(crate) struct Streams {
    pub raw: Raw,
    pub log: Option<berth_proto::shim::LogPosition>,
}

impl Shim {
    /// Where the shim of a container listens. Short, because of the kernel's limit of 108 bytes.
    pub(crate) fn socket_path(run: &Path, id: &ContainerId) -> PathBuf {
        run.join("s").join(&id.as_str()[..20])
    }

    /// Finds the shim of a container again.
    pub(crate) async fn connect(id: &ContainerId, socket: &Path) -> io::Result<Self> {
        let client = Client::new(dial(socket).await?);
        Ok(Self { id: id.clone(), client, socket: socket.to_owned(), home: None })
    }

    pub(crate) async fn status(&self) -> Result<StatusResponse, EngineError> {
        self.ask("Status", &StatusRequest {}).await
    }

    /// Waits for the end of the main process, or of an exec.
    pub(crate) async fn wait(&self, exec_id: &str) -> Result<Exit, EngineError> {
        let end: WaitResponse = self.ask("Wait", &WaitRequest { exec_id: exec_id.to_owned() }).await?;
        Ok(Exit {
            code: i32::try_from(end.exit_code).unwrap_or(255),
            at: Timestamp::from_nanos(end.exited_at_ns),
            oom_killed: end.oom_killed,
        })
    }

    pub(crate) async fn kill(&self, signal: Signal, all: bool) -> Result<(), EngineError> {
        let request = KillRequest { exec_id: String::new(), signal: signal.number().unsigned_abs(), all };
        self.ask::<_, KillResponse>("Kill", &request).await.map(drop)
    }

    /// Ends an exec at once.
    pub(crate) async fn kill_exec(&self, exec_id: &str) -> Result<(), EngineError> {
        let signal = Signal::KILL.number().unsigned_abs();
        let request = KillRequest { exec_id: exec_id.to_owned(), signal, all: false };
        self.ask::<_, KillResponse>("Kill", &request).await.map(drop)
    }

    pub(crate) async fn pause(&self) -> Result<(), EngineError> {
        self.ask::<_, PauseResponse>("Pause", &PauseRequest {}).await.map(drop)
    }

    pub(crate) async fn resume(&self) -> Result<(), EngineError> {
        self.ask::<_, ResumeResponse>("Resume", &ResumeRequest {}).await.map(drop)
    }

    pub(crate) async fn resize(&self, exec_id: &str, width: u32, height: u32) -> Result<(), EngineError> {
        let request = ResizeRequest { exec_id: exec_id.to_owned(), width, height };
        self.ask::<_, ResizeResponse>("Resize", &request).await.map(drop)
    }

    /// Changes the limits of the running container; `resources` is the runtime specification's document.
    pub(crate) async fn update(&self, resources: Vec<u8>) -> Result<(), EngineError> {
        self.ask::<_, UpdateResponse>("Update", &UpdateRequest { resources }).await.map(drop)
    }

    pub(crate) async fn stats(&self) -> Result<StatsResponse, EngineError> {
        self.ask("Stats", &StatsRequest {}).await
    }

    pub(crate) async fn processes(&self) -> Result<Vec<u32>, EngineError> {
        let answer: ProcessesResponse = self.ask("Processes", &ProcessesRequest {}).await?;
        Ok(answer.pids)
    }

    /// Ends what the shim does for a container that is gone, and with it the cgroup and the mounts; mostly it then waits for another one.
    pub(crate) async fn shut_down(self, force: bool) -> Result<(), EngineError> {
        let request = ShutdownRequest { force, stay: self.home.is_some() };
        let answer: ShutdownResponse = self.ask("Shutdown", &request).await?;
        if let Some(home) = self.home
            && let Some(rested) = Rested::after(answer, self.client)
        {
            home.put(rested);
        }
        Ok(())
    }

    /// Attaches a new client to the running container.
    pub(crate) async fn attach(&self, request: &AttachRequest) -> Result<Streams, EngineError> {
        let own = self.own_connection().await?;
        let answer: AttachResponse = own.call(SERVICE, "Attach", request).await.map_err(|error| self.failed(error))?;
        Ok(Streams { raw: self.into_raw(own).await?, log: answer.log })
    }

    /// Starts an exec; its streams are on the connection that is given back when the request names any.
    pub(crate) async fn exec(&self, request: &ExecRequest) -> Result<(ExecResponse, Option<Raw>), LaunchError> {
        let own = self.own_connection().await.map_err(LaunchError::Broken)?;
        let answer: ExecResponse =
            own.call(SERVICE, "Exec", request).await.map_err(|error| match launch_failure(&error) {
                Some(failure) => LaunchError::Failed(failure),
                None => LaunchError::Broken(self.failed(error)),
            })?;
        let streams = if request.streams.is_some_and(|set| set.stdin || set.stdout || set.stderr) {
            Some(self.into_raw(own).await.map_err(LaunchError::Broken)?)
        } else {
            None
        };
        Ok((answer, streams))
    }

    async fn own_connection(&self) -> Result<Client, EngineError> {
        let stream = dial(&self.socket).await.map_err(EngineError::io("connecting to the shim at", &self.socket))?;
        Ok(Client::new(stream))
    }

    async fn into_raw(&self, client: Client) -> Result<Raw, EngineError> {
        client.into_raw().await.map_err(EngineError::io("taking over the connection to the shim at", &self.socket))
    }

    async fn ask<Q: prost::Message, R: prost::Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<R, EngineError> {
        self.client.call(SERVICE, method, request).await.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: CallError) -> EngineError {
        EngineError::Shim { id: self.id.to_string(), source }
    }
}

/// Connects to a socket whose path may be longer than an address: by way of its directory.
async fn dial(socket: &Path) -> io::Result<tokio::net::UnixStream> {
    if let Ok(stream) = tokio::net::UnixStream::connect(socket).await {
        return Ok(stream);
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = std::fs::File::open(directory)?;
    let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
    tokio::net::UnixStream::connect(Path::new(&short).join(name)).await
}
