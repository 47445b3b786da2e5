//! The container list and its filters (B190).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use berth_api::container::ContainerSummary;
use berth_api::descriptor::Descriptor;
use berth_engine::ContainerView;
use berth_engine::spec::{PortProto, PublishedRange};
use berth_image::{ManifestKind, ManifestSummary};
use berth_model::{Digest, Timestamp};
use regex::Regex;

use crate::daemon::Daemon;
use crate::gates::SummaryShape;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::filters::Filters;
use crate::http::reply::{self, Reply};
use crate::http::router::{Endpoint, endpoint};
use crate::translate::inspect::Sizes;
use crate::translate::{endpoints, ports, summary, time};

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/containers/json", "ContainerList", list)];

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

async fn list(call: Call) -> Result<Reply, ApiError> {
    let filters = Filters::of(&call.query, &FILTERS)?;
    let limit = call.query.integer("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let selection = Selection::new(&call.daemon, &filters).await?;
    let all = call.query.flag("all") || limit.is_some() || filters.has("status");
    let wanted = |view: &Arc<ContainerView>| {
        (all || view.state.is_running() || view.state.word() == "restarting") && selection.wants(view)
    };
    let all_views = call.daemon.engine.containers().into_iter().filter(wanted);
    let chosen: Vec<_> = all_views.take(limit.unwrap_or(usize::MAX)).collect();
    let shape = SummaryShape::of(call.version);
    match call.query.flag("size") {
        true => with_sizes(&call.daemon, &chosen, shape).await,
        false => Ok(Reply::json_text(joined(&texts(&call.daemon, &chosen, shape).await?))),
    }
}

/// The entries of some containers, those from the last time where they are still true.
async fn texts(daemon: &Daemon, views: &[Arc<ContainerView>], shape: SummaryShape) -> Result<Vec<Arc<[u8]>>, ApiError> {
    let now = time::now();
    // Counted before they are read: what changes meanwhile is read again by the next list.
    let names = daemon.engine.images().name_changes();
    let statuses: Vec<String> = views.iter().map(|view| summary::status(view, now)).collect();
    let find = |(view, status): (&Arc<ContainerView>, &String)| daemon.list_entries.find(view, shape, status, names);
    let kept: Vec<_> = views.iter().zip(&statuses).map(find).collect();
    let changed: Vec<_> =
        views.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(view, _)| view.clone()).collect();
    let mut manifests = manifests(daemon, &changed, shape).await.into_iter();
    let renamed = renamed_images(daemon, &changed).await?;
    let mut fresh = Vec::new();
    let mut texts = Vec::with_capacity(views.len());
    for ((view, status), kept) in views.iter().zip(statuses).zip(kept) {
        if let Some(text) = kept {
            texts.push(text);
            continue;
        }
        let manifest = manifests.next().flatten();
        // An image whose content is gone may come back.
        let is_lasting = manifest.is_some() || !shape.has_manifest();
        let mut entry = summary::container(view, status.clone(), manifest, None);
        show_image(&mut entry, view, &renamed);
        shape.adapt(&mut entry);
        let text: Arc<[u8]> = reply::document(&entry).into();
        if is_lasting {
            fresh.push((view, status, Arc::clone(&text)));
        }
        texts.push(text);
    }
    if !fresh.is_empty() {
        daemon.list_entries.keep(shape, names, fresh.into_iter());
    }
    Ok(texts)
}

/// Images by the name that containers were made with, where that means another image now, or none.
async fn renamed_images(daemon: &Daemon, views: &[Arc<ContainerView>]) -> Result<HashSet<(String, Digest)>, ApiError> {
    let made_with: HashSet<_> =
        views.iter().map(|view| (view.spec.image.clone(), view.spec.image_id.clone())).collect();
    if made_with.is_empty() {
        return Ok(made_with);
    }
    let images = daemon.engine.images().clone();
    Daemon::blocking(move || {
        Ok(made_with.into_iter().filter(|(name, id)| images.id_of(name).as_ref() != Some(id)).collect())
    })
    .await
}

/// A container whose image has lost the name is shown with the image's id, which clients shorten.
fn show_image(entry: &mut ContainerSummary, view: &ContainerView, renamed: &HashSet<(String, Digest)>) {
    if renamed.contains(&(view.spec.image.clone(), view.spec.image_id.clone())) {
        entry.image = view.spec.image_id.to_string();
    }
}

/// Sizes change without the container's snapshot, so nothing is kept of them.
async fn with_sizes(daemon: &Daemon, views: &[Arc<ContainerView>], shape: SummaryShape) -> Result<Reply, ApiError> {
    let now = time::now();
    let renamed = renamed_images(daemon, views).await?;
    let mut entries = Vec::with_capacity(views.len());
    for (view, manifest) in views.iter().zip(manifests(daemon, views, shape).await) {
        let sizes = sizes(daemon, view).await?;
        let mut entry = summary::container(view, summary::status(view, now), manifest, Some(sizes));
        show_image(&mut entry, view, &renamed);
        shape.adapt(&mut entry);
        entries.push(entry);
    }
    Ok(Reply::json(&entries))
}

