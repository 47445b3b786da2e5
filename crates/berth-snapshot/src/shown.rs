//! Layers shown by themselves, read-only: an image that is mounted into the container of another one.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use berth_archive::LayerView;
use berth_oci::runtime::Mount;

use crate::{SnapshotError, container::escaped};

/// The mount that shows what `layers` (lowest first) have at `path`, read-only, for the runtime to make; its destination is left to the
/// caller. `None` if they have nothing there. Symbolic links on the way are followed within the layers.
///
/// # Errors
/// [`SnapshotError::Io`].
pub fn shown(layers: &[PathBuf], path: &Path) -> Result<Option<Mount>, SnapshotError> {
    let failed = SnapshotError::io("looking into the image for", path);
    let places = LayerView::open(layers).and_then(|view| {
        let Some((real, _)) = view.resolve(path.as_os_str().as_bytes())? else { return Ok(Vec::new()) };
        let real = Path::new(std::ffi::OsStr::from_bytes(&real)).to_owned();
        let uppermost_first = view.layers_of(real.as_os_str().as_bytes())?;
        Ok(uppermost_first.into_iter().map(|layer| layers[layers.len() - 1 - layer].join(&real)).collect())
    });
    Ok(mount_of(&places.map_err(failed)?))
}

fn mount_of(places: &[PathBuf]) -> Option<Mount> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    match places {
        [] => None,
        // An overlay has two layers at least.
        [one] => Some(Mount {
            kind: "bind".to_owned(),
            source: one.to_string_lossy().into_owned(),
            options: words(&["bind", "rprivate", "ro"]),
            ..Mount::default()
        }),
        places => {
            let lower: Vec<String> = places.iter().map(|place| escaped(place)).collect();
            let mut options = vec![format!("lowerdir={}", lower.join(":"))];
            options.extend(words(&["index=off", "metacopy=off", "redirect_dir=off", "ro"]));
            Some(Mount { kind: "overlay".to_owned(), source: "overlay".to_owned(), options, ..Mount::default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(files: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a layer")).expect("directories");
            std::fs::write(path, file).expect("a file");
        }
        let layers = ["low", "high"].map(|name| directory.path().join(name)).to_vec();
        (directory, layers)
    }

    #[test]
    fn directories_of_several_layers_are_stacked_and_others_bound() {
        let (directory, layers) = made(&["low/etc/a", "low/only/b", "high/etc/c"]);
        std::os::unix::fs::symlink("/only", directory.path().join("high/link")).expect("a link");
        let source = |path: &str| {
            let mount = shown(&layers, Path::new(path)).expect("readable").expect("there");
            (mount.kind, mount.source.replace(&directory.path().display().to_string(), ""), mount.options[0].clone())
        };
        assert_eq!(source("only"), ("bind".to_owned(), "/low/only".to_owned(), "bind".to_owned()));
        assert_eq!(source("link/b").1, "/low/only/b");
        let (high, low) = (layers[1].display(), layers[0].display());
        for (path, lower) in
            [("", format!("lowerdir={high}/:{low}/")), ("etc", format!("lowerdir={high}/etc:{low}/etc"))]
        {
            assert_eq!(source(path), ("overlay".to_owned(), "overlay".to_owned(), lower));
        }
        assert_eq!(shown(&layers, Path::new("none")).expect("readable"), None);
    }
}
