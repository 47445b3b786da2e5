//! The writable layer of a container, and the overlay that shows it above an image's layers.

use std::{
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use berth_archive::{LayerView, copy_directory};
use berth_model::{ContainerId, Digest};
use berth_oci::runtime::Mount;
use rustix::io::Errno;

use crate::{SnapshotError, Snapshots, Unshared, layer::adopt, names, pool::Pooled, standing::Standing, usage};

/// First line of the file that names the layers below a container. It tells an empty list from a file that a crash emptied.
const LAYERS_FORMAT: &str = "layers 1";

/// How long a container's writable layer is worth something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is removed, also beyond a crash of the machine.
    Durable,
    /// Until the container ends, which is then removed.
    Volatile {
        /// A digest of everything that the container is made from, if the next one of the same may have its root.
        description: Option<Digest>,
    },
}

impl Snapshots {
    /// Makes the writable layer of a container above `layers`, lowest first. One that is there keeps its content.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing is left behind.
    pub fn prepare(
        &self,
        id: &ContainerId,
        layers: &(impl AsRef<[PathBuf]> + ?Sized),
        lifetime: &Lifetime,
    ) -> Result<(), SnapshotError> {
        let layers = layers.as_ref();
        let directory = self.container(id);
        let (volatile, description) = match lifetime {
            Lifetime::Durable => (false, None),
            Lifetime::Volatile { description } => (true, description.clone()),
        };
        if !directory.join("upper").is_dir() {
            // One that is used again is complete before it has the container's name: its list of layers may be that of another image.
            if let Some(Pooled { path, standing }) = self.inner.trash.recycled(description.as_ref()) {
                let ready = standing.is_some() || furnish(&path, layers, volatile).is_ok();
                if ready && std::fs::rename(&path, &directory).is_ok() {
                    self.inner.unshared().insert(id.clone(), Unshared { description, standing });
                    return Ok(());
                }
                drop(standing);
                self.inner.trash.take(&path);
            }
            if let Err(error) = make_fresh(&directory) {
                self.remove(id);
                return Err(error);
            }
            self.inner.unshared().insert(id.clone(), Unshared { description, standing: None });
        }
        furnish(&directory, layers, volatile).inspect_err(|_| self.remove(id))
    }

