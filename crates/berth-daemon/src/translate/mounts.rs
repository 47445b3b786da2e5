//! Mounts: the long form, tmpfs, and what a container has. The short form is in `binds`.

use std::collections::{BTreeMap, BTreeSet};

use berth_api::mount::{self as wire, Mount, MountPoint};
use berth_engine::ContainerView;
use berth_engine::spec::{BindOptions, MountKind, MountRequest, Propagation, TmpfsOptions, VolumeOptions};
use berth_engine::view::{MountPoint as View, MountPointKind};
use berth_model::{ErrorKind, VolumeName};

use crate::http::error::ApiError;
use crate::translate::binds;

/// The mode that inspect shows for a volume that was given without one.
pub(super) const VOLUME_MODE: &str = "z";

/// Every mount of a request in order, and how many of them come from binds.
pub struct Mounts {
    /// Binds, then the long form, then tmpfs.
    pub requests: Vec<MountRequest>,
    /// How many of the first come from binds.
    pub from_binds: usize,
}

/// Checks and understands every mount of a request.
pub fn from_wire(binds: &[String], mounts: &[Mount], tmpfs: &BTreeMap<String, String>) -> Result<Mounts, ApiError> {
    let mut requests = binds.iter().map(|text| binds::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let from_binds = requests.len();
    for mount in mounts {
        requests.push(long_form(mount)?);
    }
    for (target, options) in tmpfs {
        let target = check_target(target).map_err(|reason| refused("tmpfs", &reason))?;
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        let kind = MountKind::Tmpfs(TmpfsOptions { options, ..TmpfsOptions::default() });
        requests.push(MountRequest { target, kind, read_only: false, mode: String::new(), consistency: String::new() });
    }
    let mut targets = BTreeSet::new();
    match requests.iter().find(|request| !targets.insert(request.target.as_str())) {
        Some(twice) => Err(ApiError::invalid(format!("Duplicate mount point: {}", twice.target))),
        None => Ok(Mounts { requests, from_binds }),
    }
}

/// A refusal that names the kind of mount.
pub(super) fn refused(kind: &str, reason: &str) -> ApiError {
    ApiError::invalid(format!("invalid mount config for type {kind:?}: {reason}"))
}

/// An absolute target, cleaned.
pub(super) fn check_target(target: &str) -> Result<String, String> {
    if target.is_empty() {
        return Err("field Target must not be empty".to_owned());
    }
    let clean = clean_absolute(target)?;
    if clean == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(clean)
}

/// An absolute path without dots and double slashes.
pub(super) fn clean_absolute(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("invalid mount path: '{path}' mount path must be absolute"));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A volume name, checked; empty asks for an anonymous volume.
pub(super) fn volume_name(text: &str) -> Result<Option<String>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let name: VolumeName = text.parse().map_err(|error| ApiError::invalid(format!("create {text}: {error}")))?;
    Ok(Some(name.to_string()))
}

/// One mount in the long form.
fn long_form(mount: &Mount) -> Result<MountRequest, ApiError> {
    let kind = mount.kind.as_str();
    if !matches!(kind, "bind" | "volume" | "tmpfs" | "image") {
        return Err(refused(kind, "mount type unknown"));
    }
    let target = check_target(&mount.target).map_err(|reason| refused(kind, &reason))?;
    check_options(mount)?;
    let mut mode = String::new();
    let understood = match kind {
        "bind" => bind_kind(mount)?,
        "volume" => {
            VOLUME_MODE.clone_into(&mut mode);
            volume_kind(mount)?
        }
        "tmpfs" => tmpfs_kind(mount)?,
        _ => image_kind(mount)?,
    };
    Ok(MountRequest {
        target,
        kind: understood,
        read_only: mount.read_only,
        mode,
        consistency: mount.consistency.clone(),
    })
}

/// Refuses options of another kind than the mount's own.
fn check_options(mount: &Mount) -> Result<(), ApiError> {
    let given = [
        ("BindOptions", "bind", mount.bind_options.is_some()),
        ("VolumeOptions", "volume", mount.volume_options.is_some()),
        ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
        ("ImageOptions", "image", mount.image_options.is_some()),
        ("ClusterOptions", "cluster", mount.cluster_options.is_some()),
    ];
    match given.iter().find(|(_, kind, given)| *given && *kind != mount.kind) {
        Some((options, ..)) => {
            Err(ApiError::invalid(format!("{options} must not be specified on mount type {:?}", mount.kind)))
        }
        None => Ok(()),
    }
}

