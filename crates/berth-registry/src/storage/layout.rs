//! Each repository as a plain OCI layout, for tools that read directories.
//!
//! The index is the truth and this is its shadow: it follows changes after a moment, and is complete whenever the server has stopped. So a
//! push never waits for it, and a crash costs nothing: the next start catches up. Blobs are hard links to the one file of each digest;
//! where the file system's limit of links is reached, a copy (a reflink, if it can).

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use berth_model::Digest;
use berth_oci::image::{ANNOTATION_REF_NAME, Descriptor, Index, Layout};
use berth_store::{ManifestRow, RepositoryRow, TagRow};

use crate::storage::{Storage, StorageError, blobs::ALGORITHMS, blocking};

/// What a repository holds, read at one moment.
struct Contents {
    row: RepositoryRow,
    manifests: Vec<ManifestRow>,
    tags: Vec<TagRow>,
    digests: HashSet<Digest>,
    /// Manifests that an index of the repository leads to.
    inner: HashSet<Digest>,
}

/// Lays out every repository that has changed since it was last laid out: how many.
#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the method itself is not general enough for any lifetime of the view"
)]
pub async fn catch_up(storage: &std::sync::Arc<Storage>) -> Result<usize, StorageError> {
    let rows = storage.read(|view| view.not_laid_out())?;
    let count = rows.len();
    for row in rows {
        let shared = std::sync::Arc::clone(storage);
        let row = blocking(move || lay_out(&shared, row)).await?;
        storage.change_quietly(move |change| change.laid_out(&row)).await?;
    }
    Ok(count)
}

fn lay_out(storage: &Storage, row: RepositoryRow) -> Result<RepositoryRow, StorageError> {
    let contents = read(storage, row)?;
    let directory = storage.root().join("repositories").join(contents.row.name.replace('/', "+"));
    if contents.digests.is_empty() {
        return match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("removing", &directory)(error))
            }
            _ => Ok(contents.row),
        };
    }
    for algorithm in ALGORITHMS {
        let blobs = directory.join("blobs").join(algorithm.word());
        let is_used = contents.digests.iter().any(|digest| digest.algorithm() == algorithm);
        if is_used {
            fs::create_dir_all(&blobs).map_err(StorageError::io("making", &blobs))?;
        }
        let wanted = contents.digests.iter().filter(|digest| digest.algorithm() == algorithm);
        mirror(storage, &blobs, &wanted.map(|digest| (digest.hex(), digest)).collect())?;
    }
    let layout = Layout { version: Layout::VERSION.to_owned() };
    replace(&directory.join("oci-layout"), &serde_json::to_vec(&layout).unwrap_or_default())?;
    replace(&directory.join("index.json"), &serde_json::to_vec(&index_of(&contents)).unwrap_or_default())?;
    sync_directory(&directory)?;
    Ok(contents.row)
}

fn read(storage: &Storage, row: RepositoryRow) -> Result<Contents, StorageError> {
    storage.read(|view| {
        let manifests = view.manifests(row.id)?;
        let blobs = view.blobs(row.id)?;
        let mut inner = HashSet::new();
        for manifest in &manifests {
            if view.is_needed(row.id, &manifest.digest)? {
                inner.insert(manifest.digest.clone());
            }
        }
        let tags = view.tags(row.id, "", usize::MAX)?;
        let digests = blobs.into_iter().map(|blob| blob.digest);
        let digests = digests.chain(manifests.iter().map(|manifest| manifest.digest.clone())).collect();
        Ok(Contents { row, manifests, tags, digests, inner })
    })
}

/// Tags as named entries, and whatever no other entry leads to without a name. Section "Image Layout", "index.json file".
fn index_of(contents: &Contents) -> Index {
    let manifests: HashMap<&Digest, &ManifestRow> =
        contents.manifests.iter().map(|manifest| (&manifest.digest, manifest)).collect();
    let mut entries = Vec::new();
    let mut named = HashSet::new();
    for tag in &contents.tags {
        if let Some(manifest) = manifests.get(&tag.digest) {
            let mut entry = entry_of(manifest);
            entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag.tag.clone());
            named.insert(&tag.digest);
            entries.push(entry);
        }
    }
    let nameless = contents.manifests.iter();
    let nameless = nameless.filter(|m| !named.contains(&m.digest) && !contents.inner.contains(&m.digest));
    entries.extend(nameless.map(entry_of));
    Index::new(entries)
}

fn entry_of(manifest: &ManifestRow) -> Descriptor {
    Descriptor::new(&manifest.media_type, manifest.digest.clone(), manifest.size)
}

/// Makes a directory hold these blobs and no others.
fn mirror(storage: &Storage, directory: &Path, wanted: &HashMap<&str, &Digest>) -> Result<(), StorageError> {
    let mut present = HashSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted.contains_key(name.as_str()) {
            present.insert(name);
        } else {
            let path = entry.path();
            fs::remove_file(&path).map_err(StorageError::io("removing", &path))?;
        }
    }
    let mut is_changed = false;
    for (name, digest) in wanted {
        if !present.contains(*name) {
            is_changed = true;
            link(&storage.blobs.path(digest), &directory.join(name))?;
        }
    }
    if is_changed { sync_directory(directory) } else { Ok(()) }
}

/// A hard link, or a copy where there can be no further link.
fn link(from: &Path, to: &Path) -> Result<(), StorageError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A blob that was deleted by hand: the layout lacks it as the repository does.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::MLINK | rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP) => copy(from, to),
            _ => Err(StorageError::io("linking", to)(error)),
        },
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), StorageError> {
    let failed = |error| StorageError::io("copying to", to)(error);
    let partial: PathBuf = to.with_extension("partial");
    let source = File::open(from).map_err(failed)?;
    let target = File::create(&partial).map_err(|error| StorageError::io("copying to", to)(error))?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        // The kernel copies within the file system where it can.
        io::copy(&mut &source, &mut &target).map_err(|error| StorageError::io("copying to", to)(error))?;
    }
    let moved = target.sync_all().and_then(|()| fs::rename(&partial, to));
    moved.map_err(|error| StorageError::io("copying to", to)(error))
}

/// Replaces a file as a whole.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let partial = path.with_extension("partial");
    let written = fs::write(&partial, bytes)
        .and_then(|()| File::open(&partial)?.sync_all())
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(StorageError::io("writing", path))
}

fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(StorageError::io("syncing", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_the_place_of_a_link_that_cannot_be() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, b"bytes").expect("write");
        copy(&from, &to).expect("copied");
        assert_eq!(fs::read(&to).expect("read"), b"bytes");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
    }
}
