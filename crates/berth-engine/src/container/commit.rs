//! What a container wrote: told as changes, written out as a tree, or made an image (B173, B174).
//!
//! All of it is read from the layers themselves. Nothing is mounted, and the container goes on meanwhile.

use std::{collections::BTreeMap, fs::File, io::Write, os::fd::AsFd, sync::Arc};

use berth_archive::{Change, LayerView, PackOptions, Whiteouts, changes, pack_view};
use berth_image::CommitOptions;
use berth_model::{Digest, ImageRef, lifecycle::State};
use berth_oci::image::{ContainerConfig, Empty, Healthcheck as ImageHealthcheck};

use super::{Handle, files::Visit};
use crate::{
    Access, EngineError, Inner, blocking,
    spec::{HealthTest, Healthcheck, ProcessConfig},
    view::ContainerView,
};

/// A wish for an image of a container.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The image's name, if it is to have one.
    pub reference: Option<ImageRef>,
    /// Who makes it.
    pub author: String,
    /// A word about it.
    pub comment: String,
    /// What its containers run; what it leaves open is taken from the container.
    pub config: Option<ContainerConfig>,
    /// Instructions of a Dockerfile on top of that.
    pub changes: Vec<String>,
    /// Freezes the container meanwhile.
    pub pause: bool,
}

/// What a container changed in the files of its image.
pub(crate) async fn changed(engine: &Arc<Inner>, handle: &Handle) -> Result<Vec<Change>, EngineError> {
    let (layers, _visit) = layers_of(engine, handle).await?;
    blocking(move || {
        let lower = layers.lower()?;
        let upper = layers.upper()?;
        Ok(changes(upper.as_fd(), &lower)?)
    })
    .await
}

/// The tree of a container, less what is mounted in it.
pub struct Exported {
    engine: Arc<Inner>,
    view: Arc<ContainerView>,
    layers: Layers,
    _visit: Visit,
}

pub(crate) async fn export(engine: &Arc<Inner>, handle: &Handle) -> Result<Exported, EngineError> {
    let (layers, visit) = layers_of(engine, handle).await?;
    Ok(Exported { engine: Arc::clone(engine), view: handle.view(), layers, _visit: visit })
}

impl Exported {
    /// Writes the tree as a tar. Blocks.
    ///
    /// # Errors
    /// What reading or writing gives.
    pub fn write_to(&self, output: impl Write) -> Result<(), EngineError> {
        let options = PackOptions { whiteouts: Whiteouts::Keep, living: self.view.state.is_running() };
        pack_view(&self.layers.merged()?, output, options)?;
        self.engine.publish(&self.view, "export", []);
        Ok(())
    }
}

/// Makes an image of what a container wrote. Gives the image's id.
pub(crate) async fn commit(
    engine: &Arc<Inner>,
    handle: &Handle,
    request: CommitRequest,
) -> Result<Digest, EngineError> {
    let view = handle.view();
    let config = config_of(&request, &view.spec.config)?;
    let (layers, _visit) = layers_of(engine, handle).await?;
    let pauses = request.pause && matches!(view.state, State::Running { .. });
    if pauses {
        handle.run(|container| Box::pin(container.pause())).await?;
    }
    let options = CommitOptions {
        parent: view.spec.image_id.clone(),
        platform: view.spec.platform.clone(),
        reference: request.reference.clone(),
        author: request.author,
        comment: request.comment.clone(),
        created_by: view.spec.config.cmd.as_deref().unwrap_or_default().join(" "),
        config,
    };
    let images = engine.images.clone();
    let done = blocking(move || Ok(images.commit(layers.upper()?.as_fd(), options)?)).await;
    if pauses && matches!(handle.view().state, State::Paused { .. }) {
        let thawed = handle.run(|container| Box::pin(container.unpause())).await;
        if let (Ok(_), Err(error)) = (&done, thawed) {
            return Err(error);
        }
    }
    let id = done?;
    let reference = request.reference.as_ref().map(ImageRef::familiar).unwrap_or_default();
    let extra = [("comment", request.comment), ("imageID", id.to_string()), ("imageRef", reference)];
    engine.publish(&view, "commit", extra);
    Ok(id)
}

/// Where a container's layers lie.
struct Layers {
    lowest_first: Vec<std::path::PathBuf>,
    upper: std::path::PathBuf,
}

impl Layers {
    fn lower(&self) -> Result<LayerView, EngineError> {
        LayerView::open(&self.lowest_first).map_err(EngineError::io("opening the layers below", &self.upper))
    }

