//! This machine's end of a copy.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use berth_archive::{Applier, ApplyOptions, LayerView, Owners, PackOptions, Replace, TarReader, Whiteouts, pack_path};

use super::paths::{absolute, base, join, keep_end, split};
use super::plan::{Copied, Place};
use crate::CliError;
use crate::human::system_error;

/// How many links a destination may lead through.
const MAX_LINKS: usize = 10;
/// How much is read at a time, in bytes.
const READ: usize = 256 * 1024;

/// A source on this machine.
pub(crate) struct Source {
    /// What it is.
    pub place: Place,
}

impl Source {
    /// Looks at a path; with `follow` at what a link at its end leads to.
    pub(crate) fn find(path: &str, follow: bool) -> Result<Source, CliError> {
        let here = here()?;
        let full = absolute(path, &here);
        let real = |path: &str| -> Result<String, CliError> {
            let real = fs::canonicalize(path).map_err(|error| failed("lstat", path, &error))?;
            Ok(real.to_string_lossy().into_owned())
        };
        let (resolved, asked_as) = if follow {
            let resolved = keep_end(&real(&full)?, &full);
            let differs = base(&full) != base(&resolved);
            (resolved, differs.then(|| base(&full).to_owned()))
        } else {
            let (directory, name) = split(&full);
            let resolved = if name == "/" { "/".to_owned() } else { format!("{}/{name}", real(&directory)?) };
            (resolved, None)
        };
        let data = fs::symlink_metadata(&resolved).map_err(|error| failed("lstat", &resolved, &error))?;
        // A slash behind a link to a directory means that directory.
        let is_directory = data.is_dir() || full.ends_with('/') && Path::new(&full).is_dir();
        Ok(Source { place: Place { path: resolved, exists: true, is_directory, asked_as } })
    }

    /// Writes it as a tar, under the name that `copied` gives it.
    pub(crate) fn write_to(&self, copied: &Copied, output: impl Write) -> Result<(), CliError> {
        let (directory, own_name) = split(&self.place.path);
        let name = match &copied.renamed {
            Some((_, name)) => name.clone(),
            None => self.place.asked_as.clone().unwrap_or_else(|| own_name.clone()),
        };
        let root = fs::File::open(&directory).map_err(|error| failed("open", &directory, &error))?;
        let path: &[u8] = if matches!(own_name.as_str(), "." | "/") { b"" } else { own_name.as_bytes() };
        let options = PackOptions { whiteouts: Whiteouts::Keep, living: true };
        let packed = pack_path(root.as_fd(), path, name.as_bytes(), output, options);
        packed.map(drop).map_err(|error| CliError::message(error.to_string()))
    }
}

/// Where a path on this machine leads, and whether something is there. Its directory must be.
pub(crate) fn resolve_destination(path: &str) -> Result<Place, CliError> {
    let mut path = absolute(path, &here()?);
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_symlink() => {
                let target = fs::read_link(&path).map_err(|error| failed("readlink", &path, &error))?;
                let target = target.to_string_lossy().into_owned();
                let directory = split(&path).0;
                path = if target.starts_with('/') { target } else { join(&directory, &target) };
            }
            Ok(data) => {
                return Ok(Place { path, exists: true, is_directory: data.is_dir(), asked_as: None });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = split(&path).0;
                let found = fs::metadata(&directory).map_err(|error| failed("stat", &directory, &error))?;
                if !found.is_dir() {
                    return Err(CliError::message("not a directory"));
                }
                return Ok(Place { path, ..Place::default() });
            }
            Err(error) => return Err(failed("lstat", &path, &error)),
        }
    }
    Err(CliError::message(format!("too many symbolic links in {path:?}")))
}

/// Unpacks an archive that a daemon sent. Nothing in it leads out of the directory, whatever its names and links say.
pub(crate) fn extract(copied: &Copied, archive: impl Read, keep_owners: bool) -> Result<(), CliError> {
    let directory = &copied.directory;
    let root = fs::File::open(directory).map_err(|error| failed("open", directory, &error))?;
    let privileged = keep_owners && rustix::process::geteuid().is_root();
    let options = ApplyOptions {
        whiteouts: Whiteouts::Keep,
        owners: if privileged { Owners::Recorded } else { Owners::Caller },
        replace: Replace::SameKind,
        root_attributes: false,
        ..ApplyOptions::default()
    };
    let mut applier = Applier::new(root.into(), LayerView::empty(), options);
    if let Some((from, to)) = &copied.renamed {
        // The names of an archive of the root, or of a directory's content, all lie in it.
        let from = if matches!(from.as_str(), "." | "/") { "" } else { from };
        applier = applier.renamed(from.as_bytes(), to.as_bytes());
    }
    let mut members = TarReader::new(BufReader::with_capacity(READ, archive));
    applier.apply(&mut members).map_err(|error| CliError::message(error.to_string()))?;
    members.drain().map(drop).map_err(|error| CliError::message(error.to_string()))
}

fn here() -> Result<String, CliError> {
    Ok(std::env::current_dir()?.to_string_lossy().into_owned())
}

fn failed(what: &str, path: &str, error: &io::Error) -> CliError {
    CliError::message(format!("{what} {path}: {}", system_error(error)))
}
