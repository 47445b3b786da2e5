//! File systems: the long form of `--mount`, `-v` and `--tmpfs`, and options of the container's own.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use berth_api::Empty;
use berth_api::mount::{BindOptions, Driver, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use super::csv;
use super::value::bytes;
use crate::flag;

/// Flags about file systems, but for those that nearly everybody uses.
#[derive(Debug, Default, clap::Args)]
pub struct StorageOptions {
    /// Storage driver option for this container, e.g. size
    #[arg(long = "storage-opt", value_name = "list")]
    pub storage_options: Vec<String>,
    /// Mount a tmpfs at path[:options]
    #[arg(long, value_name = "list")]
    pub tmpfs: Vec<String>,
    /// Driver for volumes made by -v
    #[arg(long, value_name = "string")]
    pub volume_driver: Option<String>,
    /// Mount all volumes of another container [:ro|:rw]
    #[arg(long, value_name = "list")]
    pub volumes_from: Vec<String>,
}

impl StorageOptions {
    /// `key=value` each.
    pub(super) fn storage_options(&self) -> Result<BTreeMap<String, String>, String> {
        let split = |text: &String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.storage_options.iter().map(|text| split(text).ok_or_else(|| "invalid storage option".to_owned())).collect()
    }
}

/// `type=bind,src=/a,dst=/b,readonly`: the parser of `--mount`.
pub(super) fn long_form(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), value),
            // These four say what they mean without a value.
            None if matches!(
                field.to_ascii_lowercase().as_str(),
                "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive"
            ) =>
            {
                (field.to_ascii_lowercase(), "true")
            }
            None => return Err(format!("invalid field '{field}' must be a key=value pair")),
        };
        apply(&mut mount, &key, value, &field)?;
    }
    check(&mount)?;
    Ok(mount)
}

fn apply(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    let yes_or_no = || flag::boolean(value).map_err(|_| format!("invalid value for {key}: {value}"));
    match key {
        "type" => mount.kind = value.to_ascii_lowercase(),
        "source" | "src" => mount.source = absolute_if_relative(value),
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = yes_or_no()?,
        "consistency" => mount.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = yes_or_no()?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = yes_or_no()?,
        "volume-label" => insert(&mut volume(mount).labels, value),
        "volume-driver" => volume(mount).driver_config.get_or_insert_with(Driver::default).name = value.to_owned(),
        "volume-opt" => insert(&mut volume(mount).driver_config.get_or_insert_with(Driver::default).options, value),
        "image-subpath" => image(mount).subpath = value.to_owned(),
        "tmpfs-size" => {
            tmpfs(mount).size_bytes = bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    // The reference client sends a driver with every volume option, be it an empty one.
    let with_driver = || VolumeOptions { driver_config: Some(Driver::default()), ..VolumeOptions::default() };
    mount.volume_options.get_or_insert_with(with_driver)
}

fn image(mount: &mut Mount) -> &mut ImageOptions {
    mount.image_options.get_or_insert_with(ImageOptions::default)
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default)
}

fn insert(map: &mut BTreeMap<String, String>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    map.insert(key.to_owned(), value.to_owned());
}

/// What only the whole mount shows: a target, and no options of another kind of mount.
fn check(mount: &Mount) -> Result<(), String> {
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let kinds = [
        ("volume", mount.volume_options.is_some()),
        ("image", mount.image_options.is_some()),
        ("bind", mount.bind_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
    ];
    for (kind, given) in kinds {
        if given && mount.kind != kind {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind));
        }
    }
    let Some(bind) = &mount.bind_options else { return Ok(()) };
    let needs = |option: &str, other: &str| {
        Err(format!("option 'bind-recursive={option}' requires '{other}' to be specified in conjunction"))
    };
    match () {
        () if bind.read_only_non_recursive && !mount.read_only => needs("writable", "readonly"),
        () if bind.read_only_force_recursive && !mount.read_only => needs("readonly", "readonly"),
        () if bind.read_only_force_recursive && bind.propagation != "rprivate" => {
            needs("readonly", "bind-propagation=rprivate")
        }
        () => Ok(()),
    }
}

/// What the short forms ask for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ShortForms {
    pub binds: Vec<String>,
    pub anonymous: BTreeMap<String, Empty>,
}

/// `-v`: a path alone is an anonymous volume, all else a bind or a named volume, which the daemon takes apart.
pub(super) fn short_forms(volumes: &[String]) -> Result<ShortForms, String> {
    let mut forms = ShortForms::default();
    for volume in volumes {
        if volume.is_empty() {
            return Err("invalid empty volume spec".to_owned());
        }
        match volume.split_once(':') {
            Some((source, target)) if !source.is_empty() => {
                forms.binds.push(format!("{}:{target}", absolute_if_relative(source)));
            }
            _ => {
                forms.anonymous.insert(volume.clone(), Empty);
            }
        }
    }
    Ok(forms)
}

/// `--tmpfs`: options by target.
pub(super) fn tmpfs_forms(mounts: &[String]) -> BTreeMap<String, String> {
    let split = |mount: &String| match mount.split_once(':') {
        Some((target, options)) => (target.to_owned(), options.to_owned()),
        None => (mount.clone(), String::new()),
    };
    mounts.iter().map(split).collect()
}

/// A source that begins with a dot is a path of this client, not a volume's name.
fn absolute_if_relative(source: &str) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    let Ok(here) = std::env::current_dir() else { return source.to_owned() };
    let mut path = PathBuf::new();
    for part in here.join(source).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(Path::new(other.as_os_str())),
        }
    }
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_with_labels_and_a_driver() {
        let mount =
            long_form("type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=x=y");
        let mount = mount.expect("mount");
        let options = mount.volume_options.expect("options");
        assert!(options.no_copy && mount.target == "/v");
        assert_eq!(options.labels.get("a").map(String::as_str), Some("b"));
        let driver = options.driver_config.expect("driver");
        assert_eq!((driver.name.as_str(), driver.options.get("x").map(String::as_str)), ("local", Some("y")));
    }

    #[test]
    fn short_forms_are_told_apart() {
        let here = std::env::current_dir().expect("directory");
        let forms = short_forms(&["/a:/b:ro".into(), "vol:/c".into(), "/anon".into(), "./x/../y:/d".into()])
            .expect("well-formed");
        assert_eq!(forms.binds, ["/a:/b:ro".to_owned(), "vol:/c".to_owned(), format!("{}/y:/d", here.display())]);
        assert_eq!(forms.anonymous.keys().collect::<Vec<_>>(), ["/anon"]);
        assert_eq!(tmpfs_forms(&["/z:size=1m".into(), "/y".into()]).get("/z").map(String::as_str), Some("size=1m"));
    }
}
