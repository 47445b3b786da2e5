//! From a container's record to its OCI bundle: `config.json` and the files of /etc that the engine makes.

mod capabilities;
mod devices;
mod etc;
mod hosts;
mod linux;
mod mounts;
mod process;
mod propagation;

pub(crate) use hosts::{add_hosts, remove_hosts};

use std::sync::Arc;

use berth_model::ErrorKind;
use berth_oci::runtime::{OCI_VERSION, Root, Spec};

use crate::{
    EngineError, Inner,
    network::Attachment,
    spec::{HostSettings, ProcessConfig},
    view::ContainerView,
};

pub(crate) use etc::{dns_options, host_resolv_conf, resolv_conf};
pub(crate) use linux::limits_document;
pub(crate) use process::{check_user, exec_process};

/// Checks what can be checked before there is a container.
pub(crate) fn check(config: &ProcessConfig, host: &HostSettings) -> Result<(), EngineError> {
    capabilities::effective(&host.isolation)?;
    if let Some(requests) = &host.devices.requests {
        return Err(EngineError::internal(format!(
            "could not select device driver for {requests}: no device driver is known to this engine"
        )));
    }
    if !matches!(host.isolation.userns_mode.as_str(), "" | "host") {
        return Err(EngineError::invalid(format!("invalid userns mode: {}", host.isolation.userns_mode)));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(EngineError::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    crate::network::check_shape(host)?;
    refuse_what_is_not_there(host)
}

/// Settings that would be accepted and then do nothing.
fn refuse_what_is_not_there(host: &HostSettings) -> Result<(), EngineError> {
    let missing = |message: String| Err(EngineError::Refused { kind: ErrorKind::NotImplemented, message });
    if let Some(link) = host.links.iter().flatten().next() {
        return missing(format!(
            "cannot link {link}: links are not there yet: use --add-host with the other's address"
        ));
    }
    if let Some(option) = host.storage_opt.keys().next() {
        return missing(format!(
            "cannot use the storage option {option}: limits of a container's layer are not there yet"
        ));
    }
    Ok(())
}

/// Writes the bundle of a container that is about to start.
pub(crate) fn write(engine: &Arc<Inner>, view: &ContainerView, network: &Attachment) -> Result<(), EngineError> {
    std::fs::create_dir_all(&view.paths.bundle).map_err(EngineError::io("making", &view.paths.bundle))?;
    etc::write(engine, view, network)?;
    let spec = build(engine, view, network)?;
    let path = view.paths.bundle.join("config.json");
    let text = serde_json::to_vec(&spec).expect("a specification is JSON");
    std::fs::write(&path, text).map_err(EngineError::io("writing", path))
}

fn build(engine: &Arc<Inner>, view: &ContainerView, network: &Attachment) -> Result<Spec, EngineError> {
    let host = &view.spec.host;
    Ok(Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(process::build(engine, view)?),
        root: Some(Root { path: "rootfs".into(), readonly: host.isolation.readonly_rootfs }),
        hostname: if linux::shares_uts(host) { String::new() } else { etc::hostname(view) },
        domainname: view.spec.config.domainname.clone(),
        mounts: mounts::build(engine, view)?,
        hooks: None,
        annotations: host.annotations.clone(),
        linux: Some(linux::build(engine, view, network)?),
    })
}
