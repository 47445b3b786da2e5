//! A container's files as `cp` sees them: its root with its volumes and binds, whether it runs or not.
//!
//! Every path is resolved beneath the container's root by the kernel, in a tree of mounts that nobody else is in: no program and no library
//! of the container is ever run or loaded for it, and a link that the container changes meanwhile leads nowhere else (CVE-2018-15664,
//! CVE-2019-14271). Deliberately absent: what is mounted as memory or by the kernel - `/proc`, `/sys`, `/dev`, tmpfs - as in other engines.

use std::{
    ffi::OsStr,
    io::{self, BufReader, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use berth_archive::{
    Applier, ApplyOptions, LayerView, Owners, PackOptions, Replace, TarReader, Whiteouts, decoder, pack_path,
};
use berth_model::{ErrorKind, Timestamp};
use berth_sys::{private_tree::PrivateTree, rooted};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{EngineError, Inner, container::Visit, user, view::ContainerView};

/// How many symbolic links a path may lead through.
const MAX_LINKS: usize = 255;
/// What a container may put into /etc/passwd; more is no user file.
const MAX_USER_FILE: usize = 1 << 20;
/// How much of an archive is read at a time, in bytes.
const READ: usize = 256 * 1024;

/// What is wanted of a container's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look at them.
    Read,
    /// To change them: the container does not start meanwhile.
    Write,
}

/// The files of a container. They stay as long as this, even if the container is removed meanwhile.
pub struct ContainerFiles {
    pub(crate) engine: Arc<Inner>,
    pub(crate) view: Arc<ContainerView>,
    pub(crate) tree: Arc<PrivateTree>,
    pub(crate) _visit: Visit,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path, as it was asked for.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Type and permission bits, as stat(2) has them.
    pub mode: u32,
    /// Last change.
    pub modified: Timestamp,
    /// Where a symbolic link leads in the end.
    pub link_target: String,
}

/// Something that was found, to be read as an archive.
pub struct FoundPath {
    files: Arc<ContainerFiles>,
    /// What it is.
    pub stat: PathStat,
    directory: OwnedFd,
    /// Its name in `directory`; empty for that itself.
    base: Vec<u8>,
    name: Vec<u8>,
}

/// How an archive is put in.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtractOptions {
    /// A directory never takes the place of a file, nor a file that of a directory.
    pub keep_kinds: bool,
    /// Everything will belong to the container's user.
    pub to_container_user: bool,
}

impl ContainerFiles {
    /// Finds what is at a path. A symbolic link at its end is itself, unless a slash follows.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] in Docker's words; `name` is what the container was called.
    pub fn find(self: &Arc<Self>, path: &str, name: &str) -> Result<FoundPath, EngineError> {
        let absolute = absolute(path);
        let failed = |error: io::Error| lookup_error(error, path, &absolute, name);
        let root = self.tree.root();
        let found = rooted::open(root, &absolute, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&found).map_err(|e| failed(e.into()))?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.evaluate(Path::new(&absolute), MissingPart::Keep).map_err(failed)?,
            _ => PathBuf::new(),
        };
        let last = last_part(&absolute);
        let told = PathStat {
            name: last.to_owned(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            modified: modified(&stat),
            link_target: link_target.to_string_lossy().into_owned(),
        };
        let (directory, base) = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            (found, Vec::new())
        } else {
            let (directory, base) = rooted::open_parent(root, Path::new(&absolute)).map_err(failed)?;
            (directory, base.as_bytes().to_vec())
        };
        let name = last.as_bytes().to_vec();
        Ok(FoundPath { files: Arc::clone(self), stat: told, directory, base, name })
    }

    /// Puts the members of an archive, which may be compressed, into the directory at a path.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without that directory, [`ErrorKind::Invalid`] where nothing may be written, and for a bad archive.
    pub fn extract(
        &self,
        path: &str,
        archive: impl Read + Send,
        options: ExtractOptions,
        name: &str,
    ) -> Result<(), EngineError> {
        let absolute = absolute(path);
        let failed = |error: io::Error| lookup_error(error, path, &absolute, name);
        let directory = self.evaluate(Path::new(&absolute), MissingPart::Fail).map_err(failed)?;
        let found = rooted::open(self.tree.root(), &directory, OFlags::PATH, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&found).map_err(|e| failed(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(EngineError::invalid("extraction point is not a directory"));
        }
        self.check_writable(&directory)?;
        let options = ApplyOptions {
            whiteouts: Whiteouts::Keep,
            owners: if options.to_container_user { self.container_user()? } else { Owners::Recorded },
            replace: if options.keep_kinds { Replace::SameKind } else { Replace::Anything },
            root_attributes: false,
            ..ApplyOptions::default()
        };
        let root = self.tree.root().try_clone_to_owned().map_err(EngineError::io("opening", "/"))?;
        let input =
            decoder(BufReader::with_capacity(READ, archive)).map_err(EngineError::io("reading", "the archive"))?;
        let mut members = TarReader::new(BufReader::with_capacity(READ, input));
        let beneath = directory.strip_prefix("/").unwrap_or(&directory).as_os_str().as_bytes();
        let applied = Applier::new(root, LayerView::empty(), options).beneath(beneath).apply(&mut members);
        Ok(applied.map(drop)?)
    }

    /// Files go neither into a read-only volume nor into a root that is read-only.
    fn check_writable(&self, directory: &Path) -> Result<(), EngineError> {
        let beneath = |destination: &str| directory.starts_with(destination);
        let mounted = self.view.mounts.iter().filter(|point| beneath(&point.destination));
        match mounted.max_by_key(|point| point.destination.len()) {
            Some(point) if point.writable => Ok(()),
            Some(_) => Err(EngineError::invalid("mounted volume is marked read-only")),
            None if self.view.spec.host.isolation.readonly_rootfs => {
                Err(EngineError::invalid("container rootfs is marked read-only"))
            }
            None => Ok(()),
        }
    }

    fn container_user(&self) -> Result<Owners, EngineError> {
        let wanted = &self.view.spec.config.user;
        if wanted.is_empty() {
            return Ok(Owners::Recorded);
        }
        let read = |path: &str| -> Result<String, EngineError> {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = match rooted::open(self.tree.root(), path, flags, Mode::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
                file => file,
            };
            let bytes = file.and_then(|file| rooted::read_to_end(file, MAX_USER_FILE));
            let bytes = bytes.map_err(EngineError::io("reading in the container", path))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let user = user::resolve(wanted, &[], &read("/etc/passwd")?, &read("/etc/group")?)?;
        Ok(Owners::All { uid: user.uid, gid: user.gid })
    }

    /// Where a path leads once all links are followed, within the root.
    fn evaluate(&self, path: &Path, missing: MissingPart) -> io::Result<PathBuf> {
        let mut left: Vec<Vec<u8>> = parts(path.as_os_str().as_bytes());
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == b".." {
                real.pop();
                continue;
            }
            let next = real.join(OsStr::from_bytes(&part));
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let found = match rooted::open(self.tree.root(), &next, flags, Mode::empty()) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound && missing == MissingPart::Keep => {
                    real = next;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::Symlink {
                real = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&found, c"", Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                real = PathBuf::from("/");
            }
            left.extend(parts(&target));
        }
        Ok(real)
    }
}

/// What becomes of a part of a path that is nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MissingPart {
    /// The path keeps it: a link may lead nowhere.
    Keep,
    /// It is an error.
    Fail,
}

