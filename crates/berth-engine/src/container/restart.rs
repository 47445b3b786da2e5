//! Starting again by policy (B054-B058): when, after how long, and when not.

use std::time::Duration;

use berth_model::lifecycle::{Event, State};

use super::Container;
use crate::{EngineError, spec::RestartPolicy};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run of this length starts the back-off anew.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How long to wait before the next start.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    /// Numbers the waits, so that one that was cancelled does not start anything.
    pub generation: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST, generation: 0 }
    }
}

impl Backoff {
    fn after(&mut self, run: Duration) -> Duration {
        if run >= GOOD_RUN {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }

    /// Forgets earlier failures: somebody started or stopped it by hand.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
        self.generation += 1;
    }
}

/// Whether a policy starts a container again after a run.
pub(crate) fn wants_restart(policy: RestartPolicy, code: i32, restarts: u32, stopped_by_hand: bool) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => !stopped_by_hand,
        RestartPolicy::OnFailure { max_retries } => {
            !stopped_by_hand && code != 0 && (max_retries == 0 || restarts < max_retries)
        }
    }
}

/// Whether a policy starts a container when the engine begins (B058).
pub(crate) fn wants_start_at_boot(policy: RestartPolicy, state: &State, stopped_by_hand: bool) -> bool {
    let Some(last) = state.last_run() else { return false };
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !stopped_by_hand,
        RestartPolicy::OnFailure { .. } => !stopped_by_hand && last.code != 0,
    }
}

impl Container {
    pub(super) fn will_restart(&self, code: i32) -> bool {
        let view = self.view();
        !self.leaving && wants_restart(view.spec.host.restart, code, view.restart_count, view.stopped_by_hand)
    }

    /// Starts the container again when its back-off has passed.
    pub(crate) fn schedule_restart(&mut self) {
        let run = self.view().state.last_run().map_or(Duration::ZERO, |run| run.finished.since(run.started));
        let wait = self.backoff.after(run);
        self.backoff.generation += 1;
        let generation = self.backoff.generation;
        self.later(tokio::time::sleep(wait), move |container, ()| Box::pin(container.restart_now(generation)));
    }

    async fn restart_now(&mut self, generation: u64) -> Result<(), EngineError> {
        let waiting = matches!(self.view().state, State::Restarting { .. });
        if !waiting || generation != self.backoff.generation {
            return Ok(());
        }
        match self.start().await {
            Err(EngineError::Start(failure)) => {
                tracing::warn!(container = %self.id().short(), reason = %failure.message, "could not be started again");
                Ok(())
            }
            other => other,
        }
    }

    /// Ends the waiting for a restart.
    pub(super) async fn cancel_restart(&mut self) -> Result<(), EngineError> {
        self.backoff.reset();
        let mut next = (*self.view()).clone();
        next.state = super::moved(&next, Event::RestartCancelled)?;
        next.stopped_by_hand = true;
        self.commit_state_of(&next).await?;
        self.install(next);
        Ok(())
    }

    /// Notes the beginning of a run.
    pub(super) fn begin_run(&mut self) {
        self.backoff.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_begins_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[10..], [60_000, 60_000]);
        assert_eq!(backoff.after(Duration::from_secs(10)).as_millis(), 100);
    }

    #[test]
    fn policies_decide_by_code_count_and_hand() {
        let on_failure = RestartPolicy::OnFailure { max_retries: 2 };
        for (policy, code, restarts, by_hand, expected) in [
            (RestartPolicy::No, 1, 0, false, false),
            (RestartPolicy::Always, 0, 9, false, true),
            (RestartPolicy::Always, 0, 0, true, false),
            (RestartPolicy::UnlessStopped, 0, 0, true, false),
            (on_failure, 0, 0, false, false),
            (on_failure, 1, 1, false, true),
            (on_failure, 1, 2, false, false),
            (RestartPolicy::OnFailure { max_retries: 0 }, 1, 99, false, true),
        ] {
            assert_eq!(
                wants_restart(policy, code, restarts, by_hand),
                expected,
                "{policy:?} {code} {restarts} {by_hand}"
            );
        }
    }
}
