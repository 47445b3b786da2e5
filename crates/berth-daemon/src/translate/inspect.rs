//! Container inspect: everything about one container.

use berth_api::container::{ContainerInspect, ContainerState, RootFsStorage, SnapshotStorage, Storage};
use berth_api::descriptor::Descriptor;
use berth_api::endpoint::NetworkSettings;
use berth_engine::ContainerView;
use berth_engine::spec::NetworkMode;
use berth_model::Timestamp;
use berth_model::lifecycle::{Run, State};

use crate::translate::host::Defaults;
use crate::translate::{endpoints, health, host, mounts, ports, process};

/// The name of the storage driver.
pub const STORAGE_DRIVER: &str = "overlayfs";

/// Sizes that inspect and lists show on request, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// What the container wrote.
    pub written: i64,
    /// What it wrote and its image.
    pub whole: i64,
}

/// Shows a container.
pub fn container(
    view: &ContainerView,
    defaults: &Defaults<'_>,
    manifest: Option<Descriptor>,
    sizes: Option<Sizes>,
) -> ContainerInspect {
    let spec = &view.spec;
    let mut command = spec.config.command_line().into_iter();
    let snapshot = SnapshotStorage { name: STORAGE_DRIVER.to_owned() };
    // The files and the log come to be at the first start; before it their paths say nothing.
    let path = |path: &std::path::Path| if was_started(view) { path.display().to_string() } else { String::new() };
    ContainerInspect {
        id: view.id.to_string(),
        created: view.created.to_string(),
        path: command.next().unwrap_or_default(),
        args: command.collect(),
        state: Some(state(view)),
        image: spec.image_id.to_string(),
        resolv_conf_path: path(&view.paths.resolv_conf),
        hostname_path: path(&view.paths.hostname),
        hosts_path: path(&view.paths.hosts),
        // Where other drivers keep their files is no part of the API, nor of Docker's.
        log_path: view
            .paths
            .log
            .as_deref()
            .filter(|_| view.spec.host.log.driver == "json-file")
            .map(path)
            .unwrap_or_default(),
        name: format!("/{}", view.name),
        restart_count: i64::from(view.restart_count),
        driver: STORAGE_DRIVER.to_owned(),
        platform: spec.platform.os.clone(),
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: spec.host.isolation.apparmor.clone(),
        exec_ids: (!view.execs.is_empty()).then(|| view.execs.iter().map(ToString::to_string).collect()),
        host_config: Some(host::to_wire(view, defaults)),
        storage: Some(Storage { root_fs: Some(RootFsStorage { snapshot: Some(snapshot) }) }),
        size_rw: sizes.map(|sizes| sizes.written),
        size_root_fs: sizes.map(|sizes| sizes.whole),
        mounts: mounts::of_container(view),
        config: Some(process::to_wire(&spec.config, &spec.image, &hostname(view))),
        network_settings: Some(network(view)),
        image_manifest_descriptor: manifest,
    }
}

/// Whether the container was ever started, or tried to be.
pub fn was_started(view: &ContainerView) -> bool {
    view.state.is_running() || view.state.last_run().is_some() || view.exits > 0
}

/// The host name that the container has or will have (B116).
fn hostname(view: &ContainerView) -> String {
    let spec = &view.spec;
    match (&spec.config.hostname, &spec.host.network) {
        (name, _) if !name.is_empty() => name.clone(),
        (_, NetworkMode::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        _ => view.id.short().to_owned(),
    }
}

fn network(view: &ContainerView) -> NetworkSettings {
    let shares = matches!(view.spec.host.network, NetworkMode::Container(_));
    let (sandbox_id, sandbox_key) = match view.state.pid() {
        Some(pid) if !shares => (view.id.to_string(), format!("/proc/{pid}/ns/net")),
        _ => (String::new(), String::new()),
    };
    NetworkSettings {
        sandbox_id,
        sandbox_key,
        ports: ports::of_container(view),
        networks: endpoints::of_container(view),
    }
}

/// Shows where a container is in its life (B103).
pub fn state(view: &ContainerView) -> ContainerState {
    let last = view.state.last_run();
    let time = |run: Option<&Run>, pick: fn(&Run) -> Timestamp| {
        run.map_or_else(|| Timestamp::NEVER.to_owned(), |run| pick(run).to_string())
    };
    let mut wire = ContainerState {
        status: view.state.word().to_owned(),
        running: view.state.is_running(),
        started_at: time(last, |run| run.started),
        finished_at: time(last, |run| run.finished),
        health: view.health.as_ref().map(health::view),
        ..ContainerState::default()
    };
    match &view.state {
        State::Created { failure: Some(failure) } => {
            wire.exit_code = i64::from(failure.code);
            wire.error.clone_from(&failure.message);
        }
        State::Created { failure: None } | State::Removing => {}
        State::Running { pid, since, .. } | State::Paused { pid, since, .. } => {
            wire.pid = i64::from(*pid);
            wire.started_at = since.to_string();
            wire.paused = matches!(view.state, State::Paused { .. });
        }
        State::Restarting { last } | State::Exited { last } => {
            // A container that waits for its next start counts as running: clients go on waiting for it.
            wire.restarting = matches!(view.state, State::Restarting { .. });
            wire.running = wire.restarting;
            wire.exit_code = i64::from(last.code);
            wire.oom_killed = last.oom_killed;
            wire.error = last.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
        }
    }
    wire
}
