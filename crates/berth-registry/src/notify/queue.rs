//! What waits for one server, in the registry's index: it outlives whoever put it there.
//!
//! Nobody waits for an event to be written: it is on the disk a moment later, together with what else is written then.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth_store::NotificationRow;

use super::event::Event;
use crate::storage::{Storage, StorageError};

/// Events that wait for a server at most.
const QUEUE: u64 = 1000;
/// How often the thread looks that nobody wakes.
const LOOK: Duration = Duration::from_secs(30);

/// The queue of one server.
pub(super) struct Queue {
    listener: String,
    storage: Arc<Storage>,
    /// Also those that are being written.
    waiting: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Nothing is sent before all queues are in order.
    begun: bool,
    /// Nothing is added any more: whoever sends is done when nothing is left.
    ended: bool,
    /// Something may have come since the last look.
    came: bool,
    /// Events that are being written.
    writing: u64,
}

/// Only these listeners are told any more.
pub(super) fn forget_others(storage: &Storage, listeners: Vec<String>) -> Result<(), StorageError> {
    storage.change_now(move |change| change.keep_notifications_of(&listeners))
}

impl Queue {
    /// Opens the queue of a listener, with what was left in it.
    pub fn open(listener: &str, storage: &Arc<Storage>) -> Result<Arc<Self>, StorageError> {
        let waiting = storage.read(|view| view.notifications_waiting(listener))?;
        Ok(Arc::new(Self {
            listener: listener.to_owned(),
            storage: Arc::clone(storage),
            waiting: AtomicU64::new(waiting),
            state: Mutex::new(State { came: true, ..State::default() }),
            changed: Condvar::new(),
        }))
    }

    /// From now on events are given out.
    pub fn begin(&self) {
        self.lock().begun = true;
        self.changed.notify_all();
    }

    /// Puts an event at the end. `false` if too many wait.
    pub fn add(self: &Arc<Self>, event: &Event) -> bool {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.lock().writing += 1;
        let text = serde_json::to_string(event).expect("events have text keys only");
        let (queue, listener) = (Arc::clone(self), self.listener.clone());
        self.storage.change_later(
            move |change| change.add_notification(&listener, &text),
            move |written| queue.written(written.err().map(StorageError::from)),
        );
        true
    }

    fn written(&self, failed: Option<StorageError>) {
        if let Some(error) = failed {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(%error, listener = self.listener, "a notification is lost");
        }
        let mut state = self.lock();
        state.writing -= 1;
        state.came = true;
        self.changed.notify_all();
    }

    /// Waits for events, and gives the first ones; none now and then. `None` once there will be no more.
    pub fn next(&self, limit: usize) -> Option<Vec<NotificationRow>> {
        let mut state = self.lock();
        while !(state.begun && (state.came || (state.ended && state.writing == 0))) {
            let (next, timeout) = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.came |= timeout.timed_out();
        }
        let is_over = state.ended && state.writing == 0;
        state.came = false;
        drop(state);
        let found = self.storage.read(|view| view.notifications(&self.listener, limit));
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, listener = self.listener, "notifications cannot be read");
            Vec::new()
        });
        if found.len() == limit {
            self.lock().came = true;
        }
        if found.is_empty() && is_over { None } else { Some(found) }
    }

    /// The events up to that one wait no more.
    pub fn remove(&self, last: i64, count: usize) {
        let listener = self.listener.clone();
        // Until this is done they would be given out again.
        if let Err(error) = self.storage.change_now(move |change| change.remove_notifications(&listener, last)) {
            tracing::warn!(%error, listener = self.listener, "notifications may be sent again");
        }
        self.waiting.fetch_sub(count as u64, Ordering::AcqRel);
    }

    /// Nothing more comes.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
