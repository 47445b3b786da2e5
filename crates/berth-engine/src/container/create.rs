//! Making a container: the image's defaults merged in, the name held, the record written, the layer prepared.

use std::sync::Arc;

use berth_archive::LayerView;
use berth_image::{Image, RootfsLayers};
use berth_model::{ContainerId, ContainerName, lifecycle::State};
use berth_store::{Durability, StoreError};
use berth_sys::fault;
use tokio::sync::oneshot;

use super::{
    Handle, Registry, merge,
    mounts::{self, Made, Making},
    record,
    registry::NameReservation,
};
use crate::{
    EngineConfig, EngineError, Inner, blocking, bundle, clock, lending, limits,
    logs::Format,
    names,
    network::{self, NetworkAttachment},
    spec::{ContainerSpec, CreateContainer},
    view::{ContainerPaths, ContainerView},
};

/// After so many clashes of made-up names the id's first digits become the name (B066).
const NAME_ATTEMPTS: u32 = 6;

/// A container that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// Settings that this host cannot honour, and were dropped.
    pub warnings: Vec<String>,
}

/// Makes a container. Runs to its end or takes itself back, even if the caller is gone.
pub(crate) async fn create(engine: &Arc<Inner>, request: CreateContainer) -> Result<Created, EngineError> {
    let engine = Arc::clone(engine);
    let made = tokio::spawn(async move { make(&engine, request).await });
    made.await.map_err(|_| EngineError::ShuttingDown)?
}

async fn make(engine: &Arc<Inner>, request: CreateContainer) -> Result<Created, EngineError> {
    let id = clock::new_id();
    let name = hold_name(&engine.registry, request.name.clone(), &id)?;
    fault::point("create:named");
    // The record is submitted where the rest is made, so that nobody is woken in between.
    let (draft, recorded) = {
        let (engine, id, name) = (Arc::clone(engine), id.clone(), name.name().clone());
        blocking(move || {
            let mut draft = draft(&engine, id, name, request)?;
            let recorded = submit_record(&engine, &mut draft);
            Ok((draft, recorded))
        })
        .await?
    };
    recorded.await.map_err(|_| EngineError::ShuttingDown)??;
    fault::point("create:recorded");
    let Draft { unfinished, view, layers, warnings } = draft;
    // The layers are held until the record says that they are needed.
    drop(layers);
    let durability = unfinished.durability;
    engine.volumes.made(&unfinished.keep());
    engine.registry.insert(Handle::spawn(engine, view.clone(), durability));
    name.keep();
    engine.publish(&view, "create", []);
    Ok(Created { id, warnings })
}

fn hold_name(
    registry: &Arc<Registry>,
    wanted: Option<ContainerName>,
    id: &ContainerId,
) -> Result<NameReservation, EngineError> {
    if let Some(name) = wanted {
        return registry.reserve(&name, id);
    }
    for attempt in 0..NAME_ATTEMPTS {
        if let Ok(reservation) = registry.reserve(&names::generate(attempt), id) {
            return Ok(reservation);
        }
    }
    registry.reserve(&id.short().parse().expect("twelve digits make a name"), id)
}

/// A container that is whole but for its record.
struct Draft {
    unfinished: Unfinished,
    view: ContainerView,
    layers: Vec<RootfsLayers>,
    warnings: Vec<String>,
}

/// Finds the image and makes all that the container needs. What was made before a failure is taken back.
fn draft(
    engine: &Arc<Inner>,
    id: ContainerId,
    name: ContainerName,
    mut request: CreateContainer,
) -> Result<Draft, EngineError> {
    let image = engine.images.resolve_for(&request.image, request.platform.as_ref())?;
    let wanted = std::mem::take(&mut request.endpoints);
    let (spec, warnings) = settle(engine, request, &image)?;
    let networks = network::attachments_of(&engine.networks, &spec, wanted);
    let durability = if spec.host.auto_remove { Durability::Transient } else { Durability::Durable };
    let mut unfinished = Unfinished::new(engine, &id, durability);
    let (view, layers) = prepare(engine, id, name, spec, networks, &image, &mut unfinished.volumes)?;
    fault::point("create:mounted");
    if view.networks.iter().any(|attachment| attachment.wanted.ipv4.is_some() || attachment.wanted.ipv6.is_some()) {
        unfinished.addresses = true;
        network::reserve(engine, &view);
    }
    Ok(Draft { unfinished, view, layers, warnings })
}

/// Merges, checks what needs the image or the host, and fills in what is derived.
fn settle(
    engine: &Inner,
    request: CreateContainer,
    image: &Image,
) -> Result<(ContainerSpec, Vec<String>), EngineError> {
    let mut config = request.config;
    merge::image_defaults(&mut config, image.config())?;
    let mut host = request.host;
    let default_log = &engine.config.log;
    if host.log.driver.is_empty() {
        host.log.driver.clone_from(&default_log.driver);
    }
    if host.log.driver == default_log.driver {
        let given = std::mem::take(&mut host.log.options);
        host.log.options = default_log.options.clone().into_iter().chain(given).collect();
    }
    crate::logs::check_config(&host.log)?;
    if host.shm_size == 0 {
        host.shm_size = engine.config.default_shm_size;
    }
    let warnings = limits::settle(&mut host.resources)?;
    bundle::check(&config, &host)?;
    let spec =
        ContainerSpec { image: request.image, image_id: image.id().clone(), platform: image.platform(), config, host };
    Ok((spec, warnings))
}

