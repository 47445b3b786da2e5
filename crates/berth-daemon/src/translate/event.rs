//! Events.

use berth_api::event::{Actor, Event as Wire};
use berth_engine::events::{Event, EventKind};

use crate::http::version::ApiVersion;

/// Shows an event; clients before 1.52 also look for the fields of the first form.
pub fn to_wire(event: &Event, version: ApiVersion) -> Wire {
    let mut wire = Wire {
        kind: event.kind.word().to_owned(),
        action: event.action.clone(),
        actor: Actor { id: event.actor.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: event.at.seconds(),
        time_nano: event.at.nanos(),
        ..Wire::default()
    };
    if version.before(52) && matches!(event.kind, EventKind::Container | EventKind::Image) {
        wire.status.clone_from(&event.action);
        wire.id.clone_from(&event.actor);
        wire.from =
            event.attributes.get("image").filter(|_| event.kind == EventKind::Container).cloned().unwrap_or_default();
    }
    wire
}
