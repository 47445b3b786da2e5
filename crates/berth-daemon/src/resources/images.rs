//! Images: list, inspect, history, tag, remove, prune.

use std::collections::{BTreeMap, HashMap, HashSet};

use berth_api::image::PruneResponse;
use berth_engine::Engine;
use berth_engine::events::EventKind;
use berth_image::{
    ImageError, ImageSummary, ImageUser, ListOptions, RemoveOptions, Removed, image_name, reference_matches,
};
use berth_model::{Digest, Timestamp};
use http::StatusCode;

use crate::daemon::Daemon;
use crate::gates;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::translate::{image, time};

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/images/json", "ImageList", list),
    endpoint!("GET" "/images/{name}/json", "ImageInspect", inspect),
    endpoint!("POST" "/images/{name}/pin", "ImagePin", pin),
    endpoint!("POST" "/images/{name}/unpin", "ImageUnpin", unpin),
    endpoint!("GET" "/images/{name}/history", "ImageHistory", history),
    endpoint!("POST" "/images/{name}/tag", "ImageTag", tag),
    endpoint!("DELETE" "/images/{name}", "ImageDelete", remove),
    endpoint!("POST" "/images/prune", "ImagePrune", prune),
];

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        ApiError::new(error.kind(), error.to_string())
    }
}

/// Which containers use which images.
pub fn users(engine: &Engine) -> Vec<ImageUser> {
    let containers = engine.containers();
    let users = |view: &std::sync::Arc<berth_engine::ContainerView>| {
        let view = std::sync::Arc::clone(view);
        view.images().into_iter().map(move |image| ImageUser {
            container: view.id.clone(),
            image,
            platform: view.spec.platform.clone(),
            running: view.state.is_running(),
        })
    };
    containers.iter().flat_map(users).collect()
}

/// The same without containers that would be gone by then: what a prune of everything would remove depends on what went before.
fn users_without(engine: &Engine, gone: &HashSet<String>) -> Vec<ImageUser> {
    let mut users = users(engine);
    users.retain(|user| !gone.contains(user.container.as_str()));
    users
}

/// Tells what happened to an image.
pub fn publish(engine: &Engine, action: &str, id: &Digest, name: &str) {
    let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
    engine.events().publish(EventKind::Image, action, id.as_str(), attributes);
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::of(&call.query, &["before", "dangling", "label", "label!", "reference", "since", "until"])?;
    let selection = Selection::new(filters)?;
    let options = ListOptions {
        shared_size: call.query.flag("shared-size"),
        manifests: call.query.flag("manifests") && !call.version.before(47),
    };
    let engine = call.daemon.engine.clone();
    let images = Daemon::blocking(move || {
        let bounds = selection.bounds(&engine)?;
        let mut counts: HashMap<Digest, usize> = HashMap::new();
        for user in users(&engine) {
            *counts.entry(user.image).or_default() += 1;
        }
        let mut shown = Vec::new();
        for found in engine.images().list(options)? {
            if selection.wants(&found, &bounds) {
                let containers = counts.get(&found.id).copied().unwrap_or(0);
                shown.push(image::summary(&selection.narrowed(found), containers));
            }
        }
        Ok(shown)
    });
    Ok(gates::reply(&images.await?, call.version, 51, gates::image_summary))
}

/// The filters of one list, understood.
struct Selection {
    filters: Filters,
    dangling: Option<bool>,
    until: Option<Timestamp>,
}