    fn merged(&self) -> Result<LayerView, EngineError> {
        let all: Vec<_> = self.lowest_first.iter().chain([&self.upper]).collect();
        LayerView::open(&all).map_err(EngineError::io("opening the layers below", &self.upper))
    }

    fn upper(&self) -> Result<File, EngineError> {
        File::open(&self.upper).map_err(EngineError::io("opening", &self.upper))
    }
}

async fn layers_of(engine: &Arc<Inner>, handle: &Handle) -> Result<(Layers, Visit), EngineError> {
    let visit = handle.run(|container| Box::pin(container.enter(Access::Read))).await?;
    let (snapshots, id) = (engine.snapshots.clone(), handle.view().id.clone());
    let layers = blocking(move || Ok(Layers { lowest_first: snapshots.tree_of(&id)?, upper: snapshots.upper(&id) }));
    Ok((layers.await?, visit))
}

/// Changes see what is given: the request's configuration, or else the container's.
fn config_of(request: &CommitRequest, container: &ProcessConfig) -> Result<ContainerConfig, EngineError> {
    let mut config = request.config.clone().unwrap_or_default();
    if request.config.is_none() {
        fill_up(&mut config, container);
    }
    berth_image::changes::apply(&mut config, &request.changes)?;
    fill_up(&mut config, container);
    Ok(config)
}

/// What the request leaves open is as the container has it.
fn fill_up(config: &mut ContainerConfig, container: &ProcessConfig) {
    let or = |wanted: &mut String, own: &str| {
        if wanted.is_empty() {
            own.clone_into(wanted);
        }
    };
    or(&mut config.user, &container.user);
    or(&mut config.working_dir, &container.working_dir);
    or(&mut config.stop_signal, container.stop_signal.as_deref().unwrap_or_default());
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&container.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&container.entrypoint);
        }
    }
    let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    for line in &container.env {
        if !config.env.iter().any(|own| name(own) == name(line)) {
            config.env.push(line.clone());
        }
    }
    config.exposed_ports.extend(container.exposed_ports.iter().map(|port| (port.to_string(), Empty {})));
    config.volumes.extend(container.volumes.iter().map(|path| (path.clone(), Empty {})));
    if !container.labels.is_empty() {
        let labels = config.labels.get_or_insert_with(BTreeMap::new);
        for (key, value) in &container.labels {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if config.healthcheck.is_none() {
        config.healthcheck = container.healthcheck.as_ref().map(healthcheck);
    }
    if config.on_build.is_empty() {
        config.on_build = container.on_build.clone().unwrap_or_default();
    }
    if config.shell.is_empty() {
        config.shell = container.shell.clone().unwrap_or_default();
    }
}

fn healthcheck(check: &Healthcheck) -> ImageHealthcheck {
    let nanos = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let words = |first: &str, rest: &[String]| [&[first.to_owned()], rest].concat();
    ImageHealthcheck {
        test: match &check.test {
            HealthTest::Inherit => Vec::new(),
            HealthTest::Disabled => words("NONE", &[]),
            HealthTest::Command(command) => words("CMD", command),
            HealthTest::Shell(line) => words("CMD-SHELL", std::slice::from_ref(line)),
        },
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
        retries: check.retries.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_takes_from_the_container_what_the_request_leaves_open() {
        let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let container = ProcessConfig {
            cmd: Some(text(&["sh"])),
            env: text(&["PATH=/bin", "A=1"]),
            labels: [("own".to_owned(), "1".to_owned())].into(),
            user: "33".to_owned(),
            ..ProcessConfig::default()
        };
        let request = CommitRequest { changes: text(&["ENV B=$A", "LABEL own=2"]), ..CommitRequest::default() };
        let config = config_of(&request, &container).expect("valid");
        assert_eq!(config.env, text(&["PATH=/bin", "A=1", "B=1"]));
        assert_eq!(config.labels.expect("labels")["own"], "2");
        assert_eq!((config.cmd, config.user.as_str()), (Some(text(&["sh"])), "33"));
        let given = ContainerConfig { env: text(&["Q=1"]), cmd: Some(text(&["x"])), ..ContainerConfig::default() };
        let request = CommitRequest { config: Some(given), ..CommitRequest::default() };
        let config = config_of(&request, &container).expect("valid");
        assert_eq!((config.env, config.cmd), (text(&["Q=1", "PATH=/bin", "A=1"]), Some(text(&["x"]))));
    }
}
