//! One module per noun: container, exec, volume, network, logs, events, restart. No HTTP.
//!
//! Every container is owned by one task that takes its commands in order (`container`); everybody else reads published
//! snapshots ([`ContainerView`]), which never waits. Changes are committed, then published as an [`events::Event`], then answered.
//! What a container needs to live belongs to its shim: an engine may vanish at any instruction, and the next one finds everything again.
#![forbid(unsafe_code)]

pub mod attach;
mod bundle;
mod clock;
pub mod config;
mod container;
mod error;
pub mod events;
pub mod exec;
mod files;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod health;
mod lending;
mod limits;
pub mod logs;
mod name_service;
mod names;
pub mod network;
mod reconcile;
mod shim;
pub mod spec;
pub mod stats;
mod user;
pub mod view;
pub mod volume;

use std::sync::Arc;

use berth_image::Images;
use berth_model::ContainerId;

pub use berth_archive::{Change, ChangeKind};
pub use config::EngineConfig;
pub use container::{
    CommitRequest, Created, Exported, Pruned, RemoveOptions, TopTable, UpdateContainer, WaitCondition, WaitOutcome,
    Waiting,
};
pub use error::EngineError;
pub use files::{Access, ContainerFiles, ExtractOptions, FoundPath, PathStat};
pub use view::ContainerView;

use attach::{AttachRequest, Attached};
use berth_net::Networks;
use container::{Handle, Registry, Spares};
use events::Events;
use exec::{ExecCreate, ExecStart, ExecStarted, ExecView, Execs};
use logs::{LogQuery, LogReader};
use shim::Launcher;
use volume::Volumes;

/// The engine. Clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// Everything that operations of all nouns need.
pub(crate) struct Inner {
    config: EngineConfig,
    store: berth_store::Store,
    images: Images,
    snapshots: berth_snapshot::Snapshots,
    networks: Networks,
    volumes: Volumes,
    events: Arc<Events>,
    registry: Arc<Registry>,
    spares: Spares,
    execs: Execs,
    launcher: Arc<Launcher>,
    name_service: name_service::NameService,
    layout: berth_cgroup::Layout,
    /// Held while a prune is under way; one at a time (B188).
    pruning: std::sync::atomic::AtomicBool,
}

/// Gives memory back that work which is over has left behind: freed pieces of the heap, and pages of the program file.
///
/// Costs some hundred microseconds, and some page faults in the work that comes next.
pub fn release_memory() {
    berth_sys::heap::release_heap();
    berth_sys::heap::release_program();
}

impl Engine {
    /// Opens an engine on its directories, finds its containers again and puts things in order. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// If a directory cannot be used or a database not be opened. Damage to one container is logged and does not stop the others.
    pub async fn open(config: EngineConfig) -> Result<Self, EngineError> {
        reconcile::open(config).await
    }

    /// The configuration it was opened with.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The control groups of this host.
    #[must_use]
    pub fn cgroup_layout(&self) -> &berth_cgroup::Layout {
        &self.inner.layout
    }

