//! The event stream: what was kept since a moment, then what happens until another.

use std::sync::Arc;

use berth_engine::events::{Event, EventKind};
use berth_model::{ImageRef, Timestamp};
use tokio::sync::broadcast::error::RecvError;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::{Chunks, Payload, Reply, line};
use crate::http::router::{Endpoint, endpoint};
use crate::http::version::ApiVersion;
use crate::translate::{event, time};

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/events", "SystemEvents", events)];

async fn events(call: Call) -> Result<Reply, ApiError> {
    let moment = |name: &str| match call.query.text(name) {
        "" | "0" => Ok(None),
        text => time::seconds(text).map(Some).map_err(|reason| {
            ApiError::invalid(format!("invalid value for '{name}': invalid timestamp {text:?}: {reason}"))
        }),
    };
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(from), Some(to)) = (since, until)
        && to < from
    {
        let (from, to) = (call.query.text("since"), call.query.text("until"));
        return Err(ApiError::invalid(format!("`since` time ({from}) cannot be after `until` time ({to})")));
    }
    let selection = Selection { filters: Filters::parse(call.query.text("filters"))?, since, until };
    let form = Form::negotiate(&call);
    let subscription = call.daemon.engine.events().subscribe();
    let (chunks, payload) = Payload::stream();
    let version = call.version;
    let daemon = Arc::clone(&call.daemon);
    tokio::spawn(async move {
        // Held so that the daemon does not go while somebody listens; the stopping daemon closes the connection.
        let _daemon = daemon;
        send(subscription, &selection, &Output { chunks, form, version }).await;
    });
    Ok(Reply::stream(form.media_type(), payload))
}

/// Which events a client wants.
struct Selection {
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// Where events go and in which form.
struct Output {
    chunks: Chunks,
    form: Form,
    version: ApiVersion,
}

async fn send(subscription: berth_engine::events::Subscription, selection: &Selection, output: &Output) {
    // Whoever names a moment also wants what is kept; anybody else only what happens from now on.
    if selection.since.is_some() || selection.until.is_some() {
        for event in subscription.past.iter().filter(|event| selection.since.is_none_or(|since| event.at >= since)) {
            if !output.pass(event, selection).await {
                return;
            }
        }
    }
    let mut live = subscription.live;
    let end = wait_until(selection.until);
    tokio::pin!(end);
    loop {
        let received = tokio::select! {
            received = live.recv() => received,
            () = &mut end => return,
            () = output.chunks.closed() => return,
        };
        match received {
            Ok(event) if output.pass(&event, selection).await => {}
            Ok(_) | Err(RecvError::Closed) => return,
            // A client that is too slow has lost events; it is told by the end of the stream, and can ask again by time.
            Err(RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "a client was too slow for events");
                return;
            }
        }
    }
}

async fn wait_until(moment: Option<Timestamp>) {
    match moment {
        None => std::future::pending().await,
        Some(until) => tokio::time::sleep(until.since(time::now())).await,
    }
}

impl Output {
    /// Sends an event if it is wanted; false when there is nothing more to send.
    async fn pass(&self, event: &Event, selection: &Selection) -> bool {
        if selection.until.is_some_and(|until| event.at > until) {
            return false;
        }
        if !selection.wants(event) {
            return true;
        }
        let mut bytes = self.form.prefix().to_vec();
        bytes.extend(line(&event::to_wire(event, self.version)));
        self.chunks.send(Ok(bytes.into())).await.is_ok()
    }
}

impl Selection {
    /// Filters of different keys must all hold, values of one key are alternatives; unknown keys mean nothing.
    fn wants(&self, event: &Event) -> bool {
        let filters = &self.filters;
        let object = |key: &str, kind: EventKind| {
            let name = event.attributes.get("name").map(String::as_str);
            filters.any(key, |wanted| {
                event.kind == kind
                    && (event.actor == wanted || name == Some(wanted) || is_short_id(&event.actor, wanted))
            })
        };
        filters.any("type", |kind| kind == event.kind.word())
            && filters.any("event", |action| action == event.action || is_exec_action(&event.action, action))
            && filters.any("scope", |scope| scope == "local")
            && filters.labels(|label| event.attributes.get(label).map(String::as_str))
            && object("container", EventKind::Container)
            && object("volume", EventKind::Volume)
            && object("network", EventKind::Network)
            && object("daemon", EventKind::Daemon)
            && filters.any("image", |wanted| is_image(event, wanted))
    }
}

