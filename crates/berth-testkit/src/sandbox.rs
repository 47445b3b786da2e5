//! Namespaces and directories for one engine, held by a process that ends with the test.

use std::{
    os::fd::AsFd as _,
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

    /// The engine's root directory as it can be reached from outside, also if it is on a file system that only the namespaces have.
    #[must_use]
    pub fn visible_root(&self) -> PathBuf {
        let inside = self.root();
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(inside.strip_prefix("/").unwrap_or(&inside))
    }

    /// Gives the root directory a file system of its own, of so many MiB.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub(crate) fn put_root_on_small_disk(&mut self, mebibytes: u32) {
        std::fs::create_dir(self.root()).expect("a directory of our own");
        let options = format!("size={mebibytes}m,mode=710");
        let mounted =
            self.command("mount").args(["-t", "tmpfs", "-o", &options, "berth-small-disk"]).arg(self.root()).status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount, from Debian's util-linux");
    }

    /// Makes the root directory's own file system so large that just so many KiB are free.
    ///
    /// # Panics
    /// If it has none.
    pub fn leave_free(&self, kibibytes: u64) {
        let resized = |_| {
            let stat = rustix::fs::statvfs(self.visible_root()).expect("mounted");
            let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize / 1024;
            let options = format!("remount,size={}k", used + kibibytes);
            let mounted = self.command("mount").args(["-o", &options]).arg(self.root()).stderr(Stdio::null()).status();
            mounted.is_ok_and(|status| status.success())
        };
        // Who writes meanwhile may have used more than would be left.
        assert!((0..50).any(resized), "the root is a file system of its own");
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

    /// A process that holds the namespaces.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that runs in the namespaces.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", "--"]).arg(program);
        command
    }

    /// Runs something on a thread in the network namespace. Sockets made there belong there, whoever uses them later.
    ///
    /// # Panics
    /// If the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("the holder lives");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(network.as_fd(), kind).expect("these tests need root");
                work()
            });
            thread.join().expect("what runs inside does not panic")
        })
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
    // A process that ends because the daemon has may be on its last microseconds.
    for _ in 0..50 {
        match std::fs::remove_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            _ => return,
        }
    }
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
