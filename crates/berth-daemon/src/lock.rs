//! One daemon per data root, and the file with its process id.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long a new daemon waits for the lock of one that is dying: its last thread may be in the middle of a sync.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);

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
    /// Takes the data root, which must exist. Waits for a daemon that is dying, as one does that was killed while it wrote to the disk.
    ///
    /// # Errors
    /// [`LockError::Taken`] at once where another daemon lives.
    pub fn take(root: &Path) -> Result<Self, LockError> {
        let path = root.join("berthd.lock");
        let failed = |source: io::Error| LockError::File { path: path.clone(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        let mut told = false;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // Read each time: whoever has just taken the lock has yet to write who he is.
            let pid = holder(&mut file);
            if pid.is_some_and(lives) || Instant::now() > deadline {
                return Err(LockError::Taken { root: root.to_owned(), pid });
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(root = %root.display(), ?pid, "waiting for the end of a daemon that is dying");
            }
            std::thread::sleep(INTERVAL);
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(RootLock { _file: file })
    }
}

/// The process that a lock's file names.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

/// Whether a process goes on.
fn lives(pid: u32) -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
    matches!((read("stat"), read("status")), (Ok(stat), Ok(status)) if goes_on(&stat, &status))
}

/// The same from its two files in /proc, see proc_pid_stat(5) and proc_pid_status(5). A process that was killed is seen as a zombie once its
/// first thread has gone, as exiting before, and with a pending SIGKILL as long as it is inside of a system call.
fn goes_on(stat: &str, status: &str) -> bool {
    const EXITING: u64 = 4;
    const KILL: u64 = 1 << 8;
    // The program's name may be anything, spaces and parentheses too.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let state = fields.next().unwrap_or("X");
    let flags: u64 = fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or_default();
    let pending = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    !matches!(state, "Z" | "X" | "x") && flags & EXITING == 0 && pending.fold(0, |all, mask| all | mask) & KILL == 0
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
        // A program that another test starts has a copy of the lock until it is executed.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = RootLock::take(&root) {
            assert!(Instant::now() < deadline, "{error}");
        }
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn a_data_root_is_taken_over_from_a_daemon_that_is_dying() {
        let root = std::env::temp_dir().join(format!("berth-dying-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("directory");
        let held = RootLock::take(&root).expect("free");
        // Dead, but nobody has asked how it ended.
        let mut dead = std::process::Command::new("/bin/true").spawn().expect("true, of coreutils");
        while lives(dead.id()) {
            std::thread::yield_now();
        }
        std::fs::write(root.join("berthd.lock"), dead.id().to_string()).expect("its name");
        let next = std::thread::spawn({
            let root = root.clone();
            move || RootLock::take(&root).map(drop)
        });
        // Long enough for the first look in most cases; the outcome is the same in all.
        std::thread::sleep(INTERVAL * 3);
        drop(held);
        next.join().expect("no panic").expect("taken over");
        dead.wait().expect("ours");
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn a_process_that_was_killed_does_not_go_on() {
        let stat = |state: &str, flags: u64| format!("7 (a) b) {state} 1 7 7 0 -1 {flags} 0 0");
        let status = |own: &str, shared: &str| {
            format!("Name:\ta\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0000000000000100\n")
        };
        let none = "0000000000000000";
        let kill = "0000000000000100";
        for (stat, status, expected) in [
            (stat("S", 0x0040_0000), status(none, none), true),
            (stat("D", 0), status(none, "0000000000004000"), true),
            (stat("D", 0), status(kill, none), false),
            (stat("D", 0), status(none, kill), false),
            (stat("R", 4), status(none, none), false),
            (stat("Z", 0), status(none, none), false),
            (String::new(), String::new(), false),
        ] {
            assert_eq!(goes_on(&stat, &status), expected, "{stat}\n{status}");
        }
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
