//! Disk usage: what images, containers, volumes and build cache take, and what pruning would free.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_api::disk_usage::{BuildCacheUsage, ContainerUsage, DiskUsage, ImageUsage, VolumeUsage};
use berth_api::image::ImageSummary;
use berth_api::volume::{UsageData, Volume};
use berth_image::ListOptions;

use crate::daemon::Daemon;
use crate::gates;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::{container_list, images, volumes};
use crate::translate::{image, summary, time, volume};

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("GET" "/system/df", "SystemDataUsage", disk_usage)];

/// What a client wants to know.
struct Wanted {
    types: BTreeSet<String>,
    /// The lists of the form before 1.52, which went with 1.53 for whoever asks to be verbose.
    lists: bool,
    /// The grouped form.
    groups: bool,
    /// Whether groups name their members.
    items: bool,
}

impl Wanted {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let types: BTreeSet<String> = call.query.all("type").map(str::to_owned).collect();
        if let Some(unknown) =
            types.iter().find(|kind| !matches!(kind.as_str(), "container" | "image" | "volume" | "build-cache"))
        {
            return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
        }
        let verbose = call.query.get("verbose").is_some();
        let groups = !call.version.before(52);
        Ok(Wanted { types, lists: !groups || !verbose, groups, items: !verbose || call.query.flag("verbose") })
    }

    fn wants(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.contains(kind)
    }
}

async fn disk_usage(call: Call) -> Result<Reply, ApiError> {
    let wanted = Wanted::of(&call)?;
    let mut usage = DiskUsage::default();
    if wanted.wants("image") {
        add_images(&call.daemon, &wanted, &mut usage).await?;
    }
    if wanted.wants("container") {
        add_containers(&call.daemon, &wanted, &mut usage).await?;
    }
    if wanted.wants("volume") {
        add_volumes(&call.daemon, &wanted, &mut usage).await?;
    }
    if wanted.wants("build-cache") {
        // There is no builder yet, so there is nothing it could keep.
        usage.build_cache = wanted.lists.then(Vec::new);
        usage.build_cache_usage = wanted.groups.then(BuildCacheUsage::default);
    }
    Ok(gates::reply(&usage, call.version, 52, gates::disk_usage))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn add_images(daemon: &Arc<Daemon>, wanted: &Wanted, usage: &mut DiskUsage) -> Result<(), ApiError> {
    let engine = daemon.engine.clone();
    let list: Vec<ImageSummary> = Daemon::blocking(move || {
        let users = images::users(&engine);
        let uses = |id| users.iter().filter(|user| user.image == id).count();
        let list = engine.images().list(ListOptions { shared_size: true, manifests: false })?;
        Ok(list.iter().map(|found| image::summary(found, uses(found.id.clone()))).collect())
    })
    .await?;
    // What several images share counts once: all of it belongs to the first that has it.
    let total = |images: &mut dyn Iterator<Item = &ImageSummary>| {
        let (own, shared) = images.fold((0, 0), |(own, shared): (i64, i64), image| {
            (own + image.size - image.shared_size.max(0), shared.max(image.shared_size))
        });
        own + shared
    };
    let whole = total(&mut list.iter());
    let in_use = total(&mut list.iter().filter(|image| image.containers > 0));
    if wanted.groups {
        usage.image_usage = Some(ImageUsage {
            active_count: count(list.iter().filter(|image| image.containers > 0).count()),
            items: if wanted.items { list.clone() } else { Vec::new() },
            reclaimable: whole - in_use,
            total_count: count(list.len()),
            total_size: whole,
        });
    }
    if wanted.lists {
        usage.layers_size = Some(whole);
        usage.images = Some(list);
    }
    Ok(())
}

async fn add_containers(daemon: &Arc<Daemon>, wanted: &Wanted, usage: &mut DiskUsage) -> Result<(), ApiError> {
    let now = time::now();
    let (mut list, mut active, mut reclaimable, mut whole) = (Vec::new(), 0, 0, 0);
    for view in daemon.engine.containers() {
        // A container that goes away meanwhile takes nothing.
        let Ok(sizes) = container_list::sizes(daemon, &view).await else { continue };
        whole += sizes.written;
        if view.state.is_running() {
            active += 1;
        } else {
            reclaimable += sizes.written;
        }
        list.push(summary::container(&view, summary::status(&view, now), None, Some(sizes)));
    }
    if wanted.groups {
        usage.container_usage = Some(ContainerUsage {
            active_count: active,
            items: if wanted.items { list.clone() } else { Vec::new() },
            reclaimable,
            total_count: count(list.len()),
            total_size: whole,
        });
    }
    if wanted.lists {
        usage.containers = Some(list);
    }
    Ok(())
}

async fn add_volumes(daemon: &Arc<Daemon>, wanted: &Wanted, usage: &mut DiskUsage) -> Result<(), ApiError> {
    let engine = daemon.engine.clone();
    let list: Vec<Volume> = Daemon::blocking(move || {
        let mut list = Vec::new();
        for found in engine.volumes().list()? {
            let size = engine.volumes().size(&found).ok().and_then(|size| i64::try_from(size).ok());
            let ref_count = count(volumes::users(&engine, found.name.as_str()).len());
            let usage_data = Some(UsageData { ref_count, size: size.unwrap_or(-1) });
            list.push(Volume { usage_data, ..volume::to_wire(&found) });
        }
        Ok(list)
    })
    .await?;
    let data = |volume: &Volume| volume.usage_data.clone().unwrap_or_default();
    let sum = |used: fn(i64) -> bool| {
        list.iter().map(data).filter(|data| used(data.ref_count)).map(|data| data.size.max(0)).sum::<i64>()
    };
    if wanted.groups {
        usage.volume_usage = Some(VolumeUsage {
            active_count: count(list.iter().map(data).filter(|data| data.ref_count > 0).count()),
            items: if wanted.items { list.clone() } else { Vec::new() },
            reclaimable: sum(|users| users == 0),
            total_count: count(list.len()),
            total_size: sum(|_| true),
        });
    }
    if wanted.lists {
        usage.volumes = Some(list);
    }
    Ok(())
}