impl FoundPath {
    /// Writes it, with everything beneath it, as a tar.
    ///
    /// # Errors
    /// What reading or writing gives.
    pub fn write_to(&self, output: impl Write) -> Result<(), EngineError> {
        let options = PackOptions { whiteouts: Whiteouts::Keep, living: self.files.view.state.is_running() };
        let done = pack_path(self.directory.as_fd(), &self.base, &self.name, output, options);
        Ok(done.map(drop)?)
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> &ContainerView {
        &self.files.view
    }

    /// Tells the engine that it was read.
    pub fn note_read(&self) {
        self.files.engine.publish(&self.files.view, "archive-path", []);
    }
}

impl ContainerFiles {
    /// Tells the engine that something was put in.
    pub fn note_written(&self) {
        self.engine.publish(&self.view, "extract-to-dir", []);
    }
}

/// An absolute path without `.` and `..` inside; what it ends in still says whether a directory is meant.
fn absolute(path: &str) -> String {
    let clean = crate::container::clean_path(path);
    let ends_in_dot = path == "." || path.ends_with("/.");
    match clean.as_str() {
        "/" if ends_in_dot => "/.".to_owned(),
        "/" => clean,
        _ if ends_in_dot => format!("{clean}/."),
        _ if path.ends_with('/') => format!("{clean}/"),
        _ => clean,
    }
}

/// The last part of an absolute path: `.` where it ends so, `/` for the root.
fn last_part(absolute: &str) -> &str {
    match absolute.trim_end_matches('/').rsplit('/').next() {
        Some("") | None => "/",
        Some(last) => last,
    }
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let mut parts: Vec<Vec<u8>> = parts.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

fn lookup_error(error: io::Error, path: &str, absolute: &str, container: &str) -> EngineError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => EngineError::Refused {
            kind: ErrorKind::NotFound,
            message: format!("Could not find the file {path} in container {container}"),
        },
        Some(Errno::NOTDIR) => EngineError::invalid(format!("lstat {absolute}: not a directory")),
        Some(Errno::LOOP) => EngineError::invalid(format!("lstat {absolute}: too many levels of symbolic links")),
        _ => EngineError::io("looking up in the container", absolute)(error),
    }
}

#[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
fn modified(stat: &Stat) -> Timestamp {
    Timestamp::from_parts(stat.st_mtime as i64, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_says_what_is_meant() {
        for (path, expected, last) in [
            ("/tmp/a", "/tmp/a", "a"),
            ("tmp/a", "/tmp/a", "a"),
            ("/tmp/dir/", "/tmp/dir/", "dir"),
            ("/tmp/dir/.", "/tmp/dir/.", "."),
            ("/", "/", "/"),
            ("/.", "/.", "."),
            (".", "/.", "."),
            ("/a/../../b", "/b", "b"),
        ] {
            assert_eq!((absolute(path).as_str(), last_part(&absolute(path))), (expected, last), "{path}");
        }
    }
}
