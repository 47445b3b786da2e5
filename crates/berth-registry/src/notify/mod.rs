//! Tells other servers what happens here: pushes, pulls, mounts and deletions, posted as Docker's registry posts them.
//!
//! Each server has a queue, in the registry's index, and a thread of its own. Nobody who pushes ever waits for one: an event that finds the queue
//! full is dropped and counted. What a server does not take is tried again, at growing intervals, in order; when the registry stops, what is left
//! is given a moment, and what is left then is sent when it comes up again, as after a crash.

pub mod event;
mod queue;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use berth_distribution::{HostSettings, Proxies, Registries, Url};
use berth_model::Cancel;
use berth_store::NotificationRow;
use serde::Deserialize;

use crate::{
    registry::Request,
    storage::{Storage, StorageError},
};
use event::{Action, Event, MEDIA_TYPE, Target, envelope};
use queue::Queue;

/// Events that are sent together at most.
const BATCH: usize = 50;
/// Between the first two tries; doubled each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// How often an envelope is tried, unless the configuration says otherwise. It takes about ten minutes.
const ATTEMPTS: u32 = 15;
/// How often a waiting thread looks whether it should still.
const LOOK: Duration = Duration::from_millis(100);

/// A server to tell, as the configuration file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Endpoint {
    /// For the log and the statistics; its URL if it is empty.
    #[serde(default)]
    pub name: String,
    pub url: String,
    /// Further headers.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// What it is told; everything if this is empty.
    #[serde(default)]
    pub actions: Vec<Action>,
    /// How often an envelope is tried.
    pub attempts: Option<u32>,
    /// Directories of certificates, one for each host, as Docker has them.
    #[serde(default)]
    pub certificates: Vec<std::path::PathBuf>,
}

/// A server that cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// Not a URL.
    #[error("{0:?} is no URL to notify: give one that begins with http:// or https://")]
    Url(String),
    /// A header that would begin another one.
    #[error("the header {0:?} for notifications has characters that headers must not have")]
    Header(String),
    /// The thread.
    #[error("starting to notify: {0}")]
    Thread(#[from] io::Error),
    /// Two of one name: they would share a queue.
    #[error("two listeners for notifications are called {0:?}: give each a name of its own")]
    Twice(String),
    /// The queues.
    #[error(transparent)]
    Queue(#[from] StorageError),
}

/// What became of the events for one server.
#[derive(Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
}

/// All servers that are told.
pub struct Notifier {
    listeners: Vec<Listener>,
    /// Tells this process from the next one, for servers that hear several registries.
    instance: String,
    stop: Cancel,
}

struct Listener {
    name: String,
    actions: Vec<Action>,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counts: Arc<Counts>,
}

impl Notifier {
    /// Starts to tell these servers, beginning with what waits for them in the index.
    ///
    /// # Errors
    /// [`NotifyError`].
    pub fn start(endpoints: Vec<Endpoint>, storage: &Arc<Storage>) -> Result<Self, NotifyError> {
        let stop = Cancel::default();
        let listeners: Vec<Listener> =
            endpoints.into_iter().map(|endpoint| listen(endpoint, storage, &stop)).collect::<Result<_, _>>()?;
        let names: Vec<String> = listeners.iter().map(|listener| listener.name.clone()).collect();
        if let Some(twice) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            return Err(NotifyError::Twice(names[twice].clone()));
        }
        queue::forget_others(storage, names)?;
        listeners.iter().for_each(|listener| listener.queue.begin());
        Ok(Self { listeners, instance: crate::storage::uploads::random_id(), stop })
    }

    /// Tells what was done for a request. `part` is where the target is within its repository: `blobs` or `manifests`.
    pub fn tell(&self, request: &Request<'_>, action: Action, part: &str, target: impl FnOnce() -> Target) {
        let mut wanted = self.listeners.iter().filter(|listener| listener.wants(action)).peekable();
        if wanted.peek().is_none() {
            return;
        }
        let event = Event::new(request, action, part, target(), &self.instance);
        wanted.for_each(|listener| listener.queue(&event));
    }

    /// For each server its name and what became of its events.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &Counts)> {
        self.listeners.iter().map(|listener| (listener.name.as_str(), &*listener.counts))
    }

    /// Sends what waits, for so long at most.
    pub fn stop(&self, patience: Duration) {
        self.listeners.iter().for_each(|listener| listener.queue.end());
        let deadline = Instant::now() + patience;
        for listener in &self.listeners {
            let Some(thread) = listener.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if thread.is_finished() {
                drop(thread.join());
            }
        }
        self.stop.cancel();
    }
}

