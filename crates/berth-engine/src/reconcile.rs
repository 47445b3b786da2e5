//! Beginning again: what the record says, what the shims say, what the kernel holds; and removing what nobody owns.

use std::{
    collections::HashSet,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use berth_image::ImageStoreConfig;
use berth_model::{ContainerId, Timestamp};
use berth_store::{Durability, Store};
use serde::Deserialize;

use crate::{
    Engine, EngineConfig, EngineError, Inner, clock,
    container::{Handle, Recorded, Registry, Spares, from_row, paths_of, wants_start_at_boot},
    events::Events,
    exec::Execs,
    shim::{Exit, Launcher, Shim},
    view::ContainerView,
    volume::Volumes,
};

/// Opens an engine on its directories.
pub(crate) async fn open(config: EngineConfig) -> Result<Engine, EngineError> {
    let parts = crate::blocking(move || build(config)).await?;
    let inner = Arc::new(parts);
    let found = crate::container::load(&inner).await?;
    settle(&inner, found).await;
    // The start has touched much that the days after it do not need.
    crate::release_memory();
    Ok(Engine { inner })
}

fn build(config: EngineConfig) -> Result<Inner, EngineError> {
    make_directories(&config)?;
    let store = Store::open(&config.root, &config.run)?;
    let place = config.root.join("spare");
    let spares = Spares::open(&place).map_err(EngineError::io("making", &place))?;
    let events = Arc::new(Events::default());
    let volumes = Volumes::new(config.root.join("volumes"), &store, Arc::clone(&events));
    volumes.sweep()?;
    write_init(&config.run)?;
    let images = berth_image::Images::open(ImageStoreConfig::new(&config.root), store.clone())?;
    let networks = berth_net::Networks::open(config.network.clone(), &store)?;
    let launcher = Arc::new(Launcher::new(format!("{}/shims", config.cgroup_parent))?);
    let layout = berth_cgroup::Layout::probe()
        .map_err(|error| EngineError::internal(format!("cannot tell this host's control groups: {error}")))?;
    crate::network::hold_by_process(&networks, &config.run, &config.cgroup_parent, &layout, &launcher);
    Ok(Inner {
        snapshots: images.snapshots().clone(),
        images,
        networks,
        registry: Arc::new(Registry::default()),
        spares,
        execs: Execs::default(),
        launcher,
        name_service: crate::name_service::NameService::default(),
        layout,
        pruning: std::sync::atomic::AtomicBool::new(false),
        config,
        store,
        volumes,
        events,
    })
}

fn make_directories(config: &EngineConfig) -> Result<(), EngineError> {
    let private = |path: &Path, mode: u32| {
        std::fs::create_dir_all(path).map_err(EngineError::io("making", path))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(EngineError::io("closing", path))
    };
    private(&config.root, 0o710)?;
    for (name, mode) in [("containers", 0o710), ("volumes", 0o701)] {
        private(&config.root.join(name), mode)?;
    }
    // The members of the socket's group pass through to it; everything beside it is closed by itself.
    private(&config.run, 0o711)?;
    for name in ["s", "shims", "bundles", "seccomp", "bin"] {
        private(&config.run.join(name), 0o700)?;
    }
    Ok(())
}

/// The small init lies ready as a file that containers bind.
fn write_init(run: &Path) -> Result<(), EngineError> {
    let path = run.join("bin/berth-init");
    let new = run.join("bin/.berth-init");
    std::fs::write(&new, berth_init::INIT).map_err(EngineError::io("writing", &new))?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).map_err(EngineError::io("closing", &new))?;
    // Renamed over the old one, which may be running in a container.
    std::fs::rename(&new, &path).map_err(EngineError::io("writing", path))
}

/// Takes away what belongs to nobody, and starts what is to be started.
async fn settle(engine: &Arc<Inner>, found: Vec<Handle>) {
    let live: Vec<ContainerId> =
        found.iter().map(Handle::view).filter(|view| view.state.is_running()).map(|view| view.id.clone()).collect();
    let known: HashSet<String> = found.iter().map(|handle| handle.view().id.to_string()).collect();
    end_shims_without_record(engine, &known).await;
    let inner = Arc::clone(engine);
    let swept = crate::blocking(move || {
        sweep(&inner, &known, &live);
        Ok(())
    });
    if let Err(error) = swept.await {
        tracing::warn!(%error, "what earlier engines left could not be removed");
    }
    let inner = Arc::clone(engine);
    if let Err(error) = crate::blocking(move || crate::name_service::reconcile(&inner)).await {
        tracing::error!(%error, "containers are without their name service");
    }
    for handle in found {
        let view = handle.view();
        if view.state.is_running() && view.networks.iter().any(|attachment| attachment.endpoint.is_some()) {
            let recovered = handle.run(|container| Box::pin(container.recover_ports())).await;
            if let Err(error) = recovered {
                tracing::warn!(container = %view.id.short(), %error, "its ports are not published");
            }
        }
        if !view.state.is_running() && wants_start_at_boot(view.spec.host.restart, &view.state, view.stopped_by_hand) {
            let started = handle.run(|container| Box::pin(container.start())).await;
            if let Err(error) = started {
                tracing::warn!(container = %view.id.short(), %error, "its policy wants it started, but it could not be");
            }
        }
    }
}

