//! Starts the daemon where nobody else does: on a new machine `berth run hello-world` is the first and only command.
//!
//! The daemon is this same file. It outlives us fully: a session of its own, no terminal, its own log file, outside our cgroup where the
//! kernel allows that. Of several clients that come at once, one starts it and the others wait.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_client::Client;
use rustix::fs::{FlockOperation, flock};

use crate::error::CliError;

/// The first word with which we run ourselves to leave the session and become the daemon.
pub(crate) const DETACH_WORD: &str = "__become-daemon";

const RUN_DIRECTORY: &str = "/run/berth";
const LOG_FILE: &str = "/run/berth/berthd.log";
const LOCK_FILE: &str = "/run/berth/start.lock";

/// A daemon that has not come up by then says in its log why.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How much of the log's end is shown when the daemon does not come up.
const SHOWN_LOG_LINES: usize = 10;

/// Starts the daemon and returns when it answers.
pub(crate) fn start(client: &Client) -> Result<(), CliError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        CliError::message(format!("cannot start the daemon: {what}: {error}"))
    };
    fs::DirBuilder::new().recursive(true).mode(0o711).create(RUN_DIRECTORY).map_err(|e| failed(RUN_DIRECTORY, &e))?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(LOCK_FILE);
    let lock = lock.map_err(|error| failed(LOCK_FILE, &error))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(LOCK_FILE, &error))?;
    // Another client may have started it while we waited for the lock, which closes with the file.
    if client.probe().is_ok() {
        return Ok(());
    }
    let log = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(LOG_FILE);
    let log = log.map_err(|error| failed(LOG_FILE, &error))?;
    let log_begins = log.metadata().map_or(0, |metadata| metadata.len());
    let mut daemon = spawn(&log).map_err(|error| failed("running our own file", &error))?;
    wait_until_it_answers(client, &mut daemon).map_err(|reason| {
        CliError::message(format!("cannot start the daemon: {reason}{}", last_lines(Path::new(LOG_FILE), log_begins)))
    })
}

/// Our own file by its name, which process lists then show; by the kernel's link where the file was replaced meanwhile.
fn own_file() -> PathBuf {
    let link = PathBuf::from("/proc/self/exe");
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or(link)
}

fn spawn(log: &File) -> std::io::Result<Child> {
    Command::new(own_file())
        .arg0("berth")
        .arg(DETACH_WORD)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
}

/// Waits for the socket, or for the daemon's early end.
fn wait_until_it_answers(client: &Client, daemon: &mut Child) -> Result<(), String> {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if client.probe().is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = daemon.try_wait() {
            return Err(format!("it ended with {status}"));
        }
        if begin.elapsed() > START_LIMIT {
            return Err(format!("it does not answer after {} seconds", START_LIMIT.as_secs()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn last_lines(path: &Path, from: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut text)
    });
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    if read.is_err() || lines.is_empty() {
        return format!("; {} has nothing about it", path.display());
    }
    let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
    format!("; the end of {}:\n  {}", path.display(), shown.join("\n  "))
}

/// In the process that [`start`] made: leaves the client's session and cgroup, and becomes `berthd`.
pub(crate) fn become_daemon() -> Result<(), CliError> {
    // A process that was just made leads no group, so that this cannot fail.
    let _ = rustix::process::setsid();
    leave_cgroup();
    let error = Command::new(own_file()).arg0("berthd").exec();
    Err(CliError::message(format!("becoming berthd: {error}")))
}

/// Moves this process to the root of every cgroup hierarchy that lets it: the daemon must not die with the user's session, nor count
/// against its limits. Where it is not allowed the daemon stays where it is.
fn leave_cgroup() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if path == "/" {
            continue;
        }
        let mounts: &[String] = &match controllers.strip_prefix("name=").unwrap_or(controllers) {
            "" => vec!["/sys/fs/cgroup".to_owned(), "/sys/fs/cgroup/unified".to_owned()],
            name => vec![format!("/sys/fs/cgroup/{name}")],
        };
        for mount in mounts {
            let _ = fs::write(format!("{mount}/cgroup.procs"), "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_shown_is_the_end_of_this_start_only() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        fs::write(&path, "an older start\n").expect("write");
        let from = fs::metadata(&path).expect("metadata").len();
        assert!(last_lines(&path, from).contains("nothing about it"));
        fs::write(&path, "an older start\none\ntwo\n").expect("write");
        assert_eq!(last_lines(&path, from), format!("; the end of {}:\n  one\n  two", path.display()));
    }
}