async fn manifests(daemon: &Daemon, views: &[Arc<ContainerView>], shape: SummaryShape) -> Vec<Option<Descriptor>> {
    match shape.has_manifest() && !views.is_empty() {
        true => daemon.manifests.of(&daemon.engine, views).await,
        false => vec![None; views.len()],
    }
}

/// Entries as one JSON list.
fn joined(entries: &[Arc<[u8]>]) -> Vec<u8> {
    let mut list = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 1).sum::<usize>() + 3);
    list.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(entry);
    }
    list.extend_from_slice(b"]\n");
    list
}

/// What a container wrote, and that together with its image.
pub async fn sizes(daemon: &Daemon, view: &ContainerView) -> Result<Sizes, ApiError> {
    let written = i64::try_from(daemon.engine.size_rw(&view.id).await?).unwrap_or(i64::MAX);
    let (images, id) = (daemon.engine.images().clone(), view.spec.image_id.clone());
    let platform = view.spec.platform.clone();
    let of_image = Daemon::blocking(move || {
        let details = images.inspect(id.as_str(), Some(&platform))?;
        let unpacked = |manifest: &ManifestSummary| match &manifest.kind {
            ManifestKind::Image { platform: of, unpacked } if of.matches(&platform) => Some(*unpacked),
            _ => None,
        };
        Ok(details.manifests.iter().find_map(unpacked).unwrap_or(0))
    })
    .await;
    // The image may be gone by force while its layers are still in use.
    let of_image = i64::try_from(of_image.unwrap_or(0)).unwrap_or(i64::MAX);
    Ok(Sizes { written, whole: written.saturating_add(of_image) })
}

/// The filters of one request, understood.
struct Selection<'a> {
    filters: &'a Filters,
    names: Vec<Regex>,
    ids: Vec<Regex>,
    exited: BTreeSet<i32>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    published: Vec<PortRange>,
    exposed: Vec<PortRange>,
    is_task: Option<bool>,
    ancestors: BTreeSet<Digest>,
    networks: BTreeSet<String>,
}

impl<'a> Selection<'a> {
    async fn new(daemon: &Daemon, filters: &'a Filters) -> Result<Self, ApiError> {
        check_words(filters, "status", "state", &STATES)?;
        check_words(filters, "health", "health", &HEALTHS)?;
        let created = |key: &str| -> Result<Option<Timestamp>, ApiError> {
            let name = filters.values(key).last();
            Ok(name.map(|name| daemon.engine.container(name)).transpose()?.map(|view| view.created))
        };
        Ok(Selection {
            filters,
            // A text that is no expression matches nothing, as in the reference engine.
            names: expressions(filters.values("name")),
            ids: expressions(filters.values("id")),
            exited: exit_codes(filters.values("exited"))?,
            before: created("before")?,
            since: created("since")?,
            published: ports(filters.values("publish"), "publish")?,
            exposed: ports(filters.values("expose"), "expose")?,
            is_task: filters.boolean("is-task")?,
            ancestors: ancestors(daemon, filters.values("ancestor")).await?,
            networks: networks(daemon, filters.values("network")),
        })
    }

    fn wants(&self, view: &ContainerView) -> bool {
        let filters = self.filters;
        let config = &view.spec.config;
        let health = view.health.as_ref().map_or("none", |health| health.status.word());
        let has_exited = view.state.word() == "exited";
        filters.any("status", |word| word == view.state.word())
            && filters.any("health", |word| word == health)
            && filters.labels(|name| config.labels.get(name).map(String::as_str))
            && self.is_task != Some(true)
            && self.before.is_none_or(|moment| view.created < moment)
            && self.since.is_none_or(|moment| view.created > moment)
            && (self.exited.is_empty()
                || has_exited && view.state.last_run().is_some_and(|run| self.exited.contains(&run.code)))
            && self.matches_name(view)
            && (!filters.has("ancestor") || self.has_ancestor(view))
            && (!filters.has("network") || self.is_on_network(view))
            && filters.any("volume", |wanted| has_mount(view, wanted))
            && (self.published.is_empty() || self.publishes(view))
            && (self.exposed.is_empty() || self.exposes(view))
    }

    fn matches_name(&self, view: &ContainerView) -> bool {
        let name = view.name.as_str();
        let slashed = format!("/{name}");
        let by_name = self.names.iter().any(|expression| expression.is_match(name) || expression.is_match(&slashed));
        let by_id = self.ids.iter().any(|expression| expression.is_match(view.id.as_str()));
        (!self.filters.has("name") || by_name) && (!self.filters.has("id") || by_id)
    }

    fn has_ancestor(&self, view: &ContainerView) -> bool {
        self.ancestors.contains(&view.spec.image_id) || self.filters.values("ancestor").contains(&view.spec.image)
    }

