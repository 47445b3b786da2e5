//! Volumes: directories that outlive containers. The record holds the name; the directory follows it.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use berth_model::{ContainerId, Timestamp, VolumeName};
use berth_store::{Store, VolumeRow};

use crate::{
    EngineError, clock,
    events::{EventKind, Events},
};

/// The only driver there is.
const LOCAL: &str = "local";
/// A file beside an anonymous volume's data while the container it is for is not on record; holds that container's id.
const MAKING: &str = "making";
/// A file beside a volume's data while the image's files are copied there.
const FILLING: &str = "filling";
/// How the API marks a volume that nobody named.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The volumes of an engine. Calls block.
pub struct Volumes {
    root: PathBuf,
    records: berth_store::Volumes,
    events: Arc<Events>,
    /// Held while a name is made or removed, so that a directory never follows the wrong record.
    changing: Mutex<()>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name; 64 hex digits if nobody named it.
    pub name: VolumeName,
    /// Its driver.
    pub driver: String,
    /// Where its files are.
    pub data: PathBuf,
    /// Free metadata.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Nobody named it.
    pub anonymous: bool,
    /// When it was made.
    pub created: Timestamp,
}

/// A volume that is wanted.
#[derive(Clone, Debug, Default)]
pub struct NewVolume {
    /// Its name; one is made up otherwise.
    pub name: Option<VolumeName>,
    /// Its driver; empty is `local`.
    pub driver: String,
    /// Free metadata.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// The container in the making that an anonymous volume is for: they appear together or not at all.
    pub made_for: Option<ContainerId>,
}