fn bind_kind(mount: &Mount) -> Result<MountKind, ApiError> {
    if mount.source.is_empty() {
        return Err(refused("bind", "field Source must not be empty"));
    }
    let source = clean_absolute(&mount.source).map_err(|reason| refused("bind", &reason))?;
    let wire = mount.bind_options.clone().unwrap_or_default();
    let propagation = match wire.propagation.as_str() {
        "" => None,
        word => {
            let unknown = || refused("bind", &format!("invalid propagation mode: {word}"));
            Some(Propagation::from_word(word).ok_or_else(unknown)?)
        }
    };
    if !mount.read_only && (wire.read_only_non_recursive || wire.read_only_force_recursive) {
        let option = if wire.read_only_non_recursive { "ReadOnlyNonRecursive" } else { "ReadOnlyForceRecursive" };
        return Err(refused("bind", &format!("{option} needs a read-only mount")));
    }
    if wire.read_only_non_recursive && wire.read_only_force_recursive {
        return Err(refused("bind", "ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other"));
    }
    let options = BindOptions {
        propagation,
        non_recursive: wire.non_recursive,
        create_source: wire.create_mountpoint,
        read_only_non_recursive: wire.read_only_non_recursive,
        read_only_force_recursive: wire.read_only_force_recursive,
    };
    Ok(MountKind::Bind { source, options })
}

fn volume_kind(mount: &Mount) -> Result<MountKind, ApiError> {
    let wire = mount.volume_options.clone().unwrap_or_default();
    let name = volume_name(&mount.source)?;
    if !wire.subpath.is_empty() {
        if name.is_none() {
            return Err(refused("volume", "must not set Subpath when using anonymous volumes"));
        }
        let inside = !wire.subpath.starts_with('/') && !wire.subpath.split('/').any(|part| part == "..");
        if !inside {
            return Err(refused("volume", "subpath must be a relative path within the volume"));
        }
    }
    let driver = wire.driver_config.unwrap_or_default();
    check_driver(&driver.name, name.as_deref().unwrap_or_default())?;
    let options = VolumeOptions {
        no_copy: wire.no_copy,
        subpath: wire.subpath,
        labels: wire.labels,
        driver: driver.name,
        driver_opts: driver.options,
    };
    Ok(MountKind::Volume { name, options })
}

/// Refuses volume drivers that are not there; only `local` is.
pub fn check_driver(driver: &str, volume: &str) -> Result<(), ApiError> {
    if matches!(driver, "" | "local") {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorKind::NotFound,
        format!("create {volume}: error looking up volume plugin {driver}: plugin {driver:?} not found"),
    ))
}

fn tmpfs_kind(mount: &Mount) -> Result<MountKind, ApiError> {
    if !mount.source.is_empty() {
        return Err(refused("tmpfs", "field Source must not be specified"));
    }
    let wire = mount.tmpfs_options.clone().unwrap_or_default();
    let size_bytes = u64::try_from(wire.size_bytes).map_err(|_| refused("tmpfs", "SizeBytes must not be negative"))?;
    let options = wire.options.iter().map(|pair| pair.join("=")).collect();
    Ok(MountKind::Tmpfs(TmpfsOptions { size_bytes, mode: wire.mode, options }))
}

fn image_kind(mount: &Mount) -> Result<MountKind, ApiError> {
    if mount.source.is_empty() {
        return Err(refused("image", "field Source must not be empty"));
    }
    let subpath = mount.image_options.clone().unwrap_or_default().subpath;
    if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") {
        return Err(refused("image", "subpath must be a relative path within the image"));
    }
    Ok(MountKind::Image { source: mount.source.clone(), subpath })
}

/// Shows a mount in the long form as it was asked for.
pub fn to_wire(request: &MountRequest) -> Mount {
    let mut mount = Mount {
        target: request.target.clone(),
        read_only: request.read_only,
        consistency: request.consistency.clone(),
        ..Mount::default()
    };
    match &request.kind {
        MountKind::Bind { source, options } => {
            "bind".clone_into(&mut mount.kind);
            mount.source.clone_from(source);
            let wire = wire::BindOptions {
                propagation: options.propagation.map(|word| word.word().to_owned()).unwrap_or_default(),
                non_recursive: options.non_recursive,
                create_mountpoint: options.create_source,
                read_only_non_recursive: options.read_only_non_recursive,
                read_only_force_recursive: options.read_only_force_recursive,
            };
            mount.bind_options = Some(wire).filter(|options| *options != wire::BindOptions::default());
        }
        MountKind::Volume { name, options } => {
            "volume".clone_into(&mut mount.kind);
            mount.source = name.clone().unwrap_or_default();
            let driver = wire::Driver { name: options.driver.clone(), options: options.driver_opts.clone() };
            let wire = wire::VolumeOptions {
                no_copy: options.no_copy,
                labels: options.labels.clone(),
                subpath: options.subpath.clone(),
                driver_config: Some(driver).filter(|driver| *driver != wire::Driver::default()),
            };
            mount.volume_options = Some(wire).filter(|options| *options != wire::VolumeOptions::default());
        }
        MountKind::Tmpfs(options) => {
            "tmpfs".clone_into(&mut mount.kind);
            let pair = |option: &String| option.splitn(2, '=').map(str::to_owned).collect();
            let wire = wire::TmpfsOptions {
                size_bytes: i64::try_from(options.size_bytes).unwrap_or(i64::MAX),
                mode: options.mode,
                options: options.options.iter().map(pair).collect(),
            };
            mount.tmpfs_options = Some(wire).filter(|options| *options != wire::TmpfsOptions::default());
        }
        MountKind::Image { source, subpath } => {
            "image".clone_into(&mut mount.kind);
            mount.source.clone_from(source);
            let wire = wire::ImageOptions { subpath: subpath.clone() };
            mount.image_options = Some(wire).filter(|options| *options != wire::ImageOptions::default());
        }
    }
    mount
}

