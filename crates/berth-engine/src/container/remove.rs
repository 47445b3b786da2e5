//! Taking a container away. The record says so first, so that a crash on the way ends in the same.

use std::sync::Arc;

use berth_model::{
    Signal,
    lifecycle::{Event, State},
};
use berth_sys::fault;
use tokio::sync::oneshot;

use super::Container;
use crate::{EngineError, blocking, network::NetworkAttachment, view::ContainerView};

/// How a container is taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// Also if it runs: it is killed.
    pub force: bool,
}

impl Container {
    /// Removes the container.
    pub(crate) async fn remove(&mut self, options: RemoveOptions) -> Result<(), EngineError> {
        let view = self.view();
        match &view.state {
            State::Removing => {
                return Err(EngineError::conflict(format!("removal of container {} is already in progress", view.id)));
            }
            State::Running { .. } | State::Paused { .. } if !options.force => return Err(refuse_running(&view)),
            State::Restarting { .. } if !options.force => return Err(refuse_running(&view)),
            State::Running { .. } | State::Paused { .. } => self.kill_and_await_end().await?,
            State::Restarting { .. } => self.cancel_restart().await?,
            State::Created { .. } | State::Exited { .. } => {}
        }
        if self.view().removed {
            return Ok(()); // `--rm` was quicker.
        }
        self.remove_now(options.volumes).await
    }

    /// The kill runs inside the task; the exit must be taken here too, since the task cannot receive it meanwhile.
    async fn kill_and_await_end(&mut self) -> Result<(), EngineError> {
        let shim = self.running_shim()?;
        self.leaving = true;
        // Its policy must not start it again.
        self.publish_view(|view| view.stopped_by_hand = true);
        let was_paused = matches!(self.view().state, State::Paused { .. });
        shim.kill(Signal::KILL, false).await?;
        if was_paused {
            shim.resume().await?;
        }
        self.engine.publish(&self.view(), "kill", [("signal", "9".to_owned())]);
        let exit = shim.wait("").await;
        drop(shim); // Who ends it is to be the only one that has it: then it may serve another container.
        self.leaving = false;
        self.ended(exit?).await
    }

    /// Removes a container that does not run.
    pub(crate) async fn remove_now(&mut self, volumes: bool) -> Result<(), EngineError> {
        let before = self.view();
        let mut next = (*before).clone();
        next.state = super::moved(&before, Event::Removed)?;
        next.remove_volumes = volumes;
        self.remove_as(&before, next).await
    }

    /// Ends a removal, or the end of a container with `--rm`, that an earlier engine began.
    pub(super) async fn remove_again(&mut self) -> Result<(), EngineError> {
        let before = self.view();
        let mut next = (*before).clone();
        next.state = State::Removing;
        next.remove_volumes |= before.spec.host.auto_remove;
        self.remove_as(&before, next).await
    }

    async fn remove_as(&mut self, before: &ContainerView, mut next: ContainerView) -> Result<(), EngineError> {
        if self.durability == berth_store::Durability::Durable {
            // From here on a crash is taken up by the next engine, which ends the removal.
            self.commit_state_of(&next).await?;
        }
        fault::point("remove:marked");
        self.install(next.clone());
        self.early.clear();
        self.remove_volumes(&next).await?;
        fault::point("remove:devolumed");
        self.delete_record(before).await?;
        fault::point("remove:unrecorded");
        self.release_addresses(before).await;
        self.engine.registry.remove(before);
        self.engine.execs.forget(&before.id);
        self.engine.publish(before, "destroy", []);
        next.removed = true;
        self.install(next);
        self.take_apart(before);
        Ok(())
    }

    async fn remove_volumes(&self, view: &ContainerView) -> Result<(), EngineError> {
        let names: Vec<String> = view
            .mounts
            .iter()
            .filter(|point| view.remove_volumes && point.anonymous)
            .filter_map(|point| point.name.clone())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let engine = Arc::clone(&self.engine);
        blocking(move || {
            engine.volumes.remove_anonymous_of(&names);
            Ok(())
        })
        .await
    }

    /// Lets others have the addresses that waited for it. What fails is made good by the next engine.
    async fn release_addresses(&self, view: &ContainerView) {
        let asked =
            |attachment: &NetworkAttachment| attachment.wanted.ipv4.is_some() || attachment.wanted.ipv6.is_some();
        if !view.networks.iter().any(asked) {
            return;
        }
        let (engine, id) = (Arc::clone(&self.engine), view.id.clone());
        if let Err(error) = blocking(move || Ok(engine.networks.release(&id)?)).await {
            tracing::warn!(container = %view.id.short(), %error, "addresses of a removed container wait until the next start");
        }
    }

    /// Gives the files back, behind everybody's back: without a record they are nobody's, and the next engine would remove them too.
    /// The mounts go first, for the kernel must not see an upper directory twice.
    fn take_apart(&mut self, view: &ContainerView) {
        let clearing = self.clearing.take();
        let shim = self.shim.take();
        let visitors = self.visitors.clone();
        let (engine, id, paths) = (Arc::clone(&self.engine), view.id.clone(), view.paths.clone());
        tokio::spawn(async move {
            let cleared = match clearing {
                Some(clearing) => clearing.await.unwrap_or(false),
                None => true,
            };
            let ended = match shim {
                Some(shim) => super::exit::end(shim, false).await,
                None => true,
            };
            // Whoever copies out of it comes to an end first: the directories are used again.
            visitors.all_left().await;
            let removed = blocking(move || {
                if cleared && ended {
                    engine.snapshots.remove_unmounted(&id);
                } else {
                    engine.snapshots.remove(&id);
                }
                fault::point("remove:unlayered");
                remove_directory(&paths.bundle)?;
                engine.spares.remove(&paths.directory).map_err(EngineError::io("removing", &paths.directory))
            });
            if let Err(error) = removed.await {
                tracing::warn!(%error, "files of a removed container stay until the next start");
            }
        });
    }

    async fn delete_record(&self, view: &ContainerView) -> Result<(), EngineError> {
        let (tell, told) = oneshot::channel();
        let records = self.engine.store.containers(self.durability);
        records.delete(view.id.to_string(), move |result| drop(tell.send(result)));
        Ok(told.await.map_err(|_| EngineError::ShuttingDown)??)
    }

    /// Removes the container as the task's next command.
    pub(crate) fn remove_in_background(&self) {
        self.later(std::future::ready(()), |container, ()| Box::pin(container.remove_now(true)));
    }
}

fn refuse_running(view: &ContainerView) -> EngineError {
    let (word, advice) = match view.state {
        State::Paused { .. } => {
            ("paused", "Unpause and then stop the container before attempting removal or force remove")
        }
        State::Restarting { .. } => ("restarting", "Stop the container before attempting removal or force remove"),
        _ => ("running", "stop the container before removing or force remove"),
    };
    let name = format!("/{}", view.name);
    EngineError::conflict(format!("cannot remove container {name:?}: container is {word}: {advice}"))
}

pub(crate) fn remove_directory(path: &std::path::Path) -> Result<(), EngineError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(EngineError::io("removing", path)(error)),
        _ => Ok(()),
    }
}
