//! Manifest lists in the making, in the user's own directory: where and how docker's client keeps them, so that each goes on with the other's.
//!
//! `manifests/<list>/<manifest>` is one document; in both names other characters stand for `:` and `/`.

use std::io;
use std::path::{Path, PathBuf};

use berth_api::auth::RemoteManifest;
use berth_model::ImageRef;

use super::document::{Known, broken};
use crate::CliError;
use crate::human::system_error;

/// How names are written as names of files.
type Spelling = [(char, &'static str); 2];
/// As clients do it up to now.
const DASHES: Spelling = [(':', "-"), ('/', "_")];
/// As the next ones do it. A list of that form is gone on with, but none is begun: today's clients would not find it.
const SIGNS: Spelling = [(':', "%"), ('/', "#")];

/// The lists of a user.
pub(super) struct LocalLists {
    root: PathBuf,
}

impl LocalLists {
    /// Those in a configuration directory.
    pub fn of(config: &Path) -> Self {
        Self { root: config.join("manifests") }
    }

    /// The manifests of a list, by their names; `None` if there is no such list.
    pub fn list(&self, list: &ImageRef) -> Result<Option<Vec<RemoteManifest>>, CliError> {
        let directory = self.directory(list);
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(failed("read", &directory))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry.map_err(failed("read", &directory))?.path());
        }
        files.sort();
        files.iter().map(|file| read(file)?.ok_or_else(|| no_such(list))).collect::<Result<_, _>>().map(Some)
    }

    /// The manifests of a list that must be there.
    pub fn existing(&self, list: &ImageRef) -> Result<Vec<RemoteManifest>, CliError> {
        self.list(list)?.ok_or_else(|| no_such(list))
    }

    /// One manifest of a list.
    pub fn manifest(&self, list: &ImageRef, manifest: &ImageRef) -> Result<Option<RemoteManifest>, CliError> {
        read(&self.file(list, manifest))
    }

    /// Keeps a manifest under a name in a list, which is made if there is none.
    pub fn save(&self, list: &ImageRef, name: &ImageRef, manifest: &RemoteManifest) -> Result<(), CliError> {
        let directory = self.directory(list);
        std::fs::create_dir_all(&directory).map_err(failed("make", &directory))?;
        let text = serde_json::to_vec(&Known::of(manifest)?).map_err(|error| broken(&error))?;
        let file = self.file(list, name);
        std::fs::write(&file, text).map_err(failed("write", &file))
    }

    /// Throws a list away.
    pub fn remove(&self, list: &ImageRef) -> Result<(), CliError> {
        let directory = self.directory(list);
        std::fs::remove_dir_all(&directory).map_err(failed("remove", &directory))
    }

    fn spelling(&self, list: &ImageRef) -> &'static Spelling {
        if self.root.join(spelled(&SIGNS, list)).is_dir() { &SIGNS } else { &DASHES }
    }

    fn directory(&self, list: &ImageRef) -> PathBuf {
        self.root.join(spelled(self.spelling(list), list))
    }

    fn file(&self, list: &ImageRef, manifest: &ImageRef) -> PathBuf {
        self.directory(list).join(spelled(self.spelling(list), manifest))
    }
}

fn read(file: &Path) -> Result<Option<RemoteManifest>, CliError> {
    let text = match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(failed("read", file))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| CliError::message(format!("{}: {error}", file.display())))
}

fn spelled(spelling: &Spelling, reference: &ImageRef) -> String {
    spelling.iter().fold(reference.to_string(), |name, (character, sign)| name.replace(*character, sign))
}

fn no_such(list: &ImageRef) -> CliError {
    CliError::message(format!("No such manifest: {list}"))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |error| CliError::message(format!("{action} {}: {}", path.display(), system_error(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_either_spelling_is_found() {
        let home = tempfile::tempdir().expect("a directory");
        let lists = LocalLists::of(home.path());
        let (list, name): (ImageRef, ImageRef) =
            ("reg:5000/a/b:1".parse().expect("a name"), "busybox".parse().expect("a name"));
        assert_eq!(lists.list(&list).expect("read"), None);
        let manifest = RemoteManifest { raw: "e30=".to_owned(), ..RemoteManifest::default() };
        for directory in
            ["reg-5000_a_b-1/docker.io_library_busybox-latest", "reg%5000#a#b%1/docker.io#library#busybox%latest"]
        {
            let file = home.path().join("manifests").join(directory);
            if directory.contains('%') {
                std::fs::create_dir_all(file.parent().expect("a list")).expect("made");
            }
            lists.save(&list, &name, &manifest).expect("save");
            assert!(file.is_file(), "{directory}");
            assert_eq!(lists.existing(&list).expect("read"), std::slice::from_ref(&manifest));
        }
        lists.remove(&list).expect("remove");
        assert_eq!(lists.existing(&list).expect("the other one").len(), 1);
    }
}
