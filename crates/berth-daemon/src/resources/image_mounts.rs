//! Mounted images: what is recorded about them. Not of the reference API.
//!
//! Whoever asks makes the mount itself, in its own mount namespace, of the layers that the answer names: what the daemon mounted, nobody else
//! would see.

use std::path::{Path, PathBuf};

use berth_api::image_mount::ImageMount as Shown;
use berth_engine::Engine;
use berth_image::ImageMount;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::images::publish;
use crate::translate::image;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/images/mounts", "ImageMountList", list),
    endpoint!("POST" "/images/{name}/mount", "ImageMount", mount),
    endpoint!("POST" "/images/unmount", "ImageUnmount", unmount),
];

/// The directory of mounts that nobody chose a place for, beneath that of everything that ends with the boot.
const OWN: &str = "image-mounts";

/// All mounts, or those of one image.
async fn list(call: Call) -> Result<Reply, ApiError> {
    let (engine, name) = (call.daemon.engine.clone(), call.query.get("image").map(str::to_owned));
    let shown = Daemon::blocking(move || {
        let mounts = engine.images().mounts()?.into_iter();
        let shown = |mount: ImageMount| show(&engine, mount);
        let Some(name) = name else { return Ok(mounts.map(shown).collect::<Vec<_>>()) };
        // The image may have lost that name since.
        let id = engine.images().resolve(&name).map(|image| image.id().clone());
        let found: Vec<Shown> = mounts
            .filter(|mount| mount.name == name || id.as_ref().is_ok_and(|id| *id == mount.image))
            .map(shown)
            .collect();
        match (id, found.is_empty()) {
            (Err(error), true) => Err(error.into()),
            _ => Ok(found),
        }
    });
    Ok(Reply::json(&shown.await?))
}

/// Records that an image is about to be mounted, and tells of what.
async fn mount(call: Call) -> Result<Reply, ApiError> {
    let platform = image::platform(call.query.text("platform"))?;
    let target = call.query.get("target").map(PathBuf::from);
    let (engine, name) = (call.daemon.engine.clone(), call.object);
    let shown = Daemon::blocking(move || {
        let target = match target {
            Some(target) => target,
            None => {
                let image = engine.images().resolve_for(&name, platform.as_ref())?;
                own(&engine).join(image.manifest_descriptor().digest.short())
            }
        };
        let mounted = engine.images().mount(&name, platform.as_ref(), &target)?;
        if !mounted.existed {
            publish(&engine, "mount", &mounted.image, &name);
        }
        Ok(show(&engine, mounted))
    });
    Ok(Reply::json(&shown.await?))
}

/// Forgets a mount that is gone.
async fn unmount(call: Call) -> Result<Reply, ApiError> {
    let (engine, target) = (call.daemon.engine.clone(), PathBuf::from(call.query.text("target")));
    Daemon::blocking(move || {
        let mounts = engine.images().mounts()?;
        engine.images().unmount(&target)?;
        if let Some(mount) = mounts.into_iter().find(|mount| mount.target == target) {
            publish(&engine, "unmount", &mount.image, &mount.name);
        }
        // An image that was removed meanwhile was here only for its mount.
        engine.discard_unneeded_content();
        Ok(())
    })
    .await?;
    Ok(Reply::done())
}

fn own(engine: &Engine) -> PathBuf {
    engine.config().run.join(OWN)
}

fn show(engine: &Engine, mount: ImageMount) -> Shown {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Shown {
        own: mount.target.starts_with(own(engine)),
        target: text(&mount.target),
        image: mount.image.to_string(),
        name: mount.name,
        existed: mount.existed,
        layers: mount.layers.iter().rev().map(|layer| text(layer)).collect(),
    }
}
