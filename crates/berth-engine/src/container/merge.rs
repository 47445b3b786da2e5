//! The image's defaults, where the request says nothing.

use std::time::Duration;

use berth_oci::image::ContainerConfig;

use crate::{
    EngineError,
    spec::{HealthTest, Healthcheck, PortProto, ProcessConfig},
};

/// Fills `config` up from the image's configuration.
pub(super) fn image_defaults(config: &mut ProcessConfig, image: &ContainerConfig) -> Result<(), EngineError> {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.stop_signal.is_none() && !image.stop_signal.is_empty() {
        config.stop_signal = Some(image.stop_signal.clone());
    }
    if config.shell.is_none() && !image.shell.is_empty() {
        config.shell = Some(image.shell.clone());
    }
    command(config, image)?;
    environment(&mut config.env, &image.env);
    for port in image.exposed_ports.keys() {
        // An image may name ranges or nonsense; what is no port is nothing to publish.
        config.exposed_ports.extend(port.parse::<PortProto>());
    }
    config.volumes.extend(image.volumes.keys().cloned());
    for (key, value) in image.labels.iter().flatten() {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if let Some(check) = &image.healthcheck {
        config.healthcheck = Some(health(config.healthcheck.take().unwrap_or_default(), check)?);
    }
    Ok(())
}

/// A request with an entrypoint of its own drops the image's command too.
fn command(config: &mut ProcessConfig, image: &ContainerConfig) -> Result<(), EngineError> {
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    // How clients ask for no entrypoint at all.
    if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
    if config.command_line().is_empty() {
        return Err(EngineError::invalid("no command specified"));
    }
    Ok(())
}

fn environment(env: &mut Vec<String>, image: &[String]) {
    let key_of = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let given: std::collections::HashSet<String> = env.iter().map(|line| key_of(line)).collect();
    env.extend(image.iter().filter(|line| !given.contains(&key_of(line))).cloned());
}

fn health(own: Healthcheck, image: &berth_oci::image::Healthcheck) -> Result<Healthcheck, EngineError> {
    let nanos = |own: Duration, image: i64| {
        if own.is_zero() { Duration::from_nanos(u64::try_from(image).unwrap_or(0)) } else { own }
    };
    let test = match own.test {
        HealthTest::Inherit => test_of(&image.test)?,
        own => own,
    };
    Ok(Healthcheck {
        test,
        interval: nanos(own.interval, image.interval),
        timeout: nanos(own.timeout, image.timeout),
        start_period: nanos(own.start_period, image.start_period),
        start_interval: nanos(own.start_interval, image.start_interval),
        retries: if own.retries == 0 { u32::try_from(image.retries).unwrap_or(0) } else { own.retries },
    })
}

/// Reads the forms of B158.
pub(crate) fn test_of(words: &[String]) -> Result<HealthTest, EngineError> {
    match words {
        [] => Ok(HealthTest::Inherit),
        [word] if word == "NONE" => Ok(HealthTest::Disabled),
        [word, command @ ..] if word == "CMD" && !command.is_empty() => Ok(HealthTest::Command(command.to_vec())),
        [word, line] if word == "CMD-SHELL" => Ok(HealthTest::Shell(line.clone())),
        [word, ..] => Err(EngineError::invalid(format!("unknown healthcheck type: {word:?} (expected 'CMD')"))),
    }
}