/// Moments between which the wanted images were made.
struct Bounds {
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Selection {
    fn new(filters: Filters) -> Result<Self, ApiError> {
        let dangling = filters.boolean("dangling")?;
        let until = image_moment(&filters)?;
        Ok(Selection { filters, dangling, until })
    }

    /// Looks up the images that `before` and `since` name.
    fn bounds(&self, engine: &Engine) -> Result<Bounds, ApiError> {
        let created = |key: &str| -> Result<Option<Timestamp>, ApiError> {
            let Some(name) = self.filters.values(key).last() else { return Ok(None) };
            let id = engine.images().resolve(name)?.id().clone();
            let list = engine.images().list(ListOptions::default())?;
            Ok(list.into_iter().find(|image| image.id == id).map(|image| image.created))
        };
        Ok(Bounds { before: created("before")?, since: created("since")? })
    }

    fn wants(&self, image: &ImageSummary, bounds: &Bounds) -> bool {
        let label = |name: &str| image.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
        self.dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            && self.until.is_none_or(|until| image.created < until)
            && bounds.before.is_none_or(|moment| image.created < moment)
            && bounds.since.is_none_or(|moment| image.created > moment)
            && self.filters.labels(label)
            && self.filters.any("reference", |pattern| {
                image.names.iter().chain(&image.digests).any(|name| reference_matches(pattern, name))
            })
    }

    /// Of an image that was found by a reference only the names that match are shown.
    fn narrowed(&self, mut image: ImageSummary) -> ImageSummary {
        if self.filters.has("reference") {
            let matches = |name: &berth_model::ImageRef| {
                self.filters.any("reference", |pattern| reference_matches(pattern, name))
            };
            image.names.retain(matches);
            image.digests.retain(matches);
        }
        image
    }
}

fn image_moment(filters: &Filters) -> Result<Option<Timestamp>, ApiError> {
    let refused = |error: ApiError| error.context("invalid value for 'until' filter");
    match filters.values("until") {
        [] => Ok(None),
        [one] => time::moment(one, time::now()).map(Some).map_err(refused),
        _ => Err(ApiError::invalid("more than one until filter specified")),
    }
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let manifests = call.query.flag("manifests") && !call.version.before(48);
    let text = call.query.text("platform");
    if manifests && !text.is_empty() {
        return Err(ApiError::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let platform = image::platform(text)?;
    let (engine, name) = (call.daemon.engine.clone(), call.object);
    let details = Daemon::blocking(move || Ok(engine.images().inspect(&name, platform.as_ref())?)).await?;
    Ok(gates::reply(&image::inspect(&details, manifests), call.version, 52, gates::image_inspect))
}

async fn history(call: Call) -> Result<Reply, ApiError> {
    let platform = image::platform(call.query.text("platform"))?;
    let (engine, name) = (call.daemon.engine.clone(), call.object);
    let entries = Daemon::blocking(move || Ok(engine.images().history(&name, platform.as_ref())?)).await?;
    Ok(Reply::json(&entries.iter().map(image::history).collect::<Vec<_>>()))
}

async fn tag(call: Call) -> Result<Reply, ApiError> {
    let repo = call.query.text("repo");
    if repo.is_empty() {
        return Err(ApiError::invalid("the name for the image (repo) must not be empty"));
    }
    let target = image_name(repo, call.query.text("tag"))?;
    let (engine, source) = (call.daemon.engine.clone(), call.object);
    Daemon::blocking(move || {
        let id = engine.images().tag(&source, &target)?;
        publish(&engine, "tag", &id, &target.familiar());
        Ok(())
    })
    .await?;
    Ok(Reply::empty(StatusCode::CREATED))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    let platforms = image::platforms(call.query.all("platforms"))?;
    let options = RemoveOptions { force: call.query.flag("force") };
    let (engine, name) = (call.daemon.engine.clone(), call.object);
    let gone = Daemon::blocking(move || {
        let gone = match platforms.as_slice() {
            [] => engine.images().remove(&name, options, &|| users(&engine))?,
            platforms => engine.images().remove_platforms(&name, platforms, options, &|| users(&engine))?,
        };
        publish_removed(&engine, &gone);
        Ok(gone)
    })
    .await?;
    Ok(Reply::json(&gone.iter().map(image::removed).collect::<Vec<_>>()))
}

pub fn publish_removed(engine: &Engine, gone: &[Removed]) {
    for removed in gone {
        match removed {
            Removed::Untagged { name, image } => publish(engine, "untag", image, name),
            Removed::Deleted(digest) => publish(engine, "delete", digest, digest.as_str()),
        }
    }
}

/// Not of the reference API: keeps an image whatever the budget of the store is.
async fn pin(call: Call) -> Result<Reply, ApiError> {
    set_pin(call, true).await
}

async fn unpin(call: Call) -> Result<Reply, ApiError> {
    set_pin(call, false).await
}

async fn set_pin(call: Call, pinned: bool) -> Result<Reply, ApiError> {
    let (engine, name) = (call.daemon.engine.clone(), call.object);
    Daemon::blocking(move || Ok(engine.images().pin(&name, pinned)?)).await?;
    Ok(Reply::done())
}

/// Removes images that no container uses: without a name only, unless `dangling=false`.
async fn prune(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::of(&call.query, &["dangling", "label", "label!", "until"])?;
    let dangling_only = filters.boolean("dangling")?.unwrap_or(true);
    // Not of the reference API: tells what would go.
    let dry_run = call.query.flag("dry-run");
    let gone: HashSet<String> = call.query.all("without").map(str::to_owned).collect();
    let until = image_moment(&filters)?;
    let daemon = std::sync::Arc::clone(&call.daemon);
    let pruned = Daemon::blocking(move || {
        let _one_at_a_time = daemon.begin_prune()?;
        let select = |image: &ImageSummary| {
            let label = |name: &str| image.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
            (!dangling_only || image.names.is_empty())
                && until.is_none_or(|until| image.created < until)
                && filters.labels(label)
        };
        let images = daemon.engine.images();
        if dry_run {
            return Ok(images.would_prune(&select, &|| users_without(&daemon.engine, &gone))?);
        }
        let pruned = images.prune(&select, &|| users(&daemon.engine))?;
        publish_removed(&daemon.engine, &pruned.removed);
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.reclaimed.to_string())]);
        daemon.engine.events().publish(EventKind::Image, "prune", "", attributes);
        Ok(pruned)
    })
    .await?;
    let deleted: Vec<_> = pruned.removed.iter().map(image::removed).collect();
    Ok(Reply::json(&PruneResponse {
        images_deleted: (!deleted.is_empty()).then_some(deleted),
        space_reclaimed: pruned.reclaimed,
    }))
}