/// Makes directories, volumes and the writable layer. Anonymous volumes are added to `made`, also those before a failure.
fn prepare(
    engine: &Inner,
    id: ContainerId,
    name: ContainerName,
    spec: ContainerSpec,
    networks: Vec<NetworkAttachment>,
    image: &Image,
    made: &mut Vec<String>,
) -> Result<(ContainerView, Vec<RootfsLayers>), EngineError> {
    let paths = paths_of(&engine.config, &id, &spec);
    engine.spares.make(&paths.directory).map_err(EngineError::io("making", &paths.directory))?;
    let layers = engine.images.rootfs(image)?;
    check_working_directory(&layers, &spec.config.working_dir)?;
    engine.snapshots.prepare(&id, &layers, &lending::lifetime(&spec))?;
    fault::point("create:layered");
    let mut held = Vec::new();
    let made = &mut Made { volumes: made, layers: &mut held };
    let mounts = mounts::resolve(&Making { engine, id: &id, spec: &spec, layers: &layers }, made)?;
    held.push(layers);
    let view = ContainerView {
        id,
        name,
        created: clock::now(),
        spec: Arc::new(spec),
        state: State::new(),
        restart_count: 0,
        stopped_by_hand: false,
        exits: 0,
        networks,
        mounts,
        execs: Vec::new(),
        health: None,
        paths,
        remove_volumes: false,
        removed: false,
        final_code: 0,
    };
    Ok((view, held))
}

/// The working directory is made where it is missing, which a file in its place does not allow.
fn check_working_directory(layers: &RootfsLayers, path: &str) -> Result<(), EngineError> {
    if matches!(path, "" | "/") {
        return Ok(());
    }
    let found = LayerView::open(layers.chain()).and_then(|view| view.resolve(path.as_bytes()));
    // What else is wrong with the path, the start says.
    let is_other = found.is_ok_and(|found| found.is_some_and(|(_, node)| !node.is_directory()));
    if is_other { Err(EngineError::invalid(format!("Cannot mkdir: {path} is not a directory"))) } else { Ok(()) }
}

/// Where a container's files are.
pub(crate) fn paths_of(config: &EngineConfig, id: &ContainerId, spec: &ContainerSpec) -> ContainerPaths {
    let directory = config.root.join("containers").join(id.as_str());
    let bundle = config.run.join("bundles").join(id.as_str());
    let log = Format::of_driver(&spec.host.log.driver).map(|format| match format {
        Format::JsonFile => directory.join(format!("{id}-json.log")),
        Format::Local => directory.join("local-logs/container.log"),
    });
    ContainerPaths {
        log,
        hostname: bundle.join("hostname"),
        hosts: bundle.join("hosts"),
        resolv_conf: bundle.join("resolv.conf"),
        directory,
        bundle,
    }
}

/// Has the record written; the receiver hears when that is safe.
fn submit_record(engine: &Inner, draft: &mut Draft) -> oneshot::Receiver<Result<(), StoreError>> {
    let (tell, told) = oneshot::channel();
    draft.unfinished.recorded = true;
    let records = engine.store.containers(draft.unfinished.durability);
    records.insert(record::to_row(&draft.view), move |result| drop(tell.send(result)));
    told
}

/// What exists of a container in the making; takes it back when dropped, unless kept.
struct Unfinished {
    engine: Arc<Inner>,
    id: ContainerId,
    durability: Durability,
    /// Anonymous volumes that were made for it.
    volumes: Vec<String>,
    /// Addresses wait for it.
    addresses: bool,
    recorded: bool,
    kept: bool,
}

impl Unfinished {
    fn new(engine: &Arc<Inner>, id: &ContainerId, durability: Durability) -> Self {
        let engine = Arc::clone(engine);
        Self { engine, id: id.clone(), durability, volumes: Vec::new(), addresses: false, recorded: false, kept: false }
    }

    /// The container is made; gives its anonymous volumes.
    fn keep(mut self) -> Vec<String> {
        self.kept = true;
        std::mem::take(&mut self.volumes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (engine, id, volumes) = (Arc::clone(&self.engine), self.id.clone(), std::mem::take(&mut self.volumes));
        if self.recorded {
            engine.store.containers(self.durability).delete(id.to_string(), |_| ());
        }
        let addresses = self.addresses;
        tokio::task::spawn_blocking(move || {
            if addresses && let Err(error) = engine.networks.release(&id) {
                tracing::warn!(container = %id.short(), %error, "addresses wait for a container that was not made");
            }
            engine.volumes.remove_anonymous_of(&volumes);
            engine.snapshots.remove(&id);
            let directory = engine.config.root.join("containers").join(id.as_str());
            if let Err(error) = std::fs::remove_dir_all(&directory)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(container = %id.short(), %error, "files of a container that was not made stay until the next start");
            }
        });
    }
}
