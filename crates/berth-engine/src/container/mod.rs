//! A container's owner: one task that takes commands in order, and the handle by which everybody else reaches it.

mod change;
mod commit;
mod create;
mod exit;
mod files;
mod health;
mod image_mount;
mod load;
mod merge;
mod mounts;
mod prune;
mod record;
mod registry;
mod remove;
mod restart;
mod spare;
mod start;
mod stop;
mod top;
mod update;
mod wait;

use std::{future::Future, os::fd::OwnedFd, pin::Pin, sync::Arc};

use berth_model::{ContainerId, lifecycle};
use berth_proto::shim::StreamSet;
use berth_store::Durability;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{EngineError, Inner, network::Attachment, shim::Shim, view::ContainerView};

pub(crate) use commit::{changed, commit, export};
pub(crate) use create::{create, paths_of};
pub(crate) use files::Visit;
pub(crate) use image_mount::mount as image_mount;
pub(crate) use load::load;
pub(crate) use mounts::clean as clean_path;
pub(crate) use prune::{PruneTurn, prune, would_prune};
pub(crate) use record::{Recorded, from_row};
pub(crate) use registry::Registry;
pub(crate) use remove::remove_directory;
pub(crate) use restart::wants_start_at_boot;
pub(crate) use spare::Spares;
pub(crate) use stop::{restart, shut_down, stop};
pub(crate) use top::top;

pub use commit::{CommitRequest, Exported};
pub use create::Created;
pub use prune::Pruned;
pub use remove::RemoveOptions;
pub use top::TopTable;
pub use update::UpdateContainer;
pub use wait::{WaitCondition, WaitOutcome, Waiting};

/// Commands that may wait for a busy container before senders wait too.
const QUEUE: usize = 32;

/// A command: runs with the container in hand.
type Job = Box<dyn for<'a> FnOnce(&'a mut Container) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send>;
/// What a command does.
pub(crate) type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// The way to a container. Clones lead to the same one.
#[derive(Clone)]
pub(crate) struct Handle {
    jobs: mpsc::Sender<Job>,
    view: watch::Receiver<Arc<ContainerView>>,
}

/// A container, in the hands of its task.
pub(crate) struct Container {
    pub(crate) engine: Arc<Inner>,
    view: watch::Sender<Arc<ContainerView>>,
    jobs: mpsc::WeakSender<Job>,
    /// Where its record is.
    durability: Durability,
    /// Its shim, while there is one.
    shim: Option<Shim>,
    /// The clearing up after the last run, while it goes on: whether the mounts are known to be gone.
    clearing: Option<tokio::task::JoinHandle<bool>>,
    /// Its health checks, while it runs.
    health_checks: Option<tokio::task::AbortHandle>,
    /// Its network, while it runs.
    pub(crate) network: Option<Attachment>,
    /// Clients that attached before the start.
    early: Vec<EarlyAttach>,
    /// How long to wait before the next start by policy.
    backoff: restart::Backoff,
    /// Who is in its files from outside.
    visitors: files::Visitors,
    /// Somebody removes it as soon as it ends, or has begun to.
    leaving: bool,
    /// Somebody stops it: its end is told as that, too.
    stopping: Option<stop::Stopping>,
}

/// A client that attached before the start: its socket goes to the shim.
pub(crate) struct EarlyAttach {
    pub streams: StreamSet,
    pub socket: OwnedFd,
}

impl Handle {
    /// Starts the task of a container.
    pub(crate) fn spawn(engine: &Arc<Inner>, view: ContainerView, durability: Durability) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let (publish, view) = watch::channel(Arc::new(view));
        let mut container = Container {
            engine: Arc::clone(engine),
            view: publish,
            jobs: jobs.downgrade(),
            durability,
            shim: None,
            clearing: None,
            health_checks: None,
            network: None,
            early: Vec::new(),
            backoff: restart::Backoff::default(),
            visitors: files::Visitors::default(),
            leaving: false,
            stopping: None,
        };
        tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                job(&mut container).await;
                if container.view.borrow().removed {
                    break;
                }
            }
        });
        Self { jobs, view }
    }

    /// The present snapshot.
    pub(crate) fn view(&self) -> Arc<ContainerView> {
        Arc::clone(&self.view.borrow())
    }

    /// Every snapshot from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<ContainerView>> {
        self.view.clone()
    }

    /// Has the container's task do something. It is done to its end even if the caller is gone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        step: impl for<'a> FnOnce(&'a mut Container) -> Step<'a, T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let gone = || EngineError::NoSuchContainer(self.view.borrow().id.to_string());
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |container| {
            Box::pin(async move {
                // The caller may be gone; the work is done all the same.
                let _ = tell.send(step(container).await);
            })
        });
        self.jobs.send(job).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

