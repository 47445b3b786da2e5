//! The life of a container: one enum, one transition function.
//!
//! Each state owns the data that exists only in it, so that a stopped container has no process id to misuse.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Made, never run, or the last start failed before its program ran for the first time.
    Created {
        /// Why the last start failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// The program runs.
    Running {
        /// Its process.
        pid: u32,
        /// When it started.
        since: Timestamp,
        /// The run before this one, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<Run>>,
    },
    /// All its processes are frozen.
    Paused {
        /// Its process.
        pid: u32,
        /// When it started.
        since: Timestamp,
        /// The run before this one, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<Run>>,
    },
    /// It ended, and its policy will start it again.
    Restarting {
        /// The run that ended.
        last: Box<Run>,
    },
    /// It ended.
    Exited {
        /// The run that ended.
        last: Box<Run>,
    },
    /// It is being taken away; a crash resumes the removal.
    Removing,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// 0 to 255; 128 + signal for a killed process.
    pub code: i32,
    /// Whether the kernel ended a process of it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Why it could not be started again, if that is how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// 126, 127 or 128 (B005).
    pub code: i32,
    /// One line for people.
    pub message: String,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its program was executed.
    Started {
        /// The process.
        pid: u32,
        /// When.
        at: Timestamp,
    },
    /// It could not be started.
    StartFailed {
        /// Why.
        failure: Failure,
        /// When.
        at: Timestamp,
    },
    /// All its processes were frozen.
    Paused,
    /// They were thawed.
    Resumed,
    /// Its program ended.
    Died {
        /// 0 to 255.
        code: i32,
        /// When.
        at: Timestamp,
        /// Whether the kernel ended a process for want of memory.
        oom_killed: bool,
        /// Whether its policy will start it again.
        restarting: bool,
    },
    /// Its policy gave up, or somebody stopped it while it waited for its next start.
    RestartCancelled,
    /// Somebody removes it.
    Removed,
}

/// An event that the present state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {from} cannot have {event:?}")]
pub struct Refused {
    /// The present state's word.
    pub from: &'static str,
    /// What was asked.
    pub event: Event,
}

impl State {
    /// A container that was just made.
    #[must_use]
    pub fn new() -> Self {
        State::Created { failure: None }
    }

    /// The word of the Engine API: `created`, `running`, `paused`, `restarting`, `exited`, `removing`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            State::Created { .. } => "created",
            State::Running { .. } => "running",
            State::Paused { .. } => "paused",
            State::Restarting { .. } => "restarting",
            State::Exited { .. } => "exited",
            State::Removing => "removing",
        }
    }

    /// The process, where there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            State::Running { pid, .. } | State::Paused { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// When the present run began, where there is one.
    #[must_use]
    pub fn running_since(&self) -> Option<Timestamp> {
        match self {
            State::Running { since, .. } | State::Paused { since, .. } => Some(*since),
            _ => None,
        }
    }

    /// Whether a process exists.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// The run that ended last.
    #[must_use]
    pub fn last_run(&self) -> Option<&Run> {
        match self {
            State::Restarting { last } | State::Exited { last } => Some(last),
            State::Running { before, .. } | State::Paused { before, .. } => before.as_deref(),
            State::Created { .. } | State::Removing => None,
        }
    }

    /// The state after an event.
    ///
    /// # Errors
    /// [`Refused`] if this state does not allow the event.
    pub fn on(self, event: Event) -> Result<State, Refused> {
        match (self, event) {
            (State::Created { .. }, Event::Started { pid, at }) => Ok(State::Running { pid, since: at, before: None }),
            (State::Exited { last } | State::Restarting { last }, Event::Started { pid, at }) => {
                Ok(State::Running { pid, since: at, before: Some(last) })
            }
            (State::Created { .. }, Event::StartFailed { failure, .. }) => {
                Ok(State::Created { failure: Some(failure) })
            }
            (State::Exited { last } | State::Restarting { last }, Event::StartFailed { failure, at }) => {
                Ok(State::Exited { last: Box::new(failed_run(&last, failure, at)) })
            }
            (State::Running { pid, since, before }, Event::Paused) => Ok(State::Paused { pid, since, before }),
            (State::Paused { pid, since, before }, Event::Resumed) => Ok(State::Running { pid, since, before }),
            (
                State::Running { since, .. } | State::Paused { since, .. },
                Event::Died { code, at, oom_killed, restarting },
            ) => {
                let last = Box::new(Run { started: since, finished: at, code, oom_killed, failure: None });
                Ok(if restarting { State::Restarting { last } } else { State::Exited { last } })
            }
            (State::Restarting { last }, Event::RestartCancelled) => Ok(State::Exited { last }),
            (State::Created { .. } | State::Exited { .. }, Event::Removed) => Ok(State::Removing),
            (state, event) => Err(Refused { from: state.word(), event }),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

fn failed_run(last: &Run, failure: Failure, at: Timestamp) -> Run {
    Run { started: last.started, finished: at, code: failure.code, oom_killed: false, failure: Some(failure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_parts(seconds, 0)
    }

    fn run() -> Box<Run> {
        Box::new(Run { started: at(1), finished: at(2), code: 0, oom_killed: false, failure: None })
    }

    /// Every pair of state and event, and the word of the state after it; `-` where it is refused.
    #[test]
    fn every_pair_of_state_and_event() {
        let states = || {
            [
                State::new(),
                State::Running { pid: 7, since: at(1), before: None },
                State::Paused { pid: 7, since: at(1), before: None },
                State::Restarting { last: run() },
                State::Exited { last: run() },
                State::Removing,
            ]
        };
        let events = || {
            [
                Event::Started { pid: 8, at: at(3) },
                Event::StartFailed { failure: Failure { code: 127, message: String::new() }, at: at(3) },
                Event::Paused,
                Event::Resumed,
                Event::Died { code: 1, at: at(3), oom_killed: false, restarting: false },
                Event::Died { code: 1, at: at(3), oom_killed: false, restarting: true },
                Event::RestartCancelled,
                Event::Removed,
            ]
        };
        let table = [
            ["running", "created", "-", "-", "-", "-", "-", "removing"],
            ["-", "-", "paused", "-", "exited", "restarting", "-", "-"],
            ["-", "-", "-", "running", "exited", "restarting", "-", "-"],
            ["running", "exited", "-", "-", "-", "-", "exited", "-"],
            ["running", "exited", "-", "-", "-", "-", "-", "removing"],
            ["-", "-", "-", "-", "-", "-", "-", "-"],
        ];
        for (state, row) in states().into_iter().zip(table) {
            for (event, expected) in events().into_iter().zip(row) {
                let after = state.clone().on(event.clone()).map_or("-", |state| state.word());
                assert_eq!(after, expected, "{} with {event:?}", state.word());
            }
        }
    }

    #[test]
    fn a_run_remembers_the_one_before() {
        let state = State::new().on(Event::Started { pid: 7, at: at(1) }).expect("starts");
        let died = Event::Died { code: 3, at: at(2), oom_killed: true, restarting: false };
        let state = state.on(died).expect("dies").on(Event::Started { pid: 8, at: at(5) }).expect("starts again");
        let last = state.last_run().expect("there was a run");
        assert_eq!((last.code, last.oom_killed, last.started, last.finished), (3, true, at(1), at(2)));
    }
}
