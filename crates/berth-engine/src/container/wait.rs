//! Waiting for a container to end or to go (B060, B061).

use std::sync::Arc;

use tokio::sync::watch;

use super::Handle;
use crate::view::ContainerView;

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// That it does not run; true at once for one that does not.
    #[default]
    NotRunning,
    /// That it ends once more.
    NextExit,
    /// That it is removed.
    Removed,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitOutcome {
    /// 0 to 255; of a start that failed, what the client's exit code should be.
    pub code: i32,
}

/// A wait that has begun.
pub struct Waiting {
    view: watch::Receiver<Arc<ContainerView>>,
    condition: WaitCondition,
    exits_before: u64,
}

impl Waiting {
    pub(crate) fn new(handle: &Handle, condition: WaitCondition) -> Self {
        let view = handle.watch();
        let exits_before = view.borrow().exits;
        Self { view, condition, exits_before }
    }

    /// Answers when the condition holds.
    pub async fn outcome(mut self) -> WaitOutcome {
        let (condition, before) = (self.condition, self.exits_before);
        let met = self.view.wait_for(|view| is_met(view, condition, before)).await.is_ok();
        // Not met only if the task ended with its container.
        tracing::trace!(met, "a wait is over");
        outcome_of(&self.view.borrow())
    }
}

fn is_met(view: &ContainerView, condition: WaitCondition, exits_before: u64) -> bool {
    if view.removed {
        return true;
    }
    match condition {
        WaitCondition::NotRunning => !view.state.is_running() && view.state.word() != "restarting",
        WaitCondition::NextExit => view.exits > exits_before,
        WaitCondition::Removed => false,
    }
}

fn outcome_of(view: &ContainerView) -> WaitOutcome {
    use berth_model::lifecycle::State;
    match &view.state {
        State::Created { failure: Some(failure) } => WaitOutcome { code: failure.code },
        state => WaitOutcome { code: view.last_exit_code(state) },
    }
}