    /// What happens.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.inner.events
    }

    /// The image store. Its calls block.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Removes what an image that could not be taken in has left: content that no image needs. Blocks.
    pub fn discard_unneeded_content(&self) {
        let used: Vec<_> = self.inner.registry.views().iter().flat_map(|view| view.images()).collect();
        if let Err(error) = self.inner.images.collect(&used) {
            tracing::warn!(%error, "content that no image needs stays until the next collection");
        }
    }

    /// The volumes. Their calls block.
    #[must_use]
    pub fn volumes(&self) -> &Volumes {
        &self.inner.volumes
    }

    /// The networks. Calls that change something block.
    #[must_use]
    pub fn networks(&self) -> &Networks {
        &self.inner.networks
    }

    /// Every container, newest first.
    #[must_use]
    pub fn containers(&self) -> Vec<Arc<ContainerView>> {
        self.inner.registry.views()
    }

    /// The container of that id, name or beginning of an id.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`], [`EngineError::AmbiguousPrefix`].
    pub fn container(&self, name: &str) -> Result<Arc<ContainerView>, EngineError> {
        let view = self.inner.registry.find(name)?.view();
        let execs = self.inner.execs.of(&view.id);
        Ok(if execs.is_empty() { view } else { Arc::new(ContainerView { execs, ..(*view).clone() }) })
    }

    /// Makes a container. Nothing of it is left behind if this fails.
    ///
    /// # Errors
    /// Names taken, images missing, anything wrong in the request.
    pub async fn create(&self, request: spec::CreateContainer) -> Result<Created, EngineError> {
        container::create(&self.inner, request).await
    }

    /// Starts a container.
    ///
    /// # Errors
    /// [`EngineError::NotModified`] if it runs; [`EngineError::Start`] if its program cannot be executed.
    pub async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.handle(id)?.run(|container| Box::pin(container.start_for_somebody())).await
    }

    /// Stops a container: `signal` (its own stop signal by default), a wait of `grace` seconds (its own by default, -1 is for ever), SIGKILL.
    ///
    /// # Errors
    /// [`EngineError::NotModified`] if it does not run.
    pub async fn stop(
        &self,
        id: &ContainerId,
        signal: Option<berth_model::Signal>,
        grace: Option<i64>,
    ) -> Result<(), EngineError> {
        container::stop(self.handle(id)?, signal, grace).await
    }

    /// Stops a container if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Engine::start`] and [`Engine::stop`].
    pub async fn restart(
        &self,
        id: &ContainerId,
        signal: Option<berth_model::Signal>,
        grace: Option<i64>,
    ) -> Result<(), EngineError> {
        container::restart(self.handle(id)?, signal, grace).await
    }

    /// Sends a signal to the main process.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn kill(&self, id: &ContainerId, signal: berth_model::Signal) -> Result<(), EngineError> {
        self.handle(id)?.run(move |container| Box::pin(container.kill(signal))).await
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`]; a conflict if it is frozen already.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.handle(id)?.run(|container| Box::pin(container.pause())).await
    }

    /// Thaws every process.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`]; a conflict if it is not frozen.
    pub async fn unpause(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.handle(id)?.run(|container| Box::pin(container.unpause())).await
    }

    /// Begins to wait. What happens after this returns is seen, even if nobody polls [`Waiting`] yet.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`].
    pub fn wait(&self, id: &ContainerId, condition: WaitCondition) -> Result<Waiting, EngineError> {
        Ok(Waiting::new(&self.handle(id)?, condition))
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`EngineError::NameInUse`]; a refusal if it has that name already.
    pub async fn rename(&self, id: &ContainerId, name: berth_model::ContainerName) -> Result<(), EngineError> {
        self.handle(id)?.run(move |container| Box::pin(container.rename(name))).await
    }

    /// Takes a container away.
    ///
    /// # Errors
    /// A conflict if it runs and `force` is not set.
    pub async fn remove(&self, id: &ContainerId, options: RemoveOptions) -> Result<(), EngineError> {
        self.handle(id)?.run(move |container| Box::pin(container.remove(options))).await
    }

    /// Takes every container away that does not run and that `select` names.
    ///
    /// # Errors
    /// A conflict if another prune is under way.
    pub async fn prune(&self, select: impl Fn(&ContainerView) -> bool + Send) -> Result<Pruned, EngineError> {
        container::prune(&self.inner, select).await
    }

    /// What [`Engine::prune`] would take away now.
    ///
    /// # Errors
    /// An internal one if the engine stops.
    pub async fn would_prune(&self, select: impl Fn(&ContainerView) -> bool + Send) -> Result<Pruned, EngineError> {
        container::would_prune(&self.inner, select).await
    }

    /// Changes the size of a container's terminal.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn resize(&self, id: &ContainerId, width: u32, height: u32) -> Result<(), EngineError> {
        self.handle(id)?.run(move |container| Box::pin(container.resize(width, height))).await
    }

    /// Changes limits and restart policy. Gives warnings.
    ///
    /// # Errors
    /// A refusal if the new limits contradict the old ones.
    pub async fn update(&self, id: &ContainerId, update: UpdateContainer) -> Result<Vec<String>, EngineError> {
        self.handle(id)?.run(move |container| Box::pin(container.update(update))).await
    }

    /// The container's processes, as `ps` with those options would print them.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`]; a refusal for options that are not understood.
    pub async fn top(&self, id: &ContainerId, options: &str) -> Result<TopTable, EngineError> {
        container::top(&self.handle(id)?, options).await
    }

    /// Attaches to a container that runs, or that is about to be started.
    ///
    /// # Errors
    /// A conflict if it is paused or restarting.
    pub async fn attach(&self, id: &ContainerId, request: AttachRequest) -> Result<Attached, EngineError> {
        attach::attach(&self.inner, &self.handle(id)?, request).await
    }

    /// Notes that an attached client left by its detach keys.
    pub fn detached(&self, id: &ContainerId) {
        if let Ok(handle) = self.handle(id) {
            let view = handle.view();
            self.inner.publish(&view, "detach", []);
        }
    }

    /// What a container has written.
    ///
    /// # Errors
    /// A refusal if its log driver keeps nothing that can be read.
    pub fn logs(&self, id: &ContainerId, query: LogQuery) -> Result<LogReader, EngineError> {
        logs::open(&self.handle(id)?, query)
    }

    /// A container's use of resources.
    ///
    /// # Errors
    /// If its shim does not answer.
    pub async fn stats(&self, id: &ContainerId) -> Result<Option<stats::Sample>, EngineError> {
        stats::sample(&self.handle(id)?).await
    }

    /// Bytes a container has written into its layer.
    ///
    /// # Errors
    /// If the layer cannot be read.
    pub async fn size_rw(&self, id: &ContainerId) -> Result<u64, EngineError> {
        let (inner, id) = (Arc::clone(&self.inner), id.clone());
        blocking(move || Ok(inner.snapshots.usage(&id)?)).await
    }

    /// What a container has changed in the files of its image, by path.
    ///
    /// # Errors
    /// If its layers cannot be read.
    pub async fn changes(&self, id: &ContainerId) -> Result<Vec<Change>, EngineError> {
        container::changed(&self.inner, &self.handle(id)?).await
    }

    /// The tree of a container without what is mounted in it, to be written as an archive.
    ///
    /// # Errors
    /// If its layers cannot be found.
    pub async fn export(&self, id: &ContainerId) -> Result<Exported, EngineError> {
        container::export(&self.inner, &self.handle(id)?).await
    }

    /// Makes an image of what a container has written. Gives the image's id.
    ///
    /// # Errors
    /// A refusal for changes that are no instructions; if its layer cannot be read.
    pub async fn commit(&self, id: &ContainerId, request: CommitRequest) -> Result<berth_model::Digest, EngineError> {
        container::commit(&self.inner, &self.handle(id)?, request).await
    }

    /// Opens the files of a container, whether it runs or not.
    ///
    /// # Errors
    /// If its mounts cannot be made.
    pub async fn files(&self, id: &ContainerId, access: Access) -> Result<Arc<ContainerFiles>, EngineError> {
        let files = self.handle(id)?.run(move |container| Box::pin(container.open_files(access))).await?;
        Ok(Arc::new(files))
    }

    /// Prepares an exec; gives its id.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`]; a conflict if the container is paused.
    pub fn exec_create(&self, id: &ContainerId, request: ExecCreate) -> Result<berth_model::ExecId, EngineError> {
        exec::create(&self.inner, &self.handle(id)?, request)
    }

    /// Runs an exec, once.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`]; a conflict if it was run already; [`EngineError::Start`].
    pub async fn exec_start(&self, id: &str, request: ExecStart) -> Result<ExecStarted, EngineError> {
        exec::start(&self.inner, id, request).await
    }

    /// An exec, as it is now.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`].
    pub fn exec(&self, id: &str) -> Result<ExecView, EngineError> {
        self.inner.execs.get(id)
    }

    /// Notes that the client of an exec left by its detach keys.
    pub fn exec_detached(&self, id: &str) {
        exec::detached(&self.inner, id);
    }

    /// Changes the size of an exec's terminal.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`]; a conflict if it does not run.
    pub async fn exec_resize(&self, id: &str, width: u32, height: u32) -> Result<(), EngineError> {
        exec::resize(&self.inner, id, width, height).await
    }

    /// Ends what the engine does for its containers. They go on, unless the configuration says otherwise.
    pub async fn shut_down(&self) {
        container::shut_down(&self.inner).await;
        let inner = Arc::clone(&self.inner);
        let told = blocking(move || {
            name_service::shut_down(&inner);
            Ok(())
        });
        if let Err(error) = told.await {
            tracing::debug!(%error, "the name service ends by itself");
        }
    }

    fn handle(&self, id: &ContainerId) -> Result<Handle, EngineError> {
        self.inner.registry.find(id.as_str())
    }
}

impl Inner {
    /// Publishes an event of a container.
    pub(crate) fn publish<const N: usize>(&self, view: &ContainerView, action: &str, extra: [(&str, String); N]) {
        self.publish_at(clock::now(), view, action, extra);
    }

    /// Publishes an event of a container that happened at a given time.
    pub(crate) fn publish_at<const N: usize>(
        &self,
        at: berth_model::Timestamp,
        view: &ContainerView,
        action: &str,
        extra: [(&str, String); N],
    ) {
        let mut attributes = view.event_attributes();
        attributes.extend(extra.map(|(key, value)| (key.to_owned(), value)));
        self.events.publish_at(at, events::EventKind::Container, action, view.id.as_str(), attributes);
    }
}

/// Runs work that blocks away from the threads that serve requests.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::ShuttingDown),
    }
}
