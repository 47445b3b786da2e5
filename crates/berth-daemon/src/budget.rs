//! Keeps the image store within the budget of `--gc-max-size`, behind everybody's back: after each new image, and every hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::events::EventKind;
use berth_image::Budget;
use tokio::sync::Notify;

use crate::daemon::Daemon;
use crate::resources::images;

/// Images get old without anything happening.
const AT_LEAST_EVERY: Duration = Duration::from_secs(3600);

/// Starts to keep the budget. The daemon is not held by it.
pub fn keep(daemon: &Arc<Daemon>, budget: Budget) {
    let changed = Arc::new(Notify::new());
    let tell = Arc::clone(&changed);
    daemon.engine.images().when_recorded(move || tell.notify_one());
    let daemon = Arc::downgrade(daemon);
    tokio::spawn(async move {
        loop {
            let Some(daemon) = daemon.upgrade() else { return };
            let reduced = Daemon::blocking(move || reduce(&daemon, budget)).await;
            if let Err(error) = reduced {
                tracing::warn!(%error, "the image store stays above its budget");
            }
            // Which of both it was makes no difference.
            let _ = tokio::time::timeout(AT_LEAST_EVERY, changed.notified()).await;
        }
    });
}

fn reduce(daemon: &Daemon, budget: Budget) -> Result<(), crate::http::error::ApiError> {
    let engine = &daemon.engine;
    let pruned = engine.images().reduce(budget, &|| images::users(engine))?;
    images::publish_removed(engine, &pruned.removed);
    if pruned.reclaimed > 0 {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.reclaimed.to_string())]);
        engine.events().publish(EventKind::Image, "prune", "", attributes);
        tracing::info!(
            bytes = pruned.reclaimed,
            removed = pruned.removed.len(),
            "the image store was above its budget"
        );
    }
    Ok(())
}