/// Ends shims of containers whose removal did not get that far. A bundle is made before its shim, and goes after it.
async fn end_shims_without_record(engine: &Inner, known: &HashSet<String>) {
    let bundles = std::fs::read_dir(engine.config.run.join("bundles")).into_iter().flatten().flatten();
    let ids = bundles.filter_map(|entry| entry.file_name().to_str()?.parse::<ContainerId>().ok());
    for id in ids.filter(|id| !known.contains(id.as_str())) {
        if let Ok(shim) = Shim::connect(&id, &Shim::socket_path(&engine.config.run, &id)).await
            && let Err(error) = shim.shut_down(true).await
        {
            tracing::warn!(container = %id.short(), %error, "the shim of a container that was removed stays");
        }
    }
}

fn sweep(engine: &Inner, known: &HashSet<String>, live: &[ContainerId]) {
    let config = &engine.config;
    let directories = [
        (config.root.join("containers"), known.clone()),
        (config.run.join("bundles"), known.clone()),
        (config.run.join("shims"), live.iter().map(ToString::to_string).collect()),
        (config.run.join("s"), live.iter().map(|id| id.as_str()[..20].to_owned()).collect()),
    ];
    for (directory, owned) in directories {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if owned.contains(&*entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "a leftover cannot be removed");
            }
        }
    }
    if let Err(error) = engine.volumes.sweep_unfinished(known) {
        tracing::warn!(%error, "volumes of containers that were never made cannot be removed");
    }
    match engine.snapshots.containers() {
        Ok(prepared) => {
            prepared.iter().filter(|id| !known.contains(id.as_str())).for_each(|id| engine.snapshots.remove(id));
        }
        Err(error) => tracing::warn!(%error, "leftover layers cannot be removed"),
    }
    let used: Vec<_> = engine.registry.views().iter().flat_map(|view| view.images()).collect();
    if let Err(error) = engine.images.reconcile(&used) {
        tracing::warn!(%error, "the image store could not be put in order");
    }
    sweep_cgroups(engine, live);
    let ids: Vec<ContainerId> = known.iter().filter_map(|id| id.parse().ok()).collect();
    if let Err(error) = engine.networks.release_others(&ids) {
        tracing::warn!(%error, "addresses that wait for nobody could not be given back");
    }
    match engine.networks.reconcile(live) {
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the network could not be put in order"),
    }
}

/// Ends what is left of containers whose shim is gone, and removes their cgroups.
fn sweep_cgroups(engine: &Inner, live: &[ContainerId]) {
    let parent = engine.config.cgroup_parent.trim_start_matches('/');
    let mut names = HashSet::new();
    for hierarchy in engine.layout.hierarchies() {
        let directory = hierarchy.mount_point().join(parent);
        let children = std::fs::read_dir(directory).into_iter().flatten().flatten();
        names.extend(children.filter_map(|entry| entry.file_name().to_str()?.parse::<ContainerId>().ok()));
    }
    for id in names.iter().filter(|id| !live.contains(id)) {
        end_orphans(engine, id);
    }
}

/// Kills every process of a container that has no shim, and removes its cgroup.
pub(crate) fn end_orphans(engine: &Inner, id: &ContainerId) {
    let path = format!("{}/{id}", engine.config.cgroup_parent);
    let ended = path
        .parse::<berth_cgroup::CgroupPath>()
        .map_err(|error| error.to_string())
        .and_then(|path| berth_cgroup::Cgroup::open(&engine.layout, &path).map_err(|error| error.to_string()))
        .and_then(|cgroup| {
            cgroup.kill().map_err(|error| error.to_string())?;
            cgroup.remove().map_err(|error| error.to_string())
        });
    if let Err(error) = ended {
        tracing::debug!(container = %id.short(), %error, "no cgroup to clear up");
    }
}

/// Removes what a shim that is gone has left in the runtime directory.
pub(crate) fn forget_shim(run: &Path, id: &ContainerId) {
    // What is not there needs no removing, and what cannot be removed is found by the next engine.
    let _ = std::fs::remove_dir_all(run.join("shims").join(id.as_str()));
    let _ = std::fs::remove_file(Shim::socket_path(run, id));
}