impl Container {
    /// The present snapshot.
    pub(crate) fn view(&self) -> Arc<ContainerView> {
        Arc::clone(&self.view.borrow())
    }

    pub(crate) fn id(&self) -> ContainerId {
        self.view.borrow().id.clone()
    }

    /// Publishes a changed snapshot.
    pub(crate) fn publish_view(&self, change: impl FnOnce(&mut ContainerView)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
    }

    /// Replaces the snapshot.
    pub(crate) fn install(&self, next: ContainerView) {
        self.view.send_replace(Arc::new(next));
    }

    /// Moves the lifecycle on, for changes whose record can be found out again.
    pub(crate) fn transition(&self, event: lifecycle::Event) -> Result<(), EngineError> {
        let state = moved(&self.view(), event)?;
        self.publish_view(|view| view.state = state);
        Ok(())
    }

    /// Writes the changing part of a record and waits until that is safe.
    pub(crate) async fn commit_state_of(&self, next: &ContainerView) -> Result<(), EngineError> {
        let (tell, told) = oneshot::channel();
        let records = self.engine.store.containers(self.durability);
        records.set_state(next.id.to_string(), record::state_document(next), move |result| drop(tell.send(result)));
        Ok(told.await.map_err(|_| EngineError::ShuttingDown)??)
    }

    /// Writes the changing part of the record without waiting: what it says can be found out again, or does no harm if it is lost.
    pub(crate) fn submit_state(&self) {
        let view = self.view();
        let records = self.engine.store.containers(self.durability);
        records.set_state(view.id.to_string(), record::state_document(&view), |_| ());
    }

    /// As [`submit_state`](Self::submit_state), for news that the shim has too: on a full disk they are left out.
    pub(crate) fn submit_news(&self) {
        let view = self.view();
        let records = self.engine.store.containers(self.durability);
        records.note_state(view.id.to_string(), record::state_document(&view));
    }

    /// Writes a whole record and waits until that is safe.
    pub(crate) async fn commit_record_of(&self, next: &ContainerView) -> Result<(), EngineError> {
        let (tell, told) = oneshot::channel();
        let row = record::to_row(next);
        self.engine.store.containers(self.durability).update(row, move |result| drop(tell.send(result)));
        Ok(told.await.map_err(|_| EngineError::ShuttingDown)??)
    }

    /// Queues a command for later, by a timer or a watcher. Does nothing when the container is gone by then.
    pub(crate) fn later<T: Send + 'static>(
        &self,
        when: impl Future<Output = T> + Send + 'static,
        step: impl for<'a> FnOnce(&'a mut Container, T) -> Step<'a, ()> + Send + 'static,
    ) {
        let jobs = self.jobs.clone();
        tokio::spawn(async move {
            let value = when.await;
            let job: Job = Box::new(move |container| {
                Box::pin(async move {
                    let id = container.id();
                    if let Err(error) = step(container, value).await {
                        tracing::warn!(container = %id.short(), %error, "a change nobody waits for failed");
                    }
                })
            });
            if let Some(jobs) = jobs.upgrade() {
                let _ = jobs.send(job).await;
            }
        });
    }
}

/// The state of a container after an event.
fn moved(view: &ContainerView, event: lifecycle::Event) -> Result<lifecycle::State, EngineError> {
    let refused = |refused| EngineError::conflict(format!("container {}: {refused}", view.id));
    view.state.clone().on(event).map_err(refused)
}