impl Volumes {
    pub(crate) fn new(root: PathBuf, store: &Store, events: Arc<Events>) -> Self {
        Self { root, records: store.volumes(), events, changing: Mutex::default() }
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>, EngineError> {
        self.records.list()?.into_iter().map(|row| self.from_row(row)).collect()
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// [`EngineError::NoSuchVolume`].
    pub fn get(&self, name: &str) -> Result<Volume, EngineError> {
        let missing = || EngineError::NoSuchVolume(name.to_owned());
        self.list()?.into_iter().find(|volume| volume.name.as_str() == name).ok_or_else(missing)
    }

    /// Makes a volume, or gives the one that has the name already.
    ///
    /// # Errors
    /// A refusal for unknown drivers and options; an I/O error.
    pub fn create(&self, wanted: NewVolume) -> Result<Volume, EngineError> {
        let name = wanted.name.clone();
        let driver = check_driver(&wanted, name.as_ref())?;
        let name = name.unwrap_or_else(|| clock::new_id().to_string().parse().expect("64 digits make a name"));
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = self.records.list()?.into_iter().find(|row| row.name == name.as_str()) {
            return self.from_row(row);
        }
        let anonymous = wanted.name.is_none();
        let mut labels = wanted.labels;
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let volume = Volume {
            data: self.root.join(name.as_str()).join("_data"),
            name,
            driver,
            labels,
            options: wanted.options,
            anonymous,
            created: clock::now(),
        };
        // The directory first: a record never promises what is not there. One without a record is swept at the next start.
        std::fs::create_dir_all(&volume.data).map_err(EngineError::io("making", &volume.data))?;
        let recorded = self.mark_making(&volume, wanted.made_for.as_ref()).and_then(|()| {
            self.records.insert(to_row(&volume))?;
            Ok(())
        });
        if let Err(error) = recorded {
            // What cannot be removed now is found without a record by the next engine.
            let _ = crate::container::remove_directory(&self.root.join(volume.name.as_str()));
            return Err(error);
        }
        self.publish("create", &volume);
        Ok(volume)
    }

    /// Removes a volume that nobody uses. `users` are the containers that do.
    ///
    /// # Errors
    /// [`EngineError::NoSuchVolume`]; a conflict if it is used.
    pub fn remove(&self, name: &str, users: &[String]) -> Result<(), EngineError> {
        let volume = self.get(name)?;
        if !users.is_empty() {
            return Err(EngineError::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.records.delete(name.to_owned())?;
        crate::container::remove_directory(&self.root.join(name))?;
        self.publish("destroy", &volume);
        Ok(())
    }

    /// Removes what a container in the making got and nobody else can have.
    pub(crate) fn remove_anonymous_of(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.remove(name, &[]) {
                tracing::warn!(volume = %name, %error, "an anonymous volume stays");
            }
        }
    }

    fn mark_making(&self, volume: &Volume, made_for: Option<&ContainerId>) -> Result<(), EngineError> {
        let Some(id) = made_for.filter(|_| volume.anonymous) else { return Ok(()) };
        let mark = self.root.join(volume.name.as_str()).join(MAKING);
        std::fs::write(&mark, id.as_str()).map_err(EngineError::io("writing", mark))
    }

    /// Fills an empty volume by `copy`. Half of the files would count as content from then on, so after a failure, or a crash, it is empty again.
    pub(crate) fn fill(
        &self,
        volume: &Volume,
        copy: impl FnOnce(&Path) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let reading = |error| EngineError::io("reading", &volume.data)(error);
        if std::fs::read_dir(&volume.data).map_err(reading)?.next().is_some() {
            return Ok(());
        }
        let mark = self.root.join(volume.name.as_str()).join(FILLING);
        std::fs::write(&mark, "").map_err(EngineError::io("writing", &mark))?;
        let copied = copy(&volume.data);
        let cleared = if copied.is_err() { clear(&volume.data) } else { Ok(()) };
        // While it is not empty again, the mark stays for the next engine.
        cleared.and_then(|()| std::fs::remove_file(&mark).map_err(EngineError::io("removing", &mark))).and(copied)
    }

    /// Anonymous volumes of a container that is on record now.
    pub(crate) fn made(&self, names: &[String]) {
        for name in names {
            // A mark that stays is understood by the next engine: the container is on record.
            let _ = std::fs::remove_file(self.root.join(name).join(MAKING));
        }
    }

    /// Removes anonymous volumes whose container never got on record.
    pub(crate) fn sweep_unfinished(&self, containers: &HashSet<String>) -> Result<(), EngineError> {
        for volume in self.list()?.into_iter().filter(|volume| volume.anonymous) {
            let name = volume.name.to_string();
            match std::fs::read_to_string(self.root.join(&name).join(MAKING)) {
                Ok(id) if !containers.contains(&id) => self.remove_anonymous_of(&[name]),
                Ok(_) => self.made(&[name]),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes back what a crash left half done: directories without a record, and volumes that were being filled.
    pub(crate) fn sweep(&self) -> Result<(), EngineError> {
        let known: Vec<String> = self.records.list()?.into_iter().map(|row| row.name).collect();
        let entries = std::fs::read_dir(&self.root).map_err(EngineError::io("reading", &self.root))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !known.contains(&name) {
                crate::container::remove_directory(&entry.path())?;
            } else if entry.path().join(FILLING).exists() {
                clear(&entry.path().join("_data"))?;
                let mark = entry.path().join(FILLING);
                std::fs::remove_file(&mark).map_err(EngineError::io("removing", mark))?;
            }
        }
        Ok(())
    }

    /// Bytes of a volume's files.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn size(&self, volume: &Volume) -> Result<u64, EngineError> {
        fn beneath(path: &Path) -> std::io::Result<u64> {
            let mut total = 0;
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let metadata = entry.path().symlink_metadata()?;
                total += if metadata.is_dir() { beneath(&entry.path())? } else { metadata.len() };
            }
            Ok(total)
        }
        beneath(&volume.data).map_err(EngineError::io("measuring", &volume.data))
    }

    fn publish(&self, action: &str, volume: &Volume) {
        let attributes = [("driver".to_owned(), volume.driver.clone())].into();
        self.events.publish(EventKind::Volume, action, volume.name.as_str(), attributes);
    }

    fn from_row(&self, row: VolumeRow) -> Result<Volume, EngineError> {
        let unreadable =
            |reason: String| berth_store::StoreError::Record { what: format!("of volume {}", row.name), reason };
        Ok(Volume {
            name: row.name.parse().map_err(|e: berth_model::InvalidName| unreadable(e.to_string()))?,
            data: self.root.join(&row.name).join("_data"),
            labels: serde_json::from_str(&row.labels).map_err(|e| unreadable(e.to_string()))?,
            options: serde_json::from_str(&row.options).map_err(|e| unreadable(e.to_string()))?,
            created: row.created.parse().map_err(|e: berth_model::InvalidTimestamp| unreadable(e.to_string()))?,
            driver: row.driver,
            anonymous: row.anonymous,
        })
    }
}

/// Removes everything in a directory.
fn clear(directory: &Path) -> Result<(), EngineError> {
    let cleared = std::fs::read_dir(directory).and_then(|entries| {
        entries.flatten().try_for_each(|entry| match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path()),
            false => std::fs::remove_file(entry.path()),
        })
    });
    cleared.map_err(EngineError::io("clearing", directory))
}

fn check_driver(wanted: &NewVolume, name: Option<&VolumeName>) -> Result<String, EngineError> {
    let name = name.map(VolumeName::as_str).unwrap_or_default();
    if !matches!(wanted.driver.as_str(), "" | LOCAL) {
        return Err(EngineError::Refused {
            kind: berth_model::ErrorKind::NotFound,
            message: format!(
                "create {name}: error looking up volume plugin {0}: plugin {0:?} not found",
                wanted.driver
            ),
        });
    }
    match refused_option(&wanted.options) {
        None => Ok(LOCAL.to_owned()),
        Some(reason) => Err(EngineError::invalid(format!("create {name}: {reason}"))),
    }
}

/// Why a volume with these options cannot be made.
fn refused_option(options: &BTreeMap<String, String>) -> Option<String> {
    let known = ["type", "o", "device", "size"];
    if let Some(option) = options.keys().find(|option| !known.contains(&option.as_str())) {
        return Some(format!("invalid option: {option:?}"));
    }
    if options.contains_key("size") {
        return Some("quota size requested but no quota support".to_owned());
    }
    let given = |option: &str| options.get(option).is_some_and(|value| !value.is_empty());
    for option in ["device", "type"] {
        if !options.is_empty() && !given(option) {
            return Some(format!("missing required option: {option:?}"));
        }
    }
    let option = options.keys().next()?;
    Some(format!("option {option:?}: mounting another file system as a volume is not there yet"))
}

fn to_row(volume: &Volume) -> VolumeRow {
    let json = |map: &BTreeMap<String, String>| serde_json::to_string(map).expect("text to text is JSON");
    VolumeRow {
        name: volume.name.to_string(),
        driver: volume.driver.clone(),
        labels: json(&volume.labels),
        options: json(&volume.options),
        anonymous: volume.anonymous,
        created: volume.created.to_string(),
    }
}

/// A directory inside a volume; links do not lead out of it.
pub(crate) fn subpath(data: &Path, subpath: &str) -> Result<PathBuf, EngineError> {
    let failed =
        |error: std::io::Error| EngineError::invalid(format!("cannot access path {subpath} in the volume: {error}"));
    let root = std::fs::File::open(data).map_err(failed)?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let found = berth_sys::rooted::open(&root, subpath, flags, rustix::fs::Mode::empty()).map_err(failed)?;
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed)
}
