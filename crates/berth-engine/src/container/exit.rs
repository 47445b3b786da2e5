//! The end of a run: known from the shim, recorded, published, cleared up behind.

use std::{sync::Arc, time::Duration};

use berth_model::{Timestamp, lifecycle::Event};
use berth_sys::fault;

use super::{Container, stop::Stopping};
use crate::{
    EngineError, clock,
    health::HealthStatus,
    shim::{Exit, Shim},
    view::ContainerView,
};

/// A shim that lost its connection is looked for so often before the run counts as lost.
const RECONNECTS: u32 = 3;
/// How long to wait before an exit is recorded once more: the disk may have room again.
const RECORD_AGAIN: Duration = Duration::from_secs(5);
/// What a run that nobody saw end is said to have ended with.
const LOST: i32 = 255;

impl Container {
    /// Has the task told when the main process ends.
    pub(crate) fn watch_exit(&self, shim: Shim) {
        let (engine, id) = (Arc::clone(&self.engine), self.id());
        let ended = async move { await_exit(&engine, &id, shim).await };
        self.later(ended, |container, exit| Box::pin(container.ended(exit)));
    }

    /// The run is over.
    pub(crate) async fn ended(&mut self, exit: Exit) -> Result<(), EngineError> {
        let before = self.view();
        let Some(since) = before.state.running_since() else {
            return Ok(()); // Somebody else was told first.
        };
        let restarting = self.will_restart(exit.code);
        let mut next = (*before).clone();
        let died = Event::Died { code: exit.code, at: exit.at, oom_killed: exit.oom_killed, restarting };
        next.state = super::moved(&before, died)?;
        next.exits += 1;
        next.restart_count += u32::from(restarting);
        next.final_code = exit.code;
        self.stop_health_checks();
        self.engine.execs.forget_unstarted(&before.id);
        if let Some(health) = &mut next.health {
            // Nobody looks after it any more (B066).
            health.status = HealthStatus::Unhealthy;
        }
        let network = self.network.take();
        crate::network::ended(&mut next.networks);
        fault::point("exit:heard");
        let stopping = self.stopping.take();
        let removed = before.spec.host.auto_remove && stopping != Some(Stopping::ToRestart);
        let recorded = !removed && self.record_exit(&next).await;
        fault::point("exit:recorded");
        self.publish_exit(&before, &exit, since);
        crate::name_service::leave(&self.engine, &before).await;
        if let Some(network) = network {
            crate::network::give_back(&self.engine, network.records()).await;
            network.release(&self.engine, &before.id);
        }
        fault::point("exit:disconnected");
        if stopping.is_some() {
            self.engine.publish(&before, "stop", []);
        }
        if recorded {
            self.clear_shim_in_background();
        } else if !removed {
            self.record_exit_later();
        } // The removal ends the shim when the record is gone: the next engine finds both or none.
        // Waiters are told last: whoever hears of the exit finds it recorded and published.
        self.install(next);
        if removed || self.leaving {
            return self.remove_now(true).await;
        }
        if restarting {
            self.schedule_restart();
        }
        Ok(())
    }

    fn publish_exit(&self, before: &ContainerView, exit: &Exit, since: Timestamp) {
        if exit.oom_killed {
            self.engine.publish(before, "oom", []);
        }
        let seconds = exit.at.since(since).as_secs();
        let run = [("exitCode", exit.code.to_string()), ("execDuration", seconds.to_string())];
        self.engine.publish_at(exit.at, before, "die", run);
        self.engine.publish_networks_of(before, "disconnect");
        self.publish_volume_events(before, "unmount");
    }

    /// Says whether the exit is on record now.
    async fn record_exit(&self, next: &ContainerView) -> bool {
        let recorded = self.commit_state_of(next).await;
        if let Err(error) = &recorded {
            tracing::error!(container = %next.id.short(), %error, "an exit could not be recorded");
        }
        recorded.is_ok()
    }

    /// Until the exit is on record, its shim stays: the next engine finds it there.
    fn record_exit_later(&self) {
        self.later(tokio::time::sleep(RECORD_AGAIN), |container, ()| {
            Box::pin(async move {
                let view = container.view();
                if container.shim.is_none() || view.state.is_running() {
                    return Ok(()); // A new start, or a removal, has been quicker.
                }
                if container.record_exit(&view).await {
                    container.clear_shim_in_background();
                } else {
                    container.record_exit_later();
                }
                Ok(())
            })
        });
    }

    /// Ends the shim of a run that is over, and waits until its mounts are gone.
    pub(crate) async fn clear_shim(&mut self) {
        let mut cleared = true;
        if let Some(clearing) = self.clearing.take() {
            // It only ends by its end, or with the engine.
            cleared &= clearing.await.unwrap_or(false);
        }
        if let Some(shim) = self.shim.take() {
            cleared &= end(shim, self.view().state.is_running()).await;
        }
        if !cleared {
            // Not forgotten: until the container is removed nobody knows whether its mounts are gone.
            self.clearing = Some(tokio::spawn(async { false }));
        }
    }

    /// Ends the shim of a run that is over without holding anybody up. The next start waits for it.
    pub(crate) fn clear_shim_in_background(&mut self) {
        if let Some(shim) = self.shim.take() {
            self.clearing = Some(tokio::spawn(end(shim, false)));
        }
    }
}

/// Ends a shim. Says whether it has told that the container's mounts are gone.
pub(super) async fn end(shim: Shim, force: bool) -> bool {
    let ended = shim.shut_down(force).await;
    if let Err(error) = &ended {
        tracing::debug!(%error, "a shim did not say good-bye");
    }
    ended.is_ok()
}

/// Waits for the end of the main process, over losses of the connection.
async fn await_exit(engine: &Arc<crate::Inner>, id: &berth_model::ContainerId, mut shim: Shim) -> Exit {
    for attempt in 0..=RECONNECTS {
        match shim.wait("").await {
            Ok(exit) => return exit,
            Err(error) => tracing::debug!(container = %id.short(), %error, attempt, "lost a shim while waiting"),
        }
        if let Some(exit) = crate::reconcile::written_exit(&engine.config.run, id) {
            return exit;
        }
        let socket = Shim::socket_path(&engine.config.run, id);
        match Shim::connect(id, &socket).await {
            Ok(again) => shim = again,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    crate::reconcile::end_orphans(engine, id);
    crate::reconcile::forget_shim(&engine.config.run, id);
    tracing::error!(container = %id.short(), "the shim is gone without an exit: the container was ended");
    Exit { code: LOST, at: clock::now(), oom_killed: false }
}