    /// The root of a container with a volatile layer, mounted nowhere yet. If it writes nothing, the next one that is made from the same
    /// description gets the same overlay. `None` where nothing is lent: [`Snapshots::mounts`] then says how the root is made.
    ///
    /// # Errors
    /// [`SnapshotError::NotPrepared`].
    pub fn lent_root(&self, id: &ContainerId) -> Result<Option<OwnedFd>, SnapshotError> {
        let directory = self.container(id);
        let (description, standing) = match self.inner.unshared().get_mut(id) {
            // It is made once: what a first run changed, a second one would pass on.
            Some(unshared) => (unshared.description.take(), unshared.standing.take()),
            None => return Ok(None),
        };
        if let Some(standing) = standing {
            // Somebody may have copied something into it since it was made.
            let copy = standing.is_untouched(&directory).then(|| standing.copy().ok()).flatten();
            if copy.is_some() {
                self.keep(id, standing);
            }
            return Ok(copy);
        }
        let Some(description) = description.filter(|_| self.inner.lends.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        let generation = self.inner.trash.generation();
        match Standing::raise(&directory, description, generation, &self.overlay(id, true)?) {
            Ok((standing, copy)) => {
                self.keep(id, standing);
                Ok(Some(copy))
            }
            // Whatever else is in the way, the runtime finds it too, and tells.
            Err(error) => {
                let possible = error.kind() != io::ErrorKind::Unsupported;
                self.inner.lends.fetch_and(possible, Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    /// Keeps the overlay of a container, unless somebody was let into it meanwhile.
    fn keep(&self, id: &ContainerId, standing: Standing) {
        let left = match self.inner.unshared().get_mut(id) {
            Some(unshared) => unshared.standing.replace(standing),
            None => Some(standing),
        };
        drop(left); // Not while others wait for the lock: what is the last of its file system is unmounted.
    }

    /// Notes that somebody outside may hold a file of the container, even beyond its end: its root is not lent.
    pub fn share(&self, id: &ContainerId) {
        let unshared = self.inner.unshared().remove(id);
        drop(unshared);
    }

    /// The mounts that show a container's root, for the runtime to make inside its mount namespace. With `volatile` the overlay never
    /// syncs; a second mount in the same boot is then made possible, which the kernel would refuse.
    ///
    /// # Errors
    /// [`SnapshotError::NotPrepared`].
    pub fn mounts(&self, id: &ContainerId, volatile: bool) -> Result<Vec<Mount>, SnapshotError> {
        // The kernel must not see an upper directory twice, and whoever mounts it may write.
        self.share(id);
        Ok(vec![self.overlay(id, volatile)?])
    }

    fn overlay(&self, id: &ContainerId, volatile: bool) -> Result<Mount, SnapshotError> {
        let directory = self.container(id);
        let layers = self.read_layers(id, &directory)?;
        let work = directory.join("work");
        if volatile {
            allow_another_mount(&work)?;
        }
        let skeleton = self.path("skeleton");
        let lower: Vec<String> = layers.iter().rev().chain([&skeleton]).map(|layer| escaped(layer)).collect();
        let lower = lower.join(":");
        let mut options = vec![
            format!("lowerdir={lower}"),
            format!("upperdir={}", directory.join("upper").display()),
            format!("workdir={}", work.display()),
            // Whatever the kernel's defaults are: an upper directory must be readable as a plain layer.
            "index=off".to_owned(),
            "metacopy=off".to_owned(),
            "redirect_dir=off".to_owned(),
        ];
        if volatile {
            options.push("volatile".to_owned());
        }
        Ok(Mount { kind: "overlay".to_owned(), source: "overlay".to_owned(), options, ..Mount::default() })
    }

    fn read_layers(&self, id: &ContainerId, directory: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
        let path = directory.join("layers");
        let not_prepared = || SnapshotError::NotPrepared { id: id.short().to_owned() };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_prepared()),
            Err(error) => return Err(SnapshotError::io("reading", &path)(error)),
        };
        let mut lines = text.lines();
        if lines.next() != Some(LAYERS_FORMAT) || !directory.join("upper").is_dir() {
            return Err(not_prepared());
        }
        let layers = self.path("layers");
        Ok(lines.map(|name| layers.join(name)).collect())
    }

    /// The layers below a container's writable one, lowest first.
    ///
    /// # Errors
    /// [`SnapshotError::NotPrepared`].
    pub fn layers_of(&self, id: &ContainerId) -> Result<Vec<PathBuf>, SnapshotError> {
        self.read_layers(id, &self.container(id))
    }

    /// All that lies below a container's writable layer, lowest first: the places that every container has, then the image's layers.
    ///
    /// # Errors
    /// [`SnapshotError::NotPrepared`].
    pub fn tree_of(&self, id: &ContainerId) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut layers = vec![self.path("skeleton")];
        layers.extend(self.layers_of(id)?);
        Ok(layers)
    }

    /// Where a container's own files lie.
    #[must_use]
    pub fn upper(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("upper")
    }

    /// Throws away what a container wrote. The directories are used again, after a pause.
    pub fn remove(&self, id: &ContainerId) {
        self.share(id);
        self.inner.trash.take(&self.container(id));
    }

    /// As [`Snapshots::remove`], where it is certain that the container's mounts are gone: a layer without content is used again at once, and with
    /// the overlay that shows it if that is lent.
    pub fn remove_unmounted(&self, id: &ContainerId) {
        let unshared = self.inner.unshared().remove(id);
        self.inner.trash.take_layer(&self.container(id), unshared.and_then(|unshared| unshared.standing));
    }

    /// Bytes that a container has written, its directories included.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn usage(&self, id: &ContainerId) -> Result<u64, SnapshotError> {
        let upper = self.upper(id);
        usage::of(&upper).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::NotPrepared { id: id.short().to_owned() },
            _ => SnapshotError::io("measuring", &upper)(error),
        })
    }

    /// All containers that have a writable layer, for the engine to find those that nobody owns.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn containers(&self) -> Result<Vec<ContainerId>, SnapshotError> {
        let names = names(&self.path("rw"))?;
        Ok(names.into_iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Copies what `layers` (lowest first) show at `path` into the directory `target`, if that is empty: content, owner, mode and extended
    /// attributes (B146). Nothing is copied where the image has no such directory. Symbolic links in the image lead nowhere else.
    ///
    /// # Errors
    /// [`SnapshotError`]; the copy is then incomplete.
    pub fn copy_up(
        &self,
        layers: &(impl AsRef<[PathBuf]> + ?Sized),
        path: &Path,
        target: &Path,
    ) -> Result<bool, SnapshotError> {
        let failed = SnapshotError::io("copying the image's content to", target);
        let copied = (|| {
            if std::fs::read_dir(target)?.next().is_some() {
                return Ok(false);
            }
            let view = LayerView::open(layers.as_ref())?;
            let directory = std::fs::File::open(target)?;
            copy_directory(&view, path.as_os_str().as_bytes(), std::os::fd::AsFd::as_fd(&directory))
        })();
        copied.map_err(failed)
    }

    fn container(&self, id: &ContainerId) -> PathBuf {
        self.path("rw").join(id.as_str())
    }
}

fn make_fresh(directory: &Path) -> Result<(), SnapshotError> {
    for path in [directory.to_owned(), directory.join("upper"), directory.join("work")] {
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(SnapshotError::io("making", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives a writable layer the look of the root below it, and the list of what lies below.
fn furnish(directory: &Path, layers: &[PathBuf], volatile: bool) -> Result<(), SnapshotError> {
    adopt(layers.last().map(PathBuf::as_path), &directory.join("upper"))?;
    let mut text = format!("{LAYERS_FORMAT}\n").into_bytes();
    for layer in layers {
        text.extend_from_slice(layer.file_name().unwrap_or_default().as_bytes());
        text.push(b'\n');
    }
    let path = directory.join("layers");
    // Mostly the last container was made from the same image.
    let there = std::fs::read(&path).is_ok_and(|list| list == text);
    let written = if there { Ok(()) } else { std::fs::write(&path, text) };
    // A container that is to survive a crash of the machine survives it whole.
    let written = written.and_then(|()| if volatile { Ok(()) } else { std::fs::File::open(&path)?.sync_all() });
    written.map_err(SnapshotError::io("writing", &path))
}

/// A volatile overlay leaves a mark that makes the kernel refuse the next mount, because after a crash of the machine nobody knows what was
/// written. Within the same boot everything is there. See the kernel's documentation of overlayfs, "Volatile mount".
pub(crate) fn allow_another_mount(work: &Path) -> Result<(), SnapshotError> {
    let mark = work.join("work").join("incompat").join("volatile");
    let gone = |result| match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    };
    let removed = gone(rustix::fs::unlink(mark.join("dirty"))).and_then(|()| gone(rustix::fs::rmdir(&mark)));
    removed.map_err(|errno| SnapshotError::io("removing", &mark)(errno.into()))
}

/// In a list of lower directories a colon separates, and a backslash takes that meaning away.
pub(crate) fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:")
}
