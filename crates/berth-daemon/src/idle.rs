//! What the daemon does when nobody asks anything of it: it gives memory back that its last work has left behind.
//!
//! Nothing wakes it up while it is idle: the clock runs only from the last request on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// So long after the last request, or at most twice as long, the daemon counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Requests as they come.
#[derive(Default)]
pub struct Activity {
    requests: AtomicU64,
    came: Notify,
}

impl Activity {
    /// One more has come.
    pub fn note(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.came.notify_one();
    }

    /// Waits until requests have come, and then none for `patience`.
    async fn ended(&self, patience: Duration) {
        self.came.notified().await;
        loop {
            let seen = self.requests.load(Ordering::Relaxed);
            tokio::time::sleep(patience).await;
            if seen == self.requests.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Gives memory back each time when requests have ended, as long as the daemon lives.
pub fn keep_small(activity: Arc<Activity>) {
    tokio::spawn(async move {
        loop {
            activity.ended(IDLE_AFTER).await;
            // Nobody waits for it, and a failure would be a panic elsewhere.
            drop(tokio::task::spawn_blocking(berth_engine::release_memory).await);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_end_only_after_they_have_begun() {
        const MOMENT: Duration = Duration::from_millis(20);
        const LONG: Duration = Duration::from_secs(60);
        let activity = Activity::default();
        assert!(tokio::time::timeout(MOMENT * 3, activity.ended(MOMENT)).await.is_err());
        activity.note();
        assert!(tokio::time::timeout(MOMENT * 3, activity.ended(LONG)).await.is_err());
        activity.note();
        assert!(tokio::time::timeout(LONG, activity.ended(MOMENT)).await.is_ok());
    }
}
