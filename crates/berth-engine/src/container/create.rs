//! Making a container: the image's defaults merged in, the name held, the record written, the layer prepared.

use std::sync::Arc;

use berth_image::{Image, RootfsLayers};
use berth_model::{ContainerId, ContainerName, lifecycle::State};
use berth_store::Durability;
use tokio::sync::oneshot;

use super::{Handle, Registry, merge, mounts, record, registry::NameReservation};
use crate::{
    EngineConfig, EngineError, Inner, blocking, bundle, clock, limits, names,
    spec::{ContainerSpec, CreateContainer, NetworkMode},
    view::{ContainerPaths, ContainerView, EndpointView},
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
    let image = find_image(engine, &request).await?;
    let (spec, warnings) = settle(engine, request, &image)?;
    let durability = if spec.host.auto_remove { Durability::Transient } else { Durability::Durable };
    let mut unfinished = Unfinished::new(engine, &id, durability);
    // The layers are held until the record says that they are needed.
    let (view, layers) = prepare(engine, &id, name.name().clone(), spec, image).await?;
    unfinished.volumes =
        view.mounts.iter().filter(|point| point.anonymous).filter_map(|point| point.name.clone()).collect();
    let view = write_record(engine, view, unfinished).await?;
    drop(layers);
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

async fn find_image(engine: &Arc<Inner>, request: &CreateContainer) -> Result<Image, EngineError> {
    let (images, name, platform) = (engine.images.clone(), request.image.clone(), request.platform.clone());
    blocking(move || Ok(images.resolve_for(&name, platform.as_ref())?)).await
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
    if host.log.driver.is_empty() {
        host.log.driver.clone_from(&engine.config.log.driver);
        if host.log.driver == "json-file" {
            let defaults = engine.config.log.options.clone();
            host.log.options = defaults.into_iter().chain(std::mem::take(&mut host.log.options)).collect();
        }
    }
    crate::logs::check_config(&host.log)?;
    if host.shm_size == 0 {
        host.shm_size = engine.config.default_shm_size;
    }
    let warnings = limits::settle(&mut host.resources)?;
    bundle::check(&config, &host)?;
    let spec = ContainerSpec {
        image: request.image,
        image_id: image.id().clone(),
        platform: image.platform(),
        config,
        host,
        endpoints: request.endpoints,
    };
    Ok((spec, warnings))
}

/// Makes directories, volumes and the writable layer.
async fn prepare(
    engine: &Arc<Inner>,
    id: &ContainerId,
    name: ContainerName,
    spec: ContainerSpec,
    image: Image,
) -> Result<(ContainerView, RootfsLayers), EngineError> {
    let (engine, id) = (Arc::clone(engine), id.clone());
    blocking(move || {
        let paths = paths_of(&engine.config, &id, &spec);
        std::fs::create_dir_all(&paths.directory).map_err(EngineError::io("making", &paths.directory))?;
        let layers = engine.images.rootfs(&image)?;
        let volatile = spec.host.auto_remove;
        engine.snapshots.prepare(&id, &layers, volatile)?;
        let mounts = mounts::resolve(&engine, &spec, &layers)?;
        let networks = wanted_networks(&engine, &spec);
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
            removed: false,
            final_code: 0,
        };
        Ok((view, layers))
    })
    .await
}

/// Networks as inspect shows them before the first start.
pub(crate) fn wanted_networks(engine: &Inner, spec: &ContainerSpec) -> Vec<EndpointView> {
    let name = match &spec.host.network {
        NetworkMode::Default | NetworkMode::Bridge => "bridge",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Named(name) => name,
        NetworkMode::Container(_) => return Vec::new(),
    };
    let network_id = engine.networks.network(name).map(|info| info.network.id.to_string()).unwrap_or_default();
    vec![EndpointView { network: name.to_owned(), network_id, ..EndpointView::default() }]
}

/// Where a container's files are.
pub(crate) fn paths_of(config: &EngineConfig, id: &ContainerId, spec: &ContainerSpec) -> ContainerPaths {
    let directory = config.root.join("containers").join(id.as_str());
    let bundle = config.run.join("bundles").join(id.as_str());
    let has_file = spec.host.log.driver == "json-file";
    ContainerPaths {
        log: has_file.then(|| directory.join(format!("{id}-json.log"))),
        hostname: bundle.join("hostname"),
        hosts: bundle.join("hosts"),
        resolv_conf: bundle.join("resolv.conf"),
        directory,
        bundle,
    }
}

async fn write_record(
    engine: &Arc<Inner>,
    view: ContainerView,
    mut unfinished: Unfinished,
) -> Result<ContainerView, EngineError> {
    let (tell, told) = oneshot::channel();
    let row = record::to_row(&view);
    unfinished.recorded = true;
    engine.store.containers(unfinished.durability).insert(row, move |result| drop(tell.send(result)));
    told.await.map_err(|_| EngineError::ShuttingDown)??;
    unfinished.kept = true;
    Ok(view)
}

/// What exists of a container in the making; takes it back when dropped, unless kept.
struct Unfinished {
    engine: Arc<Inner>,
    id: ContainerId,
    durability: Durability,
    /// Anonymous volumes that were made for it.
    volumes: Vec<String>,
    recorded: bool,
    kept: bool,
}

impl Unfinished {
    fn new(engine: &Arc<Inner>, id: &ContainerId, durability: Durability) -> Self {
        let engine = Arc::clone(engine);
        Self { engine, id: id.clone(), durability, volumes: Vec::new(), recorded: false, kept: false }
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
        tokio::task::spawn_blocking(move || {
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