fn is_short_id(id: &str, wanted: &str) -> bool {
    wanted.len() >= 12 && id.starts_with(wanted)
}

/// `exec_create` stands for `exec_create: ls`, and likewise `health_status`.
fn is_exec_action(action: &str, wanted: &str) -> bool {
    action.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(':'))
}

/// An image event of that image, or a container event of a container that was made from it; with or without tag.
fn is_image(event: &Event, wanted: &str) -> bool {
    let name = match event.kind {
        EventKind::Image => event.attributes.get("name").map_or(event.actor.as_str(), String::as_str),
        _ => event.attributes.get("image").map_or("", String::as_str),
    };
    let repository = |name: &str| name.parse::<ImageRef>().map(|name| name.familiar_repository()).unwrap_or_default();
    event.actor == wanted || name == wanted || (!name.is_empty() && repository(name) == wanted)
}

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// One document a line, under the name that the client's version knows.
    Lines(&'static str),
    /// RFC 7464: a record separator before each document.
    Sequence,
}

impl Form {
    fn negotiate(call: &Call) -> Form {
        let accepted = call.header("accept").unwrap_or_default();
        let accepts =
            |media: &str| accepted.split(',').any(|item| item.split(';').next().unwrap_or_default().trim() == media);
        Form::choose(call.version, accepts)
    }

    fn choose(version: ApiVersion, accepts: impl Fn(&str) -> bool) -> Form {
        if version.before(52) {
            return Form::Lines("application/json");
        }
        if accepts("application/json-seq") {
            return Form::Sequence;
        }
        if accepts("application/x-ndjson") {
            return Form::Lines("application/x-ndjson");
        }
        if accepts("application/json") && !accepts("application/jsonl") {
            return Form::Lines("application/json");
        }
        Form::Lines("application/jsonl")
    }

    fn media_type(self) -> &'static str {
        match self {
            Form::Lines(media_type) => media_type,
            Form::Sequence => "application/json-seq",
        }
    }

    fn prefix(self) -> &'static [u8] {
        match self {
            Form::Lines(_) => b"",
            Form::Sequence => b"\x1e",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, action: &str, actor: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Event { kind, action: action.to_owned(), actor: actor.to_owned(), attributes, at: Timestamp::from_parts(1, 0) }
    }

    fn wants(filters: &str, event: &Event) -> bool {
        Selection { filters: Filters::parse(filters).expect("filters"), since: None, until: None }.wants(event)
    }

    #[test]
    fn filters_select_events() {
        let id = "8".repeat(64);
        let attributes = [("name", "web"), ("image", "busybox:latest"), ("a", "b")];
        let exec = event(EventKind::Container, "exec_create: ls", &id, &attributes);
        for (filters, expected) in [
            ("{}", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"event":["exec_create"]}"#, true),
            (r#"{"event":["exec"]}"#, false),
            (r#"{"event":["die","exec_create: ls"]}"#, true),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["888888888888"]}"#, true),
            (r#"{"container":["we"]}"#, false),
            (r#"{"volume":["web"]}"#, false),
            (r#"{"image":["busybox"]}"#, true),
            (r#"{"image":["busybox:latest"]}"#, true),
            (r#"{"image":["busy"]}"#, false),
            (r#"{"label":["a=b"]}"#, true),
            (r#"{"label":["a=c"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
            (r#"{"bogus":["1"]}"#, true),
        ] {
            assert_eq!(wants(filters, &exec), expected, "{filters}");
        }
        let image = event(EventKind::Image, "tag", "sha256:1", &[("name", "app:1")]);
        assert!(wants(r#"{"image":["app"]}"#, &image));
        assert!(!wants(r#"{"container":["app:1"]}"#, &image));
    }

    #[test]
    fn the_media_type_follows_version_and_accept() {
        let choose =
            |minor, accepted: &str| Form::choose(ApiVersion::v1(minor), |media| accepted == media).media_type();
        assert_eq!(choose(56, ""), "application/jsonl");
        assert_eq!(choose(52, ""), "application/jsonl");
        assert_eq!(choose(51, ""), "application/json");
        assert_eq!(choose(51, "application/json-seq"), "application/json");
        assert_eq!(choose(56, "application/json-seq"), "application/json-seq");
        assert_eq!(choose(56, "application/x-ndjson"), "application/x-ndjson");
        assert_eq!(choose(56, "application/json"), "application/json");
    }
}
