//! Stopping: a signal, a wait, SIGKILL (B048, B049). The wait is the caller's, so that others can use the container meanwhile.

use std::{sync::Arc, time::Duration};

use berth_model::{Signal, lifecycle::State};
use berth_sys::fault;

use super::{Container, Handle, WaitCondition, Waiting};
use crate::{EngineError, Inner, view::ContainerView};

/// How long `stop` waits before it kills, when nobody says. Clients written for Docker count on ten seconds.
const DEFAULT_GRACE: i64 = 10;
/// How long it waits when the signal could not be sent.
const UNHEARD: Duration = Duration::from_secs(2);
/// After SIGKILL only the kernel can hold a process up.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// Stops a container; see [`crate::Engine::stop`].
pub(crate) async fn stop(handle: Handle, signal: Option<Signal>, grace: Option<i64>) -> Result<(), EngineError> {
    // Done to its end even if the caller goes: half a stop would leave a container that was asked to end and may not.
    let stopping = tokio::spawn(async move { stop_running(&handle, signal, grace, Stopping::ToEnd).await });
    stopping.await.map_err(|_| EngineError::ShuttingDown)?
}

/// Stops a container if it runs, and starts it.
pub(crate) async fn restart(handle: Handle, signal: Option<Signal>, grace: Option<i64>) -> Result<(), EngineError> {
    let restarting = tokio::spawn(async move {
        match stop_running(&handle, signal, grace, Stopping::ToRestart).await {
            Ok(()) | Err(EngineError::NotModified) => {}
            Err(error) => return Err(error),
        }
        handle.run(|container| Box::pin(container.start())).await?;
        handle.run(|container| Box::pin(container.note("restart"))).await
    });
    restarting.await.map_err(|_| EngineError::ShuttingDown)?
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// It stays stopped; with `--rm` it goes.
    ToEnd,
    /// It is started again at once, also with `--rm`.
    ToRestart,
}

async fn stop_running(
    handle: &Handle,
    signal: Option<Signal>,
    grace: Option<i64>,
    why: Stopping,
) -> Result<(), EngineError> {
    let view = handle.view();
    let waiting = Waiting::new(handle, WaitCondition::NotRunning);
    let signal = signal.unwrap_or_else(|| view.spec.config.stop_signal());
    let sent = handle.run(move |container| Box::pin(container.ask_to_stop(signal, why))).await?;
    let grace = match sent {
        Asked::Ended => return Ok(()),
        Asked::Sent => patience(&view, grace),
        Asked::Unheard => Some(UNHEARD),
    };
    let mut ended = std::pin::pin!(waiting.outcome());
    let in_time = match grace {
        None => {
            ended.as_mut().await;
            true
        }
        Some(grace) => tokio::time::timeout(grace, ended.as_mut()).await.is_ok(),
    };
    if !in_time {
        handle.run(|container| Box::pin(container.kill_now())).await?;
        if tokio::time::timeout(KILL_WAIT, ended).await.is_err() {
            return Err(EngineError::internal(format!(
                "cannot stop container {}: its main process did not end after SIGKILL: the kernel holds it",
                view.id
            )));
        }
    }
    // What follows an exit, be it the removal of a container with `--rm`, is done before the answer.
    match handle.run(|_| Box::pin(async { Ok(()) })).await {
        Err(EngineError::NoSuchContainer(_)) => Ok(()),
        other => other,
    }
}

/// `None` waits for ever.
fn patience(view: &ContainerView, asked: Option<i64>) -> Option<Duration> {
    let seconds = asked.or(view.spec.config.stop_timeout).unwrap_or(DEFAULT_GRACE);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// What came of asking a container to end.
pub(crate) enum Asked {
    /// The signal is on its way.
    Sent,
    /// The signal could not be sent.
    Unheard,
    /// There was nothing to wait for.
    Ended,
}

impl Container {
    async fn ask_to_stop(&mut self, signal: Signal, why: Stopping) -> Result<Asked, EngineError> {
        if matches!(self.view().state, State::Restarting { .. }) {
            self.cancel_restart().await?;
            self.note("stop").await?;
            return Ok(Asked::Ended);
        }
        if !self.view().state.is_running() {
            return Err(EngineError::NotModified);
        }
        self.publish_view(|view| view.stopped_by_hand = true);
        self.stopping = Some(why);
        self.submit_state();
        fault::point("stop:begun");
        match self.send(signal).await {
            Ok(()) => {
                fault::point("stop:signalled");
                Ok(Asked::Sent)
            }
            Err(error) => {
                tracing::warn!(container = %self.id().short(), %error, "the stop signal could not be sent");
                Ok(Asked::Unheard)
            }
        }
    }

    async fn kill_now(&mut self) -> Result<(), EngineError> {
        match self.send(Signal::KILL).await {
            Err(EngineError::NotRunning(_)) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn note(&mut self, action: &'static str) -> Result<(), EngineError> {
        self.engine.publish(&self.view(), action, []);
        Ok(())
    }
}

/// Ends what the engine does; without live restore, the containers too.
pub(crate) async fn shut_down(engine: &Arc<Inner>) {
    if engine.config.live_restore {
        return;
    }
    let grace = i64::try_from(engine.config.shutdown_timeout.as_secs()).unwrap_or(15);
    let stops: Vec<_> = engine
        .registry
        .handles()
        .into_iter()
        .filter(|handle| handle.view().state.is_running())
        .map(|handle| {
            let by_hand = handle.view().stopped_by_hand;
            tokio::spawn(async move {
                let stopped = stop_running(&handle, None, Some(grace), Stopping::ToEnd).await;
                // The end of the engine is not somebody's hand: `unless-stopped` starts it again.
                let _ = handle
                    .run(move |container| {
                        Box::pin(async move {
                            container.publish_view(|view| view.stopped_by_hand = by_hand);
                            container.commit_state_of(&container.view()).await
                        })
                    })
                    .await;
                stopped
            })
        })
        .collect();
    for stop in stops {
        let _ = stop.await;
    }
}
