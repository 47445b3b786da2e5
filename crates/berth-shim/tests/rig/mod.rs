//! A shim with its bundle in a temporary directory, and the few calls that tests make all the time.

#[allow(dead_code, reason = "for those who fork shims")]
pub mod zygote;

use berth_proto::client::{CallError, Client};
use berth_proto::shim as api;
use prost::Message;
use std::cell::RefCell;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Rig {
    id: String,
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    client: RefCell<Option<Client>>,
    shim: RefCell<Option<Child>>,
    log: PathBuf,
    small: bool,
}

const APPLETS: [&str; 8] = ["sh", "sleep", "seq", "cat", "echo", "stty", "printf", "true"];

impl Rig {
    pub fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("bundle/rootfs");
        for path in ["bin", "proc", "dev", "tmp", "etc", "sys"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let id = format!(
            "berth-test-{name}-{}-{}",
            std::process::id(),
            directory.path().file_name().unwrap().to_string_lossy().trim_start_matches('.')
        );
        let log = directory.path().join("json.log");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { id, directory, runtime, client: RefCell::default(), shim: RefCell::default(), log, small: false }
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time") })
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("bundle/rootfs")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s/socket")
    }

    pub fn exit_file(&self) -> PathBuf {
        self.directory.path().join("shims/exit.json")
    }

    /// A request to run a script.
    pub fn request(&self, script: &str) -> api::LaunchRequest {
        self.request_for(&["sh", "-c", script])
    }

    pub fn request_for(&self, arguments: &[&str]) -> api::LaunchRequest {
        let namespaces: Vec<_> =
            ["pid", "mount", "ipc", "uts", "network"].iter().map(|kind| serde_json::json!({ "type": kind })).collect();
        let spec = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": serde_json::from_slice::<serde_json::Value>(&process(arguments)).unwrap(),
            "root": { "path": "rootfs" },
            "hostname": "test",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] },
            ],
            "linux": { "namespaces": namespaces, "cgroupsPath": format!("/{}", self.id) },
        });
        let bundle = self.directory.path().join("bundle");
        std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        api::LaunchRequest {
            id: self.id.clone(),
            bundle: text(&bundle),
            runtime_dir: text(&self.directory.path().join("shims")),
            socket_path: text(&self.socket()),
            log: Some(api::Log { driver: "json-file".to_owned(), path: text(&self.log), ..Default::default() }),
            shim_cgroup: format!("/{}-shim", self.id),
            ..Default::default()
        }
    }

    /// Starts the shim as a daemon does, and launches.
    pub async fn launch(
        &self,
        request: &api::LaunchRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<api::LaunchResponse, CallError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let shim = Command::new(program()).arg("--launch").stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
        *self.shim.borrow_mut() = Some(shim);
        let client = Client::from_std(ours).unwrap();
        *self.client.borrow_mut() = Some(client.clone());
        client.call_with_fds(api::SERVICE, "Launch", request, fds).await
    }

    pub fn client(&self) -> Client {
        self.client.borrow().clone().expect("launched")
    }

    /// The daemon is gone.
    pub fn forget_connection(&mut self) {
        *self.client.borrow_mut() = None;
    }

    pub async fn call<Q: Message, R: Message + Default>(&self, method: &str, request: &Q) -> Result<R, CallError> {
        call(&self.client(), method, request).await
    }

    /// A connection as a daemon makes it that comes back.
    pub async fn connect(&self) -> Client {
        let directory = std::fs::File::open(self.socket().parent().unwrap()).unwrap();
        let path = format!("/proc/self/fd/{}/socket", directory.as_raw_fd());
        Client::from_std(UnixStream::connect(path).unwrap()).unwrap()
    }

    pub async fn attach(&self, streams: api::StreamSet) -> (UnixStream, api::LogPosition) {
        let client = self.connect().await;
        let request = api::AttachRequest { streams: Some(streams), ..Default::default() };
        let answer: api::AttachResponse = call(&client, "Attach", &request).await.unwrap();
        let raw = client.into_raw().await.unwrap();
        assert!(raw.read_ahead.is_empty());
        let stream = raw.stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        (stream, answer.log.unwrap_or_default())
    }

    pub async fn wait(&self, exec_id: &str) -> api::WaitResponse {
        self.call("Wait", &api::WaitRequest { exec_id: exec_id.to_owned() }).await.unwrap()
    }

    pub async fn shut_down(&self) {
        let _: api::ShutdownResponse = self.call("Shutdown", &api::ShutdownRequest::default()).await.unwrap();
        let status = self.shim.borrow_mut().take().unwrap().wait().unwrap();
        assert!(status.success(), "{status}");
    }

    pub async fn kill_and_shut_down(&self) {
        let kill = api::KillRequest { signal: 9, ..Default::default() };
        let _: api::KillResponse = self.call("Kill", &kill).await.unwrap();
        assert_eq!(self.wait("").await.exit_code, 137);
        self.shut_down().await;
    }

    /// The records of the log, sorted: the two streams have no order among themselves.
    pub fn log(&self) -> Vec<(String, String)> {
        self.log_of(&text(&self.log))
    }

    pub fn log_of(&self, path: &str) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let mut records: Vec<(String, String)> = text
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).expect(line);
                (value["stream"].as_str().unwrap().to_owned(), value["log"].as_str().unwrap().to_owned())
            })
            .collect();
        records.sort();
        records
    }

    /// Puts the log on a file system with room for a fraction of what will come.
    pub fn log_on_small_tmpfs(&mut self) {
        let directory = self.directory.path().join("small");
        std::fs::create_dir(&directory).unwrap();
        mount_tmpfs(&directory, "size=64k");
        self.small = true;
        std::fs::write(directory.join("ballast"), vec![0; 32 * 1024]).unwrap();
        self.log = directory.join("json.log");
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.directory.path().join("small/ballast")).unwrap();
    }

    pub fn assert_nothing_is_left(&self) {
        if let Some(mut shim) = self.shim.borrow_mut().take() {
            shim.wait().unwrap();
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            assert!(!hierarchy.path().join(&self.id).exists(), "{:?}", hierarchy.path().join(&self.id));
        }
        assert!(!self.socket().exists());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut shim) = self.shim.borrow_mut().take() {
            if std::thread::panicking() {
                let _ = shim.kill();
                self.kill_container();
            }
            let _ = shim.wait();
        }
        if self.small {
            let _ = rustix::mount::unmount(self.directory.path().join("small"), rustix::mount::UnmountFlags::DETACH);
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(format!("{}-shim", self.id)));
            let _ = std::fs::remove_dir(hierarchy.path().join(&self.id));
        }
    }
}

