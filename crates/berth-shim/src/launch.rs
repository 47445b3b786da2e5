//! `Launch`: creates and starts the container in one call. The only request whose speed matters to everybody.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_oci::runtime::Mount;
use berth_proto::shim::{LaunchRequest, LaunchResponse};
use berth_proto::ttrpc::{Code, Status};
use berth_runtime::{Keyring, RootSwitch, StartGate};

use crate::client::Wish;
use crate::error::ShimError;
use crate::listener::Listener;
use crate::log::Log;
use crate::origin::Origin;
use crate::process::{MAIN, Process};
use crate::service::{framing_of, reply, size_of};
use crate::shim::{Chore, Leaving, Reply, Shim};
use crate::stdio::StdinMode;
use crate::task::{NewTask, Streams, Task, raw};

impl Shim {
    /// Launches the container. A shim whose launch failed has nothing left to do and leaves.
    pub(crate) fn launch(&mut self, connection: u32, request: &LaunchRequest) -> Result<Reply, Status> {
        if self.task.is_some() {
            return Err(Status::new(Code::AlreadyExists, "this shim has launched its container"));
        }
        if self.leaving != Leaving::Stays {
            return Err(Status::new(Code::Unavailable, "this shim is about to end"));
        }
        if let Some(reuse) = &self.origin.reuse {
            reuse.show(&request.id);
        }
        let descriptors = self.take_received(connection);
        match self.try_launch(request, descriptors) {
            Ok(response) => {
                self.do_after_start(&[Chore::WriteRecord, Chore::WatchMemory, Chore::ReleaseMemory]);
                reply(&response)
            }
            Err(error) => {
                if self.task.is_some() {
                    self.end_container();
                }
                self.leave();
                Err(error.to_start_status())
            }
        }
    }

    fn try_launch(&mut self, request: &LaunchRequest, descriptors: Vec<OwnedFd>) -> Result<LaunchResponse, ShimError> {
        // First of all: what follows is to be charged to the shim, and to survive the daemon.
        self.origin.enter(&request.shim_cgroup)?;
        let mut descriptors: Vec<Option<OwnedFd>> = descriptors.into_iter().map(Some).collect();
        let network = if request.has_netns { Some(take(&mut descriptors, 0)?) } else { None };
        let root = if request.has_root { Some(take(&mut descriptors, usize::from(request.has_netns))?) } else { None };
        let log_wish = request.log.clone().unwrap_or_default();
        let log = Log::open(&log_wish).map_err(ShimError::own("opening the log", &log_wish.path))?;
        if !request.socket_path.is_empty() {
            let path = PathBuf::from(&request.socket_path);
            let listener = Listener::bind(&path).map_err(ShimError::own("listening at", &path))?;
            self.listen(listener).map_err(ShimError::own("listening at", &path))?;
        }
        let given = Given { network: network.as_ref().map(AsFd::as_fd), root: root.as_ref().map(AsFd::as_fd) };
        let mut task = create(&self.poll, &self.origin, request, given)?;
        // It would keep the file system mounted after the container's end.
        drop(root);
        task.set_log(log);
        self.task = Some(task);
        self.attach_early(request, &mut descriptors)?;
        let task = self.task.as_mut().ok_or_else(|| ShimError::State("the container is gone".to_owned()))?;
        let pid = task.start()?;
        let response =
            LaunchResponse { pid: raw(pid), shim_pid: std::process::id(), started_at_ns: task.started_at.nanos() };
        Ok(response)
    }

    /// Attaches the clients that want every byte.
    fn attach_early(&mut self, request: &LaunchRequest, descriptors: &mut [Option<OwnedFd>]) -> Result<(), ShimError> {
        for attach in &request.attaches {
            let socket = take(descriptors, attach.fd as usize)?;
            let wish = Wish {
                streams: attach.streams.unwrap_or_default(),
                framing: framing_of(request.terminal),
                detach_keys: Vec::new(),
            };
            self.attach(socket, MAIN, wish, Vec::new(), &[])
                .map_err(ShimError::own("attaching a client to", &request.id))?;
        }
        Ok(())
    }
}

/// What the manager has made for the container.
#[derive(Clone, Copy)]
struct Given<'a> {
    network: Option<BorrowedFd<'a>>,
    root: Option<BorrowedFd<'a>>,
}

fn create(
    poll: &crate::poll::Poll,
    origin: &Origin,
    request: &LaunchRequest,
    given: Given<'_>,
) -> Result<Task, ShimError> {
    let mounts: Vec<Mount> = request.rootfs.iter().map(mount).collect();
    let stdin = if request.open_stdin { StdinMode::Open } else { StdinMode::Closed };
    let mut task = Task::create(
        poll,
        NewTask {
            id: &request.id,
            bundle: Path::new(&request.bundle),
            rootfs: &mounts,
            root: given.root,
            network: given.network,
            seccomp_cache: Some(&request.seccomp_cache_dir).filter(|path| !path.is_empty()).map(Path::new),
            terminal: request.terminal,
            streams: Streams::Own(stdin),
            root_switch: RootSwitch::Pivot,
            keyring: Keyring::New,
            layout: &origin.layout,
            // A terminal first gets its size.
            gate: if request.terminal { StartGate::Caller } else { StartGate::Open },
        },
    )?;
    if !request.runtime_dir.is_empty() {
        task.runtime_dir = Some(PathBuf::from(&request.runtime_dir));
    }
    if let Some(main) = task.process_mut(MAIN) {
        main.stdin_once = request.stdin_once;
    }
    if let (Some(size), Some(master)) = (request.console_size, task.process(MAIN).and_then(Process::master)) {
        let resized = berth_sys::pty::resize(master, size_of(size.width, size.height));
        resized.map_err(ShimError::own("resizing the terminal of", &request.id))?;
    }
    Ok(task)
}

fn take(descriptors: &mut [Option<OwnedFd>], index: usize) -> Result<OwnedFd, ShimError> {
    descriptors.get_mut(index).and_then(Option::take).ok_or_else(|| ShimError::Own {
        step: "taking a descriptor of the request",
        path: PathBuf::from(index.to_string()),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// A mount as containerd writes it, as the runtime reads it.
pub fn mount(mount: &berth_proto::containerd::types::Mount) -> Mount {
    Mount {
        destination: PathBuf::from(if mount.target.is_empty() { "/" } else { &mount.target }),
        kind: mount.r#type.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
        ..Mount::default()
    }
}
