//! A bundle with busybox in it, and the runtime called on it.

use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A bundle in a directory of its own; all containers made from it, and it, are gone when dropped.
pub(crate) struct Bundle {
    directory: tempfile::TempDir,
    pub(crate) config: Value,
    id: String,
    runs: Cell<u32>,
}

/// What a call of the runtime did.
pub(crate) struct Outcome {
    what: String,
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Debian's static busybox.
pub(crate) fn busybox() -> Option<PathBuf> {
    let found = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.exists())?;
    Some(found)
}

const APPLETS: [&str; 30] = [
    "sh", "true", "false", "sleep", "cat", "ls", "ps", "mount", "umount", "id", "hostname", "touch", "stat", "pwd",
    "env", "grep", "readlink", "mkdir", "echo", "head", "test", "tty", "stty", "kill", "sed", "uname", "ulimit",
    "mknod", "chown", "wc",
];

const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Bundle {
    /// A bundle that runs `script` in a shell.
    pub(crate) fn new(script: &str) -> Bundle {
        let directory = tempfile::Builder::new().prefix("berth-test-").tempdir().expect("a directory");
        let rootfs = directory.path().join("rootfs");
        for path in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
            std::fs::create_dir_all(rootfs.join(path)).expect("a directory");
        }
        std::fs::copy(busybox().expect("busybox-static"), rootfs.join("bin/busybox")).expect("busybox");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("a link");
        }
        let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        std::fs::write(rootfs.join("etc/passwd"), users).expect("a user table");
        let id = directory.path().file_name().expect("a name").to_string_lossy().replace('.', "_");
        let mut bundle = Bundle { directory, config: Value::Null, id, runs: Cell::new(0) };
        bundle.config = bundle.default_config(script);
        bundle
    }

    fn default_config(&self, script: &str) -> Value {
        let capabilities = json!(DEFAULT_CAPABILITIES);
        json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "root": {"path": "rootfs"},
            "hostname": "box",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "cgroupsPath": format!("/berth-test-runtime/{}", self.id),
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/acpi"],
                "readonlyPaths": ["/proc/sys", "/proc/bus"],
            },
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Adds a mount.
    pub(crate) fn mount(&mut self, mount: Value) -> &mut Self {
        self.config["mounts"].as_array_mut().expect("mounts").push(mount);
        self
    }

    pub(crate) fn write_config(&self) {
        std::fs::write(self.path().join("config.json"), self.config.to_string()).expect("a config");
    }

    /// Runs the bundle to its end.
    pub(crate) fn run(&self) -> Outcome {
        self.write_config();
        self.runs.set(self.runs.get() + 1);
        let id = format!("{}-{}", self.id, self.runs.get());
        self.call(&["run", "--bundle", &self.path().to_string_lossy(), &id])
    }

    /// Makes the container, which waits.
    pub(crate) fn create(&self) -> Outcome {
        self.write_config();
        let mut command = self.command(&["create", "--bundle", &self.path().to_string_lossy(), &self.id]);
        // The container inherits the streams: a pipe of ours would stay open as long as it lives.
        let output = std::fs::File::create(self.path().join("output")).expect("a file");
        command.stdout(output);
        let errors = self.path().join("errors");
        command.stderr(std::fs::File::create(&errors).expect("a file"));
        let status = command.status().expect("the runtime");
        let stderr = std::fs::read_to_string(errors).expect("the errors");
        Outcome { what: "create".to_owned(), status: status.code().unwrap_or(-1), stdout: String::new(), stderr }
    }

    /// Makes and starts the container.
    pub(crate) fn start(&self) {
        self.create().succeeds();
        self.call(&["start", &self.id]).succeeds();
    }

    /// What the created container has written.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.path().join("output")).expect("the output")
    }

    /// Calls the runtime.
    pub(crate) fn call(&self, args: &[&str]) -> Outcome {
        let output = self.command(args).output().expect("the runtime");
        Outcome::new(&args.join(" "), &output)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the own program"));
        command.arg0("berth-runtime").arg("--root").arg(self.path().join("state")).args(args).stdin(Stdio::null());
        command
    }

    /// The status that `state` tells.
    pub(crate) fn status(&self) -> String {
        let outcome = self.call(&["state", &self.id]).succeeds();
        let state: Value = serde_json::from_str(&outcome.stdout).expect("a state");
        state["status"].as_str().expect("a status").to_owned()
    }

    /// Waits until the container has the status.
    pub(crate) fn wait_for(&self, status: &str) {
        for _ in 0..500 {
            if self.status() == status {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("not {status} but {}", self.status());
    }

    /// The container's directories in the cgroup hierarchies that are left.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let layout = berth_cgroup::Layout::probe().expect("cgroups");
        let directory = |point: &Path| point.join("berth-test-runtime").join(&self.id);
        layout
            .hierarchies()
            .iter()
            .map(|hierarchy| directory(hierarchy.mount_point()))
            .filter(|path| path.exists())
            .collect()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id]);
        let layout = berth_cgroup::Layout::probe().expect("cgroups");
        for hierarchy in layout.hierarchies() {
            // The parent of all tests: the last one that leaves takes it along.
            let _ = std::fs::remove_dir(hierarchy.mount_point().join("berth-test-runtime"));
        }
    }
}

impl Outcome {
    fn new(what: &str, output: &Output) -> Outcome {
        Outcome {
            what: what.to_owned(),
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Outcome {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Outcome {
        assert_eq!(self.status, status, "{}:\n{}{}", self.what, self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Outcome {
        let outcome = self.succeeds();
        assert_eq!(outcome.stdout, text, "{}: {}", outcome.what, outcome.stderr);
        outcome
    }

    /// Fails with one line that holds `text`.
    #[track_caller]
    pub(crate) fn fails(self, text: &str) -> Outcome {
        assert_ne!(self.status, 0, "{}:\n{}", self.what, self.stdout);
        assert!(self.stderr.contains(text), "{}:\n{}", self.what, self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}", self.stderr);
        self
    }
}