impl Rig {
    /// For a test that failed: its shim is gone and cannot.
    fn kill_container(&self) {
        let list = std::fs::read_to_string(format!("/sys/fs/cgroup/pids/{}/cgroup.procs", self.id)).unwrap_or_default();
        for pid in list.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn mount_tmpfs(directory: &Path, options: &str) {
    let options = std::ffi::CString::new(options).unwrap();
    rustix::mount::mount("tmpfs", directory, "tmpfs", rustix::mount::MountFlags::empty(), options.as_c_str()).unwrap();
}

/// The shim as a program.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_berth-shim"))
}

pub async fn call<Q: Message, R: Message + Default>(
    client: &Client,
    method: &str,
    request: &Q,
) -> Result<R, CallError> {
    client.call(api::SERVICE, method, request).await
}

pub fn process(arguments: &[&str]) -> Vec<u8> {
    let process = serde_json::json!({
        "args": arguments, "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 },
    });
    process.to_string().into_bytes()
}

pub fn streams(stdin: bool, stdout: bool, stderr: bool) -> api::StreamSet {
    api::StreamSet { stdin, stdout, stderr }
}

/// What a process has open, but for what it was left by those who ran the tests.
pub fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let list = |pid: &str| -> Vec<(u32, PathBuf)> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let number = |path: &Path| path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        entries.filter_map(|entry| Some((number(&entry.path()), std::fs::read_link(entry.path()).ok()?))).collect()
    };
    let inherited: Vec<PathBuf> = list("self").into_iter().map(|(_, name)| name).collect();
    list(&pid.to_string()).into_iter().filter(|(number, name)| *number < 3 || !inherited.contains(name)).collect()
}

pub fn owned((stream, text): (&str, &str)) -> (String, String) {
    (stream.to_owned(), text.to_owned())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Reads a stream to its end while the calls of others go on.
pub async fn read_all(mut stream: UnixStream) -> Vec<u8> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
    .await
    .unwrap()
}

pub fn read_until(mut stream: &UnixStream, text: &str) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&seen).contains(text) {
        stream.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
    String::from_utf8(seen).unwrap()
}

/// Takes frames apart into stdout and stderr.
pub fn demultiplex(mut bytes: &[u8]) -> (String, String) {
    let mut out = [String::new(), String::new()];
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        out[usize::from(bytes[0]) - 1].push_str(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
        bytes = &bytes[8 + length..];
    }
    let [stdout, stderr] = out;
    (stdout, stderr)
}
