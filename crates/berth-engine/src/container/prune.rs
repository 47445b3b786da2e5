//! Taking away every container that does not run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::RemoveOptions;
use crate::{EngineError, Inner, blocking, view::ContainerView};

/// What a prune took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids of containers, or names of other objects.
    pub removed: Vec<String>,
    /// Bytes that were given back.
    pub reclaimed: u64,
}

/// Held while a prune is under way; one at a time (B188).
pub(crate) struct PruneTurn<'a>(&'a AtomicBool);

impl<'a> PruneTurn<'a> {
    pub(crate) fn take(turn: &'a AtomicBool) -> Result<Self, EngineError> {
        if turn.swap(true, Ordering::AcqRel) {
            return Err(EngineError::conflict("a prune operation is already running"));
        }
        Ok(Self(turn))
    }
}

impl Drop for PruneTurn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Whether a prune may take a container.
fn is_idle(view: &ContainerView) -> bool {
    matches!(view.state.word(), "created" | "exited")
}

/// What [`prune`] would remove now.
pub(crate) async fn would_prune(
    engine: &Arc<Inner>,
    select: impl Fn(&ContainerView) -> bool + Send,
) -> Result<Pruned, EngineError> {
    let views = engine.registry.views();
    let ids: Vec<_> = views.iter().filter(|view| is_idle(view) && select(view)).map(|view| view.id.clone()).collect();
    let inner = Arc::clone(engine);
    blocking(move || {
        let size = |id| inner.snapshots.usage(id).unwrap_or(0);
        let reclaimed = ids.iter().map(size).sum();
        Ok(Pruned { removed: ids.iter().map(ToString::to_string).collect(), reclaimed })
    })
    .await
}

/// Removes what does not run and is selected.
pub(crate) async fn prune(
    engine: &Arc<Inner>,
    select: impl Fn(&ContainerView) -> bool + Send,
) -> Result<Pruned, EngineError> {
    let _turn = PruneTurn::take(&engine.pruning)?;
    let mut pruned = Pruned::default();
    for handle in engine.registry.handles() {
        let view = handle.view();
        if !is_idle(&view) || !select(&view) {
            continue;
        }
        let (inner, id) = (Arc::clone(engine), view.id.clone());
        let size = blocking(move || Ok(inner.snapshots.usage(&id)?)).await.unwrap_or(0);
        let removal = handle.run(|container| Box::pin(container.remove(RemoveOptions::default()))).await;
        match removal {
            Ok(()) => {
                pruned.removed.push(view.id.to_string());
                pruned.reclaimed += size;
            }
            Err(error) => tracing::warn!(container = %view.id.short(), %error, "not pruned"),
        }
    }
    let attributes = [("reclaimed".to_owned(), pruned.reclaimed.to_string())].into();
    engine.events.publish(crate::events::EventKind::Container, "prune", "", attributes);
    Ok(pruned)
}