/// Shows the mounts that a container has (B107).
pub fn of_container(view: &ContainerView) -> Vec<MountPoint> {
    // What `--tmpfs` gave stands in `HostConfig.Tmpfs` only.
    let points = view.mounts.iter().filter(|point| !view.spec.host.tmpfs.contains_key(&point.destination));
    points.map(point).collect()
}

fn point(view: &View) -> MountPoint {
    MountPoint {
        kind: view.kind.word().to_owned(),
        name: view.name.clone().unwrap_or_default(),
        source: view.source.clone(),
        destination: view.destination.clone(),
        driver: view.driver.clone(),
        mode: view.mode.clone(),
        rw: view.writable,
        propagation: match view.kind {
            MountPointKind::Bind => view.propagation.unwrap_or(Propagation::Rprivate).word().to_owned(),
            _ => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_form_is_refused_in_known_words() {
        let mount = |json: &str| long_form(&serde_json::from_str(json).expect("json")).expect_err(json).message;
        for (json, expected) in [
            (
                r#"{"Type":"bogus","Source":"/tmp","Target":"/c"}"#,
                "invalid mount config for type \"bogus\": mount type unknown",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp"}"#,
                "invalid mount config for type \"bind\": field Target must not be empty",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp","Target":"c"}"#,
                "invalid mount config for type \"bind\": invalid mount path: 'c' mount path must be absolute",
            ),
            (
                r#"{"Type":"bind","Target":"/c"}"#,
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                r#"{"Type":"volume","Source":"v1","Target":"/c","BindOptions":{}}"#,
                "BindOptions must not be specified on mount type \"volume\"",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp","Target":"/c","VolumeOptions":{}}"#,
                "VolumeOptions must not be specified on mount type \"bind\"",
            ),
            (
                r#"{"Type":"tmpfs","Source":"/tmp","Target":"/c"}"#,
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp","Target":"/c","BindOptions":{"Propagation":"x"}}"#,
                "invalid mount config for type \"bind\": invalid propagation mode: x",
            ),
            (
                r#"{"Type":"volume","Source":"v1","Target":"/c","VolumeOptions":{"Subpath":"../x"}}"#,
                "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
            ),
            (
                r#"{"Type":"volume","Source":"v1","Target":"/c","VolumeOptions":{"DriverConfig":{"Name":"no"}}}"#,
                "create v1: error looking up volume plugin no: plugin \"no\" not found",
            ),
        ] {
            assert_eq!(mount(json), expected, "{json}");
        }
    }

    #[test]
    fn the_long_form_is_shown_as_it_was_given() {
        for json in [
            r#"{"Type":"bind","Source":"/tmp","Target":"/m1","ReadOnly":true,"BindOptions":{"Propagation":"rprivate","NonRecursive":true}}"#,
            r#"{"Type":"volume","Source":"v3","Target":"/m2","VolumeOptions":{"NoCopy":true,"Labels":{"a":"1"}}}"#,
            r#"{"Type":"tmpfs","Target":"/m3","TmpfsOptions":{"SizeBytes":65536,"Mode":511}}"#,
            r#"{"Type":"volume","Target":"/m4"}"#,
            r#"{"Type":"image","Source":"busybox","Target":"/m5","ImageOptions":{"Subpath":"bin"}}"#,
        ] {
            let given: Mount = serde_json::from_str(json).expect("json");
            assert_eq!(to_wire(&long_form(&given).expect("valid")), given);
        }
    }

    #[test]
    fn no_two_mounts_share_a_target() {
        let tmpfs = BTreeMap::from([("/t".to_owned(), String::new())]);
        let twice = from_wire(&["/tmp:/t/".to_owned()], &[], &tmpfs).err().expect("refused");
        assert_eq!(twice.message, "Duplicate mount point: /t");
    }
}