impl Listener {
    fn wants(&self, action: Action) -> bool {
        self.actions.is_empty() || self.actions.contains(&action)
    }

    fn queue(&self, event: &Event) {
        if !self.queue.add(event) && self.counts.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(listener = self.name, "too many notifications wait: some are dropped, see /metrics");
        }
    }
}

fn listen(endpoint: Endpoint, storage: &Arc<Storage>, stop: &Cancel) -> Result<Listener, NotifyError> {
    let url = Url::parse(&endpoint.url).ok_or_else(|| NotifyError::Url(endpoint.url.clone()))?;
    let mut headers = vec![("Content-Type", MEDIA_TYPE.to_owned())];
    for (name, value) in &endpoint.headers {
        let is_name = ::http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !is_name || ::http::HeaderValue::from_str(value).is_err() {
            return Err(NotifyError::Header(name.clone()));
        }
        // Names of the configuration live as long as the process, as those in the program do.
        headers.push((String::leak(name.clone()), value.clone()));
    }
    let name = if endpoint.name.is_empty() { endpoint.url } else { endpoint.name };
    let settings = HostSettings {
        certificates: endpoint.certificates,
        proxies: Proxies::of(|name| std::env::var(name).ok()),
        ..HostSettings::default()
    };
    let queue = Queue::open(&name, storage)?;
    let counts = Arc::new(Counts::default());
    let teller = Teller {
        name: name.clone(),
        registries: Registries::new(settings),
        url,
        headers,
        attempts: endpoint.attempts.unwrap_or(ATTEMPTS).max(1),
        counts: Arc::clone(&counts),
        stop: stop.clone(),
    };
    let thread = std::thread::Builder::new().name("notify".to_owned()).stack_size(512 * 1024);
    let waiting = Arc::clone(&queue);
    let thread = Mutex::new(Some(thread.spawn(move || teller.run(&waiting))?));
    Ok(Listener { name, actions: endpoint.actions, queue, thread, counts })
}

/// Sends the events for one server.
struct Teller {
    name: String,
    registries: Registries,
    url: Url,
    headers: Vec<(&'static str, String)>,
    attempts: u32,
    counts: Arc<Counts>,
    stop: Cancel,
}

impl Teller {
    fn run(&self, queue: &Queue) {
        while let Some(events) = queue.next(BATCH) {
            let Some(last) = events.last().map(|event| event.id) else { continue };
            let count = match self.send(&events) {
                Told::Taken => &self.counts.sent,
                Told::GivenUp => &self.counts.failed,
                // They wait for the next one who serves this directory.
                Told::Stopped => return,
            };
            count.fetch_add(events.len() as u64, Ordering::Relaxed);
            queue.remove(last, events.len());
        }
    }

    fn send(&self, events: &[NotificationRow]) -> Told {
        let envelope = envelope(events.iter().map(|event| event.event.as_str()));
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=self.attempts {
            match self.registries.post(&self.url, &self.headers, envelope.as_bytes(), &self.stop) {
                Ok(()) => return Told::Taken,
                Err(_) if self.stop.is_cancelled() => return Told::Stopped,
                Err(error) if attempt == self.attempts => {
                    let count = events.len();
                    tracing::warn!(%error, listener = self.name, attempt, events = count, "notifications are lost");
                }
                Err(error) => {
                    tracing::debug!(%error, listener = self.name, attempt, "notifying again later");
                    self.wait(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
        Told::GivenUp
    }

    fn wait(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.stop.is_cancelled() {
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// What became of an envelope.
enum Told {
    Taken,
    GivenUp,
    Stopped,
}
