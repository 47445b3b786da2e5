//! Starting: network, bundle, shim. What was prepared takes itself back if a later step fails.

use std::{
    collections::BTreeMap,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use berth_model::{
    Timestamp,
    lifecycle::{Event, Failure, State},
};
use berth_proto::shim::{ConsoleSize, LaunchAttach, LaunchRequest, LaunchResponse, Log};
use berth_snapshot::SnapshotError;
use berth_store::Durability;
use berth_sys::fault;

use super::Container;
use crate::{
    EngineError, blocking, bundle, clock, lending, logs, name_service,
    network::{self, Attachment},
    reconcile,
    shim::{self, Afterwards, LaunchError, Shim},
    view::{ContainerView, MountPointKind},
};

/// After how long the start of a container with `--rm` is put on record, if it still runs.
const NOTE_DELAY: Duration = Duration::from_millis(200);

impl Container {
    /// Starts the container for somebody who asks. One that waits for its next start is as good as started (B055).
    pub(crate) async fn start_for_somebody(&mut self) -> Result<(), EngineError> {
        match self.view().state {
            State::Restarting { .. } => Err(EngineError::NotModified),
            _ => self.start().await,
        }
    }

    /// Starts the main process of a container that does not run.
    pub(crate) async fn start(&mut self) -> Result<(), EngineError> {
        let view = self.view();
        match &view.state {
            State::Running { .. } => return Err(EngineError::NotModified),
            State::Paused { .. } => {
                return Err(EngineError::conflict("cannot start a paused container, try unpause instead"));
            }
            State::Removing => {
                return Err(EngineError::conflict("container is marked for removal and cannot be started"));
            }
            State::Created { .. } | State::Exited { .. } | State::Restarting { .. } => {}
        }
        self.publish_view(|view| view.stopped_by_hand = false);
        match self.launch(&view).await {
            Ok((shim, response, attachment)) => self.started(shim, &response, attachment).await,
            Err(error) => Err(self.start_failed(error).await),
        }
    }

    async fn launch(&mut self, view: &Arc<ContainerView>) -> Result<(Shim, LaunchResponse, Attachment), LaunchError> {
        // The old shim is still clearing up after the last run: the same upper directory must not be mounted twice.
        self.clear_shim().await;
        self.visitors.writers_left().await;
        let engine = Arc::clone(&self.engine);
        if !lending::keeps_its_files(view) {
            engine.snapshots.share(&view.id);
        }
        // Where none waits the shim is born while its bundle is written: a process takes as long as some files.
        let shim = engine.launcher.shim_for(&view.id).map_err(LaunchError::Broken)?;
        let prepared = {
            let (engine, view) = (Arc::clone(&engine), Arc::clone(view));
            blocking(move || prepare(&engine, &view)).await.map_err(LaunchError::Broken)?
        };
        let early = std::mem::take(&mut self.early);
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
        descriptors.extend(prepared.network.namespace());
        descriptors.extend(prepared.root.as_ref().map(AsFd::as_fd));
        let mut request = prepared.request;
        request.has_netns = prepared.network.namespace().is_some();
        request.has_root = prepared.root.is_some();
        for attach in &early {
            let fd = u32::try_from(descriptors.len()).expect("a handful");
            request.attaches.push(LaunchAttach { streams: Some(attach.streams), fd });
            descriptors.push(attach.socket.as_fd());
        }
        let alone = shim::leaves_its_shim_alone(&view.spec.host);
        let afterwards = if alone { Afterwards::Waits } else { Afterwards::Ends };
        let (shim, response) = match shim.launch(request, &descriptors, afterwards).await {
            Err(LaunchError::Broken(error)) => {
                // It may have come as far as the container's mounts, or its program.
                let (inner, id) = (Arc::clone(&engine), view.id.clone());
                let _ = blocking(move || {
                    reconcile::end_orphans(&inner, &id);
                    Ok(())
                })
                .await;
                engine.snapshots.share(&view.id);
                return Err(LaunchError::Broken(error));
            }
            launched => launched?,
        };
        fault::point("start:launched");
        drop(early);
        Ok((shim, response, prepared.network))
    }

    async fn started(
        &mut self,
        shim: Shim,
        response: &LaunchResponse,
        attachment: Attachment,
    ) -> Result<(), EngineError> {
        let at = Timestamp::from_nanos(response.started_at_ns);
        self.publish_view(|view| {
            attachment.fill(&mut view.networks);
            network::identify(&self.engine.networks, &mut view.networks);
            crate::network::show_ports(&self.engine, &mut view.networks);
        });
        // Lent before anybody sees that it runs and can join it, which ends the loan.
        self.network = Some(attachment.kept(&self.engine, &self.view()));
        if let Err(error) = self.transition(Event::Started { pid: response.pid, at }) {
            self.network.take().into_iter().for_each(|network| network.release(&self.engine, &self.id()));
            return Err(error);
        }
        self.watch_exit(shim.clone());
        self.shim = Some(shim);
        self.note_start(at);
        fault::point("start:submitted");
        let view = self.view();
        self.publish_volume_events(&view, "mount");
        self.engine.publish_networks_of(&view, "connect");
        self.engine.publish(&view, "start", []);
        self.begin_run();
        self.start_health_checks();
        Ok(())
    }

    /// Has the start put on record. Nobody waits for that: who finds the record without the news finds the shim too. Of a record that does
    /// not outlive the machine the news can wait, and need not be written at all where the run is over by then.
    fn note_start(&self, at: Timestamp) {
        if self.durability == Durability::Durable {
            return self.submit_news();
        }
        self.later(tokio::time::sleep(NOTE_DELAY), move |container, ()| {
            Box::pin(async move {
                if container.view().state.running_since() == Some(at) {
                    container.submit_news();
                }
                Ok(())
            })
        });
    }

    async fn start_failed(&mut self, error: LaunchError) -> EngineError {
        name_service::leave(&self.engine, &self.view()).await;
        let failure = match error {
            LaunchError::Failed(failure) => failure,
            LaunchError::Broken(error @ (EngineError::Refused { .. } | EngineError::Network(_))) => {
                self.note_failure(Failure { code: 128, message: error.to_string() }).await;
                return error;
            }
            LaunchError::Broken(error) => Failure { code: 128, message: error.to_string() },
        };
        self.early.clear();
        self.note_failure(failure.clone()).await;
        EngineError::Start(failure)
    }

    async fn note_failure(&mut self, failure: Failure) {
        let failed = Event::StartFailed { failure, at: clock::now() };
        if let Err(error) = self.transition(failed) {
            tracing::warn!(container = %self.id().short(), %error, "a failed start cannot be noted");
        }
        // Waiters for the next exit must not wait for a run that never was.
        self.publish_view(|view| view.exits += 1);
        if self.view().spec.host.auto_remove {
            self.remove_in_background();
            return;
        }
        if let Err(error) = self.commit_state_of(&self.view()).await {
            tracing::warn!(container = %self.id().short(), %error, "a failed start is not on record");
        }
    }

    /// Publishes an event of each volume the container uses.
    pub(crate) fn publish_volume_events(&self, view: &ContainerView, action: &str) {
        for point in view.mounts.iter().filter(|point| point.kind == MountPointKind::Volume) {
            let Some(name) = &point.name else { continue };
            let mut attributes = BTreeMap::from([
                ("container".to_owned(), view.id.to_string()),
                ("driver".to_owned(), point.driver.clone()),
            ]);
            if action == "mount" {
                attributes.insert("destination".to_owned(), point.destination.clone());
                attributes.insert("propagation".to_owned(), String::new());
                attributes.insert("read/write".to_owned(), point.writable.to_string());
            }
            self.engine.events.publish(crate::events::EventKind::Volume, action, name, attributes);
        }
    }
}

/// What a start needs, ready.
struct Prepared {
    request: LaunchRequest,
    network: Attachment,
    /// The container's root, where another one may have it next.
    root: Option<OwnedFd>,
}

fn prepare(engine: &Arc<crate::Inner>, view: &Arc<ContainerView>) -> Result<Prepared, EngineError> {
    let mut network = Attachment::make(engine, view)?;
    fault::point("start:connected");
    network::shape_fresh(engine, view, &network)?;
    name_service::join(engine, view, &network)?;
    bundle::write(engine, view, &network)?;
    fault::point("start:bundled");
    let spec = &view.spec;
    let (root, rootfs) = root(engine, view)?;
    let shims = engine.config.run.join("shims");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let [height, width] = spec.host.console_size;
    let request = LaunchRequest {
        id: view.id.to_string(),
        bundle: text(&view.paths.bundle),
        runtime_dir: text(&shims.join(view.id.as_str())),
        socket_path: text(&Shim::socket_path(&engine.config.run, &view.id)),
        rootfs: rootfs.into_iter().map(to_proto).collect(),
        terminal: spec.config.tty,
        open_stdin: spec.config.open_stdin,
        stdin_once: spec.config.stdin_once,
        log: Some(log_of(view)?),
        attaches: Vec::new(),
        has_netns: false,
        has_root: false,
        console_size: (height > 0 && width > 0).then_some(ConsoleSize { width, height }),
        shim_cgroup: engine.launcher.cgroup().to_owned(),
        seccomp_cache_dir: text(&engine.config.run.join("seccomp")),
    };
    network.complete()?;
    Ok(Prepared { request, network, root })
}

/// The container's root: made already, or else the mounts that make it.
fn root(
    engine: &crate::Inner,
    view: &ContainerView,
) -> Result<(Option<OwnedFd>, Vec<berth_oci::runtime::Mount>), EngineError> {
    if let Ok(Some(root)) = engine.snapshots.lent_root(&view.id) {
        return Ok((Some(root), Vec::new()));
    }
    Ok((None, root_mounts(engine, view)?))
}

/// The mounts of the container's root. After a crash of the machine its layer may have to be made ready once more; what was written stays.
pub(super) fn root_mounts(
    engine: &crate::Inner,
    view: &ContainerView,
) -> Result<Vec<berth_oci::runtime::Mount>, EngineError> {
    let volatile = view.spec.host.auto_remove;
    match engine.snapshots.mounts(&view.id, volatile) {
        Err(SnapshotError::NotPrepared { .. }) => {
            let image = engine.images.resolve_for(view.spec.image_id.as_str(), Some(&view.spec.platform))?;
            let layers = engine.images.rootfs(&image)?;
            engine.snapshots.prepare(&view.id, &layers, &lending::lifetime(&view.spec))?;
            Ok(engine.snapshots.mounts(&view.id, volatile)?)
        }
        mounts => Ok(mounts?),
    }
}

fn to_proto(mount: berth_oci::runtime::Mount) -> berth_proto::containerd::types::Mount {
    berth_proto::containerd::types::Mount {
        r#type: mount.kind,
        source: mount.source,
        target: String::new(),
        options: mount.options,
    }
}

/// Makes a directory of ours, if it is not there.
fn make_directory(path: &Path) -> Result<(), EngineError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(EngineError::io("making", path)(error)),
        _ => Ok(()),
    }
}

fn log_of(view: &ContainerView) -> Result<Log, EngineError> {
    let options = logs::options(&view.spec.host.log)?;
    if let Some(directory) = view.paths.log.as_deref().and_then(Path::parent)
        && directory != view.paths.directory
    {
        make_directory(directory)?;
    }
    Ok(Log {
        driver: view.spec.host.log.driver.clone(),
        path: view.paths.log.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        max_size: options.max_size,
        max_file: options.max_file,
        compress: options.compress,
        non_blocking_buffer: options.non_blocking_buffer,
        attrs: options.attributes_of(view).into_iter().collect(),
        at_first_record: view.spec.host.auto_remove,
    })
}
