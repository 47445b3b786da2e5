//! Shims that have served a container, are as they were before it (`berth-shim/src/reuse.rs`), and wait for another one.
//!
//! A shim is here or with a container, never both: it comes with the only client of its connection, and goes with it. One that dies meanwhile
//! is passed over, and one that dies before it has read what to launch is replaced by [`super::Newborn`]. All of them end when their
//! connections are closed, that is with the engine at the latest.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use berth_proto::{client::Client, shim::ShutdownResponse};
use tokio::time::Instant;

use crate::spec::{HostSettings, NamespaceMode};

/// So many wait at a time. Each holds a quarter of a MiB; where more containers than these end and start in one breath, forks for the rest are a
/// small part of the work.
const MOST: usize = 4;
/// How long one waits before it ends: as long as a lent network namespace, for an idle host has nothing to spare.
const IDLE: Duration = Duration::from_secs(60);

/// The shims that wait.
pub(super) struct IdleShims {
    waiting: Mutex<Waiting>,
    patience: Duration,
}

impl Default for IdleShims {
    fn default() -> Self {
        Self { waiting: Mutex::default(), patience: IDLE }
    }
}

#[derive(Default)]
struct Waiting {
    /// The one that has waited longest is the first.
    shims: Vec<IdleShim>,
    /// Whether somebody ends those that wait too long.
    watched: bool,
}

struct IdleShim {
    shim: Rested,
    until: Instant,
}

/// The only client of a shim that is as it was before its container.
pub(super) struct Rested(Client);

impl Rested {
    /// That of a shim that has said that it stays, where nobody else has a part in the connection and nothing is under way on it.
    pub(super) fn after(answer: ShutdownResponse, client: Client) -> Option<Self> {
        if answer.stays { client.alone().map(Self) } else { None }
    }

    /// Whether it still waits, as far as its socket tells.
    fn waits(&self) -> bool {
        self.0.is_quiet()
    }

    /// For a launch.
    pub(super) fn into_client(self) -> Client {
        self.0
    }
}

impl IdleShims {
    /// Takes the one that came last, whose memory is nearest at hand.
    pub(super) fn take(&self) -> Option<Rested> {
        let mut waiting = self.lock();
        while let Some(IdleShim { shim, .. }) = waiting.shims.pop() {
            if shim.waits() {
                return Some(shim);
            }
        }
        None
    }

    /// Keeps a shim where there is room for it. Must run inside a tokio runtime.
    pub(super) fn put(self: &Arc<Self>, shim: Rested) {
        let mut waiting = self.lock();
        waiting.shims.retain(|idle| idle.shim.waits());
        if waiting.shims.len() >= MOST {
            return;
        }
        waiting.shims.push(IdleShim { shim, until: Instant::now() + self.patience });
        if !std::mem::replace(&mut waiting.watched, true) {
            tokio::spawn(end_in_time(Arc::downgrade(self)));
        }
    }

    /// Ends those whose time is over; gives the time of the next, or notes that nobody is left to watch.
    fn end_due(&self) -> Option<Instant> {
        let mut waiting = self.lock();
        let now = Instant::now();
        waiting.shims.retain(|idle| idle.until > now);
        let next = waiting.shims.first().map(|idle| idle.until);
        waiting.watched = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn end_in_time(shims: Weak<IdleShims>) {
    while let Some(next) = shims.upgrade().and_then(|shims| shims.end_due()) {
        tokio::time::sleep_until(next).await;
    }
}

/// Whether a container is so far from its shim's process that it could not have changed it: neither privileged nor in a namespace through which
/// it sees or shares what is not its own.
pub(crate) fn leaves_its_shim_alone(host: &HostSettings) -> bool {
    let own = |mode: &NamespaceMode| !matches!(mode, NamespaceMode::Host | NamespaceMode::Container(_));
    let isolation = &host.isolation;
    !isolation.privileged && own(&isolation.pid_mode) && own(&isolation.ipc_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const STAYS: ShutdownResponse = ShutdownResponse { stays: true };

    fn pair() -> (Rested, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Rested::after(STAYS, Client::from_std(ours).unwrap()).unwrap(), theirs)
    }

    #[tokio::test]
    async fn the_last_that_came_goes_first_and_dead_ones_are_passed_over() {
        let idle = Arc::new(IdleShims::default());
        let (shims, mut others): (Vec<_>, Vec<_>) = (0..3).map(|_| pair()).unzip();
        shims.into_iter().for_each(|shim| idle.put(shim));
        drop(others.pop());
        assert!(idle.take().is_some_and(|shim| shim.waits()));
        drop(others);
        assert!(idle.take().is_none());
    }

    #[tokio::test]
    async fn none_rests_that_leaves_or_is_in_two_hands() {
        let (shim, _other) = pair();
        let client = shim.into_client();
        assert!(Rested::after(STAYS, client.clone()).is_none());
        assert!(Rested::after(ShutdownResponse { stays: false }, client).is_none());
    }

    #[tokio::test]
    async fn there_is_room_for_some() {
        let idle = Arc::new(IdleShims::default());
        let (shims, others): (Vec<_>, Vec<_>) = (0..=MOST).map(|_| pair()).unzip();
        shims.into_iter().for_each(|shim| idle.put(shim));
        let taken: Vec<_> = std::iter::from_fn(|| idle.take()).collect();
        assert_eq!(taken.len(), MOST);
        drop(others);
    }

    #[tokio::test]
    async fn whoever_waits_too_long_is_ended() {
        let idle = Arc::new(IdleShims { patience: Duration::ZERO, ..IdleShims::default() });
        for _ in 0..2 {
            let (rested, shim) = pair();
            idle.put(rested);
            shim.set_nonblocking(true).unwrap();
            let shim = tokio::net::UnixStream::from_std(shim).unwrap();
            shim.readable().await.unwrap();
            assert_eq!(shim.try_read(&mut [0]).unwrap(), 0);
            assert!(idle.take().is_none());
        }
    }

    #[test]
    fn whoever_could_reach_the_shim_keeps_it() {
        fn alone(change: impl FnOnce(&mut HostSettings)) -> bool {
            let mut host = HostSettings::default();
            change(&mut host);
            leaves_its_shim_alone(&host)
        }
        assert!(alone(|_| {}));
        assert!(alone(|host| host.isolation.ipc_mode = NamespaceMode::Shareable));
        assert!(!alone(|host| host.isolation.privileged = true));
        assert!(!alone(|host| host.isolation.pid_mode = NamespaceMode::Host));
        assert!(!alone(|host| host.isolation.ipc_mode = NamespaceMode::Container("other".to_owned())));
    }
}
