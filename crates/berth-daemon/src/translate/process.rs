//! What a container runs: the portable configuration.

use std::collections::BTreeMap;

use berth_api::Empty;
use berth_api::container_config::ContainerConfig;
use berth_engine::spec::ProcessConfig;
use berth_model::Signal;

use crate::http::error::ApiError;
use crate::translate::{address, health, ports};

/// Checks and understands the portable configuration.
pub fn from_wire(wire: ContainerConfig) -> Result<ProcessConfig, ApiError> {
    check_working_dir(&wire.working_dir)?;
    check_environment(wire.env.as_deref().unwrap_or_default())?;
    if !wire.stop_signal.is_empty() {
        wire.stop_signal.parse::<Signal>().map_err(|error| ApiError::invalid(error.to_string()))?;
    }
    address::mac(&wire.mac_address)?;
    // An entrypoint of one empty word takes the image's away, and then there must be a command (B118).
    let cleared = wire.entrypoint.as_ref().is_some_and(|words| words.len() == 1 && words[0].is_empty());
    if cleared && wire.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid("no command specified"));
    }
    Ok(ProcessConfig {
        exposed_ports: ports::exposed(wire.exposed_ports.as_ref())?,
        healthcheck: wire.healthcheck.as_ref().map(health::from_wire).transpose()?,
        hostname: wire.hostname,
        domainname: wire.domainname,
        user: wire.user,
        attach_stdin: wire.attach_stdin,
        attach_stdout: wire.attach_stdout,
        attach_stderr: wire.attach_stderr,
        tty: wire.tty,
        open_stdin: wire.open_stdin,
        stdin_once: wire.stdin_once,
        env: wire.env.unwrap_or_default(),
        cmd: wire.cmd,
        entrypoint: wire.entrypoint,
        volumes: wire.volumes.unwrap_or_default().into_keys().collect(),
        working_dir: wire.working_dir,
        network_disabled: wire.network_disabled,
        mac_address: wire.mac_address,
        on_build: wire.on_build,
        labels: wire.labels.unwrap_or_default(),
        stop_signal: Some(wire.stop_signal).filter(|signal| !signal.is_empty()),
        stop_timeout: wire.stop_timeout,
        shell: wire.shell,
        args_escaped: wire.args_escaped,
    })
}

fn check_working_dir(directory: &str) -> Result<(), ApiError> {
    if directory.is_empty() || directory.starts_with('/') {
        return Ok(());
    }
    Err(ApiError::invalid(format!("the working directory '{directory}' is invalid, it needs to be an absolute path")))
}

fn check_environment(variables: &[String]) -> Result<(), ApiError> {
    match variables.iter().find(|variable| variable.is_empty() || variable.starts_with('=')) {
        Some(nameless) => Err(ApiError::invalid(format!("invalid environment variable: {nameless}"))),
        None => Ok(()),
    }
}

/// Shows the portable configuration with the image's defaults merged in.
pub fn to_wire(config: &ProcessConfig, image: &str, hostname: &str) -> ContainerConfig {
    let volumes: BTreeMap<_, _> = config.volumes.iter().map(|path| (path.clone(), Empty)).collect();
    ContainerConfig {
        hostname: hostname.to_owned(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: ports::exposed_to_wire(&config.exposed_ports),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: (!config.env.is_empty()).then(|| config.env.clone()),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(health::to_wire),
        args_escaped: config.args_escaped,
        image: image.to_owned(),
        volumes: (!volumes.is_empty()).then_some(volumes),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        network_disabled: config.network_disabled,
        mac_address: String::new(),
        on_build: config.on_build.clone(),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
    }
}
