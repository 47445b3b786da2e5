//! What happened: published in one order, after the change it reports is committed, and kept for a while.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use berth_model::Timestamp;
use tokio::sync::broadcast;

use crate::clock;

/// How many are kept for `since` (B166).
const KEPT: usize = 256;
/// How far a slow listener may fall behind before it loses some.
const BACKLOG: usize = 1024;

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which kind of object.
    pub kind: EventKind,
    /// What happened: `start`, `exec_create: ls`, `health_status: healthy`.
    pub action: String,
    /// The object: an id, or a name for images and volumes.
    pub actor: String,
    /// Details.
    pub attributes: BTreeMap<String, String>,
    /// When. No two events have the same time.
    pub at: Timestamp,
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The daemon itself.
    Daemon,
}

impl EventKind {
    /// The word of the Engine API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            EventKind::Container => "container",
            EventKind::Image => "image",
            EventKind::Volume => "volume",
            EventKind::Network => "network",
            EventKind::Daemon => "daemon",
        }
    }
}

/// Where events are published and listened to.
pub struct Events {
    history: Mutex<History>,
}

struct History {
    kept: VecDeque<Arc<Event>>,
    live: broadcast::Sender<Arc<Event>>,
    last: Timestamp,
}

/// A listener: what was kept when it began, and everything since.
pub struct Subscription {
    /// Kept events, oldest first.
    pub past: Vec<Arc<Event>>,
    /// Events from then on.
    pub live: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let (live, _) = broadcast::channel(BACKLOG);
        let history = History { kept: VecDeque::with_capacity(KEPT), live, last: Timestamp::from_nanos(0) };
        Self { history: Mutex::new(history) }
    }
}

impl Events {
    /// Publishes an event. Its change must be committed by now.
    pub fn publish(&self, kind: EventKind, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
        self.publish_at(clock::now(), kind, action, actor, attributes);
    }

    /// Publishes an event that happened at a given time, such as an exit while the daemon was absent.
    pub fn publish_at(
        &self,
        at: Timestamp,
        kind: EventKind,
        action: &str,
        actor: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        // Clients resume by time: two events must not share one, nor go back.
        let at = at.max(Timestamp::from_nanos(history.last.nanos() + 1));
        history.last = at;
        let event = Arc::new(Event { kind, action: action.to_owned(), actor: actor.to_owned(), attributes, at });
        if history.kept.len() == KEPT {
            history.kept.pop_front();
        }
        history.kept.push_back(Arc::clone(&event));
        // Nobody may be listening.
        let _ = history.live.send(event);
    }

    /// Starts to listen; nothing is lost or doubled between past and live.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        Subscription { past: history.kept.iter().cloned().collect(), live: history.live.subscribe() }
    }

    /// How many listen at the moment.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).live.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_256_events_are_kept_in_order() {
        let events = Events::default();
        for n in 0..300 {
            events.publish(EventKind::Container, "start", &n.to_string(), BTreeMap::new());
        }
        let past = events.subscribe().past;
        assert_eq!((past.len(), past[0].actor.as_str(), past[255].actor.as_str()), (256, "44", "299"));
        assert!(past.windows(2).all(|pair| pair[0].at < pair[1].at));
    }
}
