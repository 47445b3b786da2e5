//! What the shim leaves in its runtime directory for a manager that comes back: `shim.json` and `exit.json`.

use std::io;
use std::path::Path;

use berth_model::Timestamp;
use serde::Serialize;

use crate::process::Exit;

/// Version of both files.
pub const VERSION: u32 = 1;

/// `shim.json`: who serves which container, and where.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShimRecord<'a> {
    /// [`VERSION`].
    pub version: u32,
    /// The container's main process.
    pub pid: u32,
    /// The shim.
    pub shim_pid: u32,
    /// Where the shim listens.
    pub socket: &'a Path,
    /// The container.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a Path,
    /// When its program began.
    pub started_at: Timestamp,
}

/// `exit.json`: how the main process ended.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExitRecord {
    pid: u32,
    exit_code: u32,
    exited_at: Timestamp,
    oom_killed: bool,
}

/// Writes `shim.json`.
pub fn write_shim(directory: &Path, record: &ShimRecord<'_>) -> io::Result<()> {
    write(directory, "shim.json", &serde_json::to_vec(record)?)
}

/// Writes `exit.json`.
pub fn write_exit(directory: &Path, pid: u32, exit: Exit) -> io::Result<()> {
    let Exit { code, at, oom_killed } = exit;
    let record = ExitRecord { pid, exit_code: code, exited_at: at, oom_killed };
    write(directory, "exit.json", &serde_json::to_vec(&record)?)
}

/// Removes the files and the directory.
pub fn remove(directory: &Path) {
    for name in ["shim.json", "exit.json"] {
        let _ = rustix::fs::unlink(directory.join(name));
    }
    // Anything else in it is not ours, and keeps it.
    let _ = rustix::fs::rmdir(directory);
}

/// Whole or absent: written aside and renamed. Not synced, the runtime directory does not outlive the machine.
fn write(directory: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let aside = directory.join(format!(".{name}"));
    match std::fs::write(&aside, text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(directory)?;
            std::fs::write(&aside, text)?;
        }
        result => result?,
    }
    std::fs::rename(aside, directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shims/abc");
        let exit = Exit { code: 137, at: Timestamp::from_nanos(1_714_557_600_120_000_000), oom_killed: true };
        write_exit(&path, 42, exit).unwrap();
        assert_eq!(
            std::fs::read_to_string(path.join("exit.json")).unwrap(),
            r#"{"pid":42,"exitCode":137,"exitedAt":"2024-05-01T10:00:00.12Z","oomKilled":true}"#
        );
        remove(&path);
        assert!(!path.exists());
    }
}
