//! Namespaces and directories for one engine, held by a process that ends with the test.

use std::{
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

/// Where control groups are.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Namespaces and directories for one engine.
pub struct Sandbox {
    directory: TempDir,
    holder: Child,
    /// The holder waits for the end of this; it ends with us, however we end.
    _leash: ChildStdin,
    cgroup_parent: String,
}

impl Sandbox {
    /// Makes a network namespace with loopback up, and a mount namespace that gives nothing back.
    ///
    /// # Panics
    /// If the machine does not let us: these tests need root.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::Builder::new().prefix("berth-test-").tempdir().expect("a temporary directory");
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "slave",
                "sh",
                "-c",
                "ip link set lo up && echo ready && exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, from Debian's util-linux");
        let leash = holder.stdin.take().expect("piped");
        let mut ready = [0; 6];
        let mut out = holder.stdout.take().expect("piped");
        std::io::Read::read_exact(&mut out, &mut ready).expect("namespaces: these tests need root and iproute2");
        let cgroup_parent = format!("/berth-test-{}-{number}", std::process::id());
        Self { directory, holder, _leash: leash, cgroup_parent }
    }

    /// The temporary directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The engine's root directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// The engine's runtime directory.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The Engine API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("berth.sock")
    }

    /// The daemon's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path().join("daemon.log")
    }

    /// The parent of the containers' cgroups.
    #[must_use]
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// A command that runs in the namespaces.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", "--"]).arg(program);
        command
    }

    /// The output of a shell line in the namespaces.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn shell(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).output().expect("sh");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Directories of the containers' cgroups, in every hierarchy.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let name = &self.cgroup_parent[1..];
        let hierarchies = std::fs::read_dir(CGROUP_ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
        hierarchies
            .chain([PathBuf::from(CGROUP_ROOT)])
            .map(|path| path.join(name))
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Removes the parent of the containers' cgroups, which the engine keeps.
    pub(crate) fn remove_cgroups(&self) {
        for directory in self.cgroups() {
            remove_cgroup(&directory);
        }
    }
}

fn remove_cgroup(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(directory);
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
