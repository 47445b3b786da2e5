//! Images mounted into containers of others: found when the container is made, shown read-only at each start.
//!
//! The mount point holds the image's id, so that a name that moves on does not change the container. As long as the container is there it is a
//! user of that image, which therefore stays. Nothing is mounted on the host.

use std::path::Path;

use berth_image::{ImageError, RootfsLayers};
use berth_model::{Digest, ErrorKind};
use berth_oci::runtime::Mount;

use crate::{
    EngineError, Inner,
    spec::ContainerSpec,
    view::{ContainerView, MountPoint, MountPointKind},
};

/// Finds and unpacks the image of a mount that is asked for. Its layers are held by what comes with the mount point.
pub(super) fn find(
    engine: &Inner,
    spec: &ContainerSpec,
    point: MountPoint,
    (source, subpath): (&str, &str),
) -> Result<(MountPoint, RootfsLayers), EngineError> {
    // "Not found" would have clients pull the container's own image and try again.
    let missing = |error: ImageError| match error.kind() {
        ErrorKind::NotFound => {
            EngineError::invalid(format!("invalid mount config for type \"image\": {error}: pull it first"))
        }
        _ => error.into(),
    };
    let image = engine.images.resolve_for(source, Some(&spec.platform)).map_err(missing)?;
    let layers = engine.images.rootfs(&image)?;
    let point = MountPoint {
        kind: MountPointKind::Image,
        name: Some(source.to_owned()),
        source: image.id().to_string(),
        subpath: subpath.to_owned(),
        writable: false,
        ..point
    };
    shown(&point, &layers)?;
    Ok((point, layers))
}

/// The mount of a container that is about to start.
pub(crate) fn mount(engine: &Inner, view: &ContainerView, point: &MountPoint) -> Result<Mount, EngineError> {
    let image = engine.images.resolve_for(&point.source, Some(&view.spec.platform))?;
    let layers = engine.images.rootfs(&image)?;
    Ok(Mount { destination: (&point.destination).into(), ..shown(point, &layers)? })
}

fn shown(point: &MountPoint, layers: &RootfsLayers) -> Result<Mount, EngineError> {
    let found = berth_snapshot::shown(layers.chain(), Path::new(&point.subpath))?;
    found.ok_or_else(|| {
        let (image, target) = (point.name.as_deref().unwrap_or_default(), &point.destination);
        let what = if point.subpath.is_empty() { "any files" } else { &point.subpath };
        EngineError::invalid(format!("cannot mount the image {image} at {target}: it does not have {what}"))
    })
}

impl ContainerView {
    /// The images that it cannot be without: its own, and those that are mounted into it.
    #[must_use]
    pub fn images(&self) -> Vec<Digest> {
        let mounted = self.mounts.iter().filter(|point| point.kind == MountPointKind::Image);
        let mounted = mounted.filter_map(|point| point.source.parse().ok());
        std::iter::once(self.spec.image_id.clone()).chain(mounted).collect()
    }
}