    fn is_on_network(&self, view: &ContainerView) -> bool {
        let by_mode = endpoints::main_network(&view.spec.host.network);
        let mut own = view.networks.iter().flat_map(|attachment| [&attachment.network, &attachment.network_id]);
        self.networks.contains(&by_mode) || own.any(|network| self.networks.contains(network))
    }

    fn publishes(&self, view: &ContainerView) -> bool {
        let pairs = ports::published(view).flat_map(PublishedRange::pairs);
        let mut public = pairs.map(|(inside, (_, port))| PortProto { port, ..inside });
        public.any(|port| self.published.iter().any(|range| range.contains(port)))
    }

    fn exposes(&self, view: &ContainerView) -> bool {
        let published = ports::published(view).flat_map(PublishedRange::pairs).map(|(port, _)| port);
        let mut all = view.spec.config.exposed_ports.iter().copied().chain(published);
        all.any(|port| self.exposed.iter().any(|range| range.contains(port)))
    }
}

fn check_words(filters: &Filters, key: &str, what: &str, known: &[&str]) -> Result<(), ApiError> {
    match filters.values(key).iter().find(|word| !known.contains(&word.as_str())) {
        None => Ok(()),
        Some(word) => Err(ApiError::invalid(format!(
            "invalid filter '{key}={word}': invalid value for {what} ({word}): must be one of {}",
            known.join(", ")
        ))),
    }
}

fn expressions(texts: &[String]) -> Vec<Regex> {
    texts.iter().filter_map(|text| Regex::new(text).ok()).collect()
}

fn exit_codes(texts: &[String]) -> Result<BTreeSet<i32>, ApiError> {
    let code = |text: &String| {
        text.parse().map_err(|_| {
            ApiError::invalid(format!("invalid filter 'exited={text}': strconv.Atoi: parsing {text:?}: invalid syntax"))
        })
    };
    texts.iter().map(code).collect()
}

fn has_mount(view: &ContainerView, wanted: &str) -> bool {
    view.mounts
        .iter()
        .any(|mount| mount.name.as_deref() == Some(wanted) || mount.destination == wanted || mount.source == wanted)
}

/// Digests of the images that names stand for; an unknown one stands for nothing.
async fn ancestors(daemon: &Daemon, names: &[String]) -> Result<BTreeSet<Digest>, ApiError> {
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (images, names) = (daemon.engine.images().clone(), names.to_vec());
    let found =
        move || Ok(names.iter().filter_map(|name| images.resolve(name).ok()).map(|image| image.id().clone()).collect());
    Daemon::blocking(found).await
}

/// Names of the networks that names or ids stand for, and the texts themselves.
fn networks(daemon: &Daemon, texts: &[String]) -> BTreeSet<String> {
    let resolved = texts.iter().filter_map(|text| daemon.engine.networks().network(text).ok());
    let names: BTreeSet<String> = resolved.map(|info| info.network.name).collect();
    names.into_iter().chain(texts.iter().cloned()).collect()
}

/// Ports that a filter names: `80`, `80/udp`, `8000-8010/tcp`.
#[derive(Debug, PartialEq, Eq)]
struct PortRange {
    first: PortProto,
    last: u16,
}

impl PortRange {
    fn contains(&self, port: PortProto) -> bool {
        port.protocol == self.first.protocol && (self.first.port..=self.last).contains(&port.port)
    }
}

fn ports(texts: &[String], key: &str) -> Result<Vec<PortRange>, ApiError> {
    let range = |text: &String| {
        let refused = |reason: String| ApiError::invalid(format!("error while looking up for {key} {text}: {reason}"));
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let first: PortProto = format!("{first}/{protocol}")
            .parse()
            .map_err(|_| refused(format!("invalid start port '{first}': invalid syntax")))?;
        let last = last.parse().map_err(|_| refused(format!("invalid end port '{last}': invalid syntax")))?;
        Ok(PortRange { first, last })
    };
    texts.iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_single_or_ranges() {
        let of = |text: &str| ports(&[text.to_owned()], "publish");
        let inside = |text: &str, port: &str| of(text).expect(text)[0].contains(port.parse().expect(port));
        assert!(inside("80", "80/tcp") && !inside("80", "80/udp") && inside("80/udp", "80/udp"));
        assert!(inside("8000-8010/tcp", "8010") && !inside("8000-8010", "8011"));
        assert_eq!(
            of("x").expect_err("no port").message,
            "error while looking up for publish x: invalid start port 'x': invalid syntax"
        );
    }

    #[test]
    fn unknown_words_are_refused_with_the_known_ones() {
        let filters = Filters::parse(r#"{"status":["bogus"]}"#).expect("filters");
        assert_eq!(
            check_words(&filters, "status", "state", &STATES).expect_err("unknown").message,
            "invalid filter 'status=bogus': invalid value for state (bogus): must be one of \
             created, running, paused, restarting, removing, exited, dead"
        );
        assert_eq!(
            exit_codes(&["x".to_owned()]).expect_err("no number").message,
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"
        );
    }
}
