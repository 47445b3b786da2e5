//! From mounts that were asked for to mounts that will be made: volumes found or made, sources checked, the image's volumes added.

use std::{collections::BTreeMap, path::Path};

use berth_image::RootfsLayers;
use berth_model::{ContainerId, VolumeName};

use berth_sys::fault;

use super::image_mount;
use crate::{
    EngineError, Inner,
    spec::{BindOptions, ContainerSpec, MountKind, MountRequest, Propagation, VolumeOptions},
    view::{MountPoint, MountPointKind},
    volume::NewVolume,
};

/// What the mounts of a container in the making need to know of it.
pub(super) struct Making<'a> {
    pub engine: &'a Inner,
    pub id: &'a ContainerId,
    pub spec: &'a ContainerSpec,
    pub layers: &'a RootfsLayers,
}

/// What came to be while mounts were settled.
pub(super) struct Made<'a> {
    /// Anonymous volumes.
    pub volumes: &'a mut Vec<String>,
    /// Layers of images that are mounted, held until the container's record says that they are needed.
    pub layers: &'a mut Vec<RootfsLayers>,
}

/// Settles every mount of a container. Volumes that are made here stay if a later step fails; the anonymous ones are told, for the caller to
/// take back.
pub(super) fn resolve(making: &Making<'_>, made: &mut Made<'_>) -> Result<Vec<MountPoint>, EngineError> {
    let Making { engine, spec, .. } = *making;
    let mut points: BTreeMap<String, MountPoint> = BTreeMap::new();
    for source in spec.host.volumes_from.iter().flatten() {
        for point in taken_over(engine, source)? {
            points.insert(point.destination.clone(), point);
        }
    }
    for request in &spec.host.mounts {
        points.insert(request.target.clone(), one(making, request, made)?);
    }
    for target in &spec.config.volumes {
        let target = clean(target);
        if !points.contains_key(&target) {
            let request = MountRequest {
                target: target.clone(),
                kind: MountKind::Volume { name: None, options: VolumeOptions::default() },
                read_only: false,
                mode: String::new(),
                consistency: String::new(),
            };
            points.insert(target, one(making, &request, made)?);
        }
    }
    Ok(points.into_values().collect())
}

/// The mounts of another container: `name[:ro|rw]`.
fn taken_over(engine: &Inner, source: &str) -> Result<Vec<MountPoint>, EngineError> {
    let (name, mode) = source.split_once(':').unwrap_or((source, ""));
    let read_only = match mode {
        "" | "rw" | "z" | "Z" => false,
        "ro" => true,
        _ => return Err(EngineError::invalid(format!("invalid mode for volumes-from: {mode}"))),
    };
    let other = engine.registry.find(name)?.view();
    let tmpfs = &other.spec.host.tmpfs;
    let points = other.mounts.iter().filter(|point| !tmpfs.contains_key(&point.destination)).cloned();
    let points = points.map(|mut point| {
        point.writable &= !read_only;
        mode.clone_into(&mut point.mode);
        // It stays the other's: `rm -v` of this one leaves it.
        point.anonymous = false;
        point
    });
    Ok(points.collect())
}

fn one(making: &Making<'_>, request: &MountRequest, made: &mut Made<'_>) -> Result<MountPoint, EngineError> {
    let point = MountPoint {
        kind: MountPointKind::Tmpfs,
        name: None,
        source: String::new(),
        subpath: String::new(),
        destination: request.target.clone(),
        driver: String::new(),
        mode: request.mode.clone(),
        writable: !request.read_only,
        propagation: None,
        anonymous: false,
    };
    match &request.kind {
        MountKind::Bind { source, options } => bind(point, source, options),
        MountKind::Volume { name, options } => volume(making, point, name.as_deref(), options, made.volumes),
        MountKind::Tmpfs(_) => Ok(point),
        MountKind::Image { source, subpath } => {
            let (point, layers) = image_mount::find(making.engine, making.spec, point, (source, subpath))?;
            made.layers.push(layers);
            Ok(point)
        }
    }
}

fn bind(point: MountPoint, source: &str, options: &BindOptions) -> Result<MountPoint, EngineError> {
    let path = Path::new(source);
    if !path.exists() {
        if !options.create_source {
            return Err(EngineError::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            )));
        }
        std::fs::create_dir_all(path).map_err(|error| {
            EngineError::internal(format!("error while creating mount source path '{source}': mkdir {source}: {error}"))
        })?;
    }
    Ok(MountPoint {
        kind: MountPointKind::Bind,
        source: source.to_owned(),
        propagation: Some(options.propagation.unwrap_or(Propagation::Rprivate)),
        ..point
    })
}

fn volume(
    making: &Making<'_>,
    point: MountPoint,
    name: Option<&str>,
    options: &VolumeOptions,
    made: &mut Vec<String>,
) -> Result<MountPoint, EngineError> {
    let Making { engine, id, spec, layers } = *making;
    let name: Option<VolumeName> =
        name.map(str::parse).transpose().map_err(|e: berth_model::InvalidName| EngineError::invalid(e.to_string()))?;
    let driver = [&options.driver, &spec.host.volume_driver].into_iter().find(|driver| !driver.is_empty());
    let anonymous = name.is_none();
    let wanted = NewVolume {
        name,
        driver: driver.cloned().unwrap_or_default(),
        labels: options.labels.clone(),
        options: options.driver_opts.clone(),
        made_for: Some(id.clone()),
    };
    let volume = engine.volumes.create(wanted)?;
    if anonymous {
        made.push(volume.name.to_string());
    }
    if !options.no_copy {
        engine.volumes.fill(&volume, |data| {
            engine.snapshots.copy_up(layers, Path::new(&point.destination), data)?;
            fault::point("create:filled");
            Ok(())
        })?;
    }
    let source = match options.subpath.as_str() {
        "" => volume.data.clone(),
        subpath => crate::volume::subpath(&volume.data, subpath)?,
    };
    Ok(MountPoint {
        kind: MountPointKind::Volume,
        name: Some(volume.name.to_string()),
        source: source.to_string_lossy().into_owned(),
        driver: volume.driver,
        anonymous,
        ..point
    })
}

/// A path without `.`, `..`, doubled and trailing slashes.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (given, cleaned) in [("/a/b/", "/a/b"), ("//a/./b", "/a/b"), ("/a/../../b", "/b"), ("/", "/")] {
            assert_eq!(clean(given), cleaned);
        }
    }
}
