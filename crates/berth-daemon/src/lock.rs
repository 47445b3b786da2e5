//! One daemon per data root, and the file with its process id.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why this daemon may not run.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one uses the data root.
    #[error("another berthd{} uses {}", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), .root.display())]
    Taken {
        /// The data root.
        root: PathBuf,
        /// The other's process id, if it is known.
        pid: Option<u32>,
    },
    /// The process of the file is alive.
    #[error("the process {pid} of {} is still running", .path.display())]
    Running {
        /// The file.
        path: PathBuf,
        /// The process.
        pid: u32,
    },
    /// A file cannot be used.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Holds a data root as long as it lives.
#[derive(Debug)]
pub struct RootLock {
    _file: File,
}

impl RootLock {
    /// Takes the data root, which must exist.
    pub fn take(root: &Path) -> Result<Self, LockError> {
        let path = root.join("berthd.lock");
        let failed = |source: io::Error| LockError::File { path: path.clone(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            drop(file.read_to_string(&mut text));
            return Err(LockError::Taken { root: root.to_owned(), pid: text.trim().parse().ok() });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(RootLock { _file: file })
    }
}

/// The file with the process id; removed when it is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file, unless it names another process that is alive.
    pub fn write(path: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::File { path: path.to_owned(), source };
        let old: Option<u32> = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = old.filter(|pid| *pid != std::process::id() && is_daemon(*pid)) {
            return Err(LockError::Running { path: path.to_owned(), pid });
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        std::fs::write(path, format!("{}\n", std::process::id())).map_err(failed)?;
        Ok(PidFile { path: path.to_owned() })
    }
}

/// Whether a process is a daemon of ours: after a boot its number may be anybody's.
fn is_daemon(pid: u32) -> bool {
    let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe"));
    match (link(&pid.to_string()), link("self")) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => false,
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Nothing depends on it: the next daemon looks whether the process is alive.
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_root_has_one_daemon() {
        let root = std::env::temp_dir().join(format!("berth-lock-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("directory");
        let held = RootLock::take(&root).expect("free");
        let taken = RootLock::take(&root).expect_err("taken").to_string();
        assert_eq!(taken, format!("another berthd (pid {}) uses {}", std::process::id(), root.display()));
        drop(held);
        assert!(RootLock::take(&root).is_ok());
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn a_stale_process_id_is_no_obstacle() {
        let path = std::env::temp_dir().join(format!("berth-pid-{}", std::process::id()));
        std::fs::write(&path, "1\n").expect("stale file");
        let file = PidFile::write(&path).expect("init is no berthd");
        assert_eq!(std::fs::read_to_string(&path).expect("file"), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