/// What a shim writes when its container ends (docs/formats.md).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExitFile {
    exit_code: i32,
    exited_at: Timestamp,
    #[serde(default)]
    oom_killed: bool,
}

/// What a shim writes when its container has started (docs/formats.md).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShimFile {
    pid: u32,
    started_at: Timestamp,
}

/// The start that a shim wrote before it was killed. One that had not come to that had begun to listen, just before its program began.
fn last_start(run: &Path, id: &ContainerId) -> Option<Start> {
    let written = || {
        let text = std::fs::read(run.join("shims").join(id.as_str()).join("shim.json")).ok()?;
        let shim: ShimFile = serde_json::from_slice(&text).ok()?;
        Some(Start { pid: shim.pid, at: shim.started_at })
    };
    let listened = || {
        let socket = std::fs::symlink_metadata(Shim::socket_path(run, id)).ok()?;
        Some(Start { pid: 0, at: Timestamp::from_parts(socket.mtime(), u32::try_from(socket.mtime_nsec()).ok()?) })
    };
    written().or_else(listened)
}

/// The exit that a shim wrote before it went.
pub(crate) fn written_exit(run: &Path, id: &ContainerId) -> Option<Exit> {
    let text = std::fs::read(run.join("shims").join(id.as_str()).join("exit.json")).ok()?;
    let exit: ExitFile = serde_json::from_slice(&text).ok()?;
    Some(Exit { code: exit.exit_code, at: exit.exited_at, oom_killed: exit.oom_killed })
}

/// What became of a container that was running when the last engine ended.
pub(crate) enum Found {
    /// It still runs.
    Running(Shim, Start),
    /// It ended. Its shim may still be there; how the run began is known if it is, or has left word.
    Ended(Exit, Option<Shim>, Option<Start>),
}

/// The beginning of a run, as its shim tells it.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    /// 0 if nobody knows any more: the run is over then.
    pub pid: u32,
    pub at: Timestamp,
}

/// Whether a container has a shim that its record may not know of: the news of a start is not waited for.
pub(crate) fn has_shim(engine: &Inner, id: &ContainerId) -> bool {
    Shim::socket_path(&engine.config.run, id).exists()
}

/// Looks for a container that was running.
pub(crate) async fn look_for(engine: &Inner, id: &ContainerId) -> Found {
    let run = &engine.config.run;
    let without_shim = || {
        let lost = Exit { code: 255, at: clock::now(), oom_killed: false };
        Found::Ended(written_exit(run, id).unwrap_or(lost), None, last_start(run, id))
    };
    let Ok(shim) = Shim::connect(id, &Shim::socket_path(run, id)).await else {
        return without_shim();
    };
    let Ok(status) = shim.status().await else {
        return without_shim();
    };
    let start = Start { pid: status.pid, at: Timestamp::from_nanos(status.started_at_ns) };
    match status.exit {
        None => Found::Running(shim, start),
        Some(exit) => {
            let exit = Exit {
                code: i32::try_from(exit.exit_code).unwrap_or(255),
                at: Timestamp::from_nanos(exit.exited_at_ns),
                oom_killed: exit.oom_killed,
            };
            Found::Ended(exit, Some(shim), Some(start))
        }
    }
}

/// The records of both databases.
pub(crate) fn records(engine: &Inner) -> Result<Vec<(Recorded, Durability)>, EngineError> {
    let mut records = Vec::new();
    for durability in [Durability::Durable, Durability::Transient] {
        for row in engine.store.containers(durability).list()? {
            match from_row(&row) {
                Ok(record) => records.push((record, durability)),
                // One damaged record must not keep all others from living.
                Err(error) => tracing::error!(container = %row.name, %error, "a container is left out"),
            }
        }
    }
    Ok(records)
}

/// The view of a recorded container.
pub(crate) fn view_of(engine: &Inner, record: Recorded) -> ContainerView {
    let final_code = record.state.last_run().map_or(0, |run| run.code);
    let paths = paths_of(&engine.config, &record.id, &record.spec);
    ContainerView {
        paths,
        id: record.id,
        name: record.name,
        created: record.created,
        spec: Arc::new(record.spec),
        restart_count: record.restart_count,
        stopped_by_hand: record.stopped_by_hand,
        exits: record.exits,
        networks: record.networks,
        mounts: record.mounts,
        execs: Vec::new(),
        health: None,
        remove_volumes: record.remove_volumes,
        removed: false,
        final_code,
        state: record.state,
    }
}
