//! The engines and runtimes: how each is started, and how it wants to be asked.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use berth_testkit::Sandbox;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    account::Account,
    hand::{Batch, Hand, Outcome},
    statistics::Summary,
};

/// How long a daemon has to answer at first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Ours.
    Berth,
    /// dockerd with the containerd that it starts, and runc.
    Docker,
    /// The same without a process for each published port.
    DockerNoProxy,
    /// podman with conmon and its runtime.
    Podman,
    /// Our OCI runtime.
    BerthRuntime,
    /// The OCI runtime in C.
    Crun,
    /// The OCI runtime in Go.
    Runc,
}

impl Kind {
    /// Everybody.
    pub const ALL: [Self; 6] = [Self::Berth, Self::Docker, Self::Podman, Self::BerthRuntime, Self::Crun, Self::Runc];
    /// Those with images, networks and a list of containers.
    pub const ENGINES: [Self; 3] = [Self::Berth, Self::Docker, Self::Podman];
    /// Those with a daemon.
    pub const DAEMONS: [Self; 2] = [Self::Berth, Self::Docker];
    /// Those whose traffic is measured.
    pub const CARRIERS: [Self; 3] = [Self::Berth, Self::Docker, Self::DockerNoProxy];
    /// Those that have a name service.
    pub const NAMERS: [Self; 2] = [Self::Berth, Self::Docker];
    /// Those that run a bundle.
    pub const RUNTIMES: [Self; 3] = [Self::BerthRuntime, Self::Crun, Self::Runc];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Docker => "docker",
            Self::DockerNoProxy => "docker-noproxy",
            Self::Podman => "podman",
            Self::BerthRuntime => "berth-runtime",
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }

    /// Whether it is ours.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Berth | Self::BerthRuntime)
    }

    /// The programs that must be installed, the one that is asked first. Debian's own come before others of the name.
    pub fn programs(self) -> Option<Vec<PathBuf>> {
        let names: &[&str] = match self {
            Self::Berth | Self::BerthRuntime => &[],
            Self::Docker | Self::DockerNoProxy => &["docker", "dockerd", "containerd", "runc"],
            Self::Podman => &["podman", "conmon"],
            Self::Crun => &["crun"],
            Self::Runc => &["runc"],
        };
        names.iter().map(|name| installed(name)).collect()
    }
}

/// Finds a program, first where Debian's packages put theirs.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = ["/usr/bin", "/usr/sbin"].map(PathBuf::from);
    debian
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// One engine or runtime, running, in namespaces and directories of its own.
pub struct Engine {
    /// Who it is.
    pub kind: Kind,
    /// What it uses.
    pub account: Account,
    /// Why it is asked no more.
    pub lost: Option<String>,
    hand: Hand,
    words: Vec<String>,
    daemons: Vec<u32>,
    daemon: Option<u32>,
    command_of_daemon: Vec<String>,
    // Removed last: the engine's directories.
    sandbox: Sandbox,
}

/// One command's cost in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From start to end of the client.
    pub wall: f64,
    /// Processor time of the whole engine, until it has come to rest.
    pub cpu: Option<f64>,
}

impl Engine {
    /// Starts one; `program` is ours.
    pub fn start(kind: Kind, program: &Path) -> Result<Self> {
        let sandbox = Sandbox::new();
        isolate(&sandbox, kind)?;
        let account = Account::open(kind.name())?;
        let hand = Hand::start(&sandbox, &account, &environment(&sandbox, kind))?;
        let mut engine = Self {
            kind,
            account,
            lost: None,
            hand,
            words: Vec::new(),
            daemons: Vec::new(),
            daemon: None,
            command_of_daemon: Vec::new(),
            sandbox,
        };
        match kind {
            Kind::Berth => engine.start_berth(program)?,
            Kind::Docker | Kind::DockerNoProxy => engine.start_docker()?,
            Kind::Podman => engine.set_up_podman()?,
            Kind::BerthRuntime | Kind::Crun | Kind::Runc => engine.set_up_runtime(program)?,
        }
        Ok(engine)
    }

    fn start_berth(&mut self, program: &Path) -> Result<()> {
        let host = format!("unix://{}", self.sandbox.socket().display());
        let program = program.display().to_string();
        let daemon = words(&[&program, "daemon", "--host", &host, "--cgroup-parent", &self.account.parent()]);
        self.start_daemon(daemon)?;
        self.words = words(&[&program, "--host", &host]);
        Ok(())
    }

    fn start_docker(&mut self) -> Result<()> {
        let programs = self.kind.programs().context("docker is not installed")?;
        let host = format!("unix://{}", self.sandbox.socket().display());
        let file = |name: &str| self.sandbox.path().join(name).display().to_string();
        std::fs::write(file("daemon.json"), "{}")?;
        let mut daemon = words(&[&programs[1].display().to_string(), "--host", &host]);
        daemon.extend(words(&[
            "--cgroup-parent",
            &self.account.parent(),
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
        ]));
        daemon.extend(words(&["--pidfile", &file("docker.pid"), "--config-file", &file("daemon.json")]));
        if self.kind == Kind::DockerNoProxy {
            daemon.extend(words(&["--userland-proxy=false"]));
        }
        self.start_daemon(daemon)?;
        self.words = words(&[&programs[0].display().to_string(), "--host", &host]);
        Ok(())
    }

    /// Ends the daemon by SIGKILL and starts it again; containers go on.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        let pid = self.daemon.take().context("it has no daemon")?;
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(process, Signal::KILL).context("killing the daemon")?;
        // Its first thread may be dead while others still hold its files.
        let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        while alive(pid) || threads() > 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.start_again()
    }

    fn start_daemon(&mut self, mut daemon: Vec<String>) -> Result<()> {
        let directory = |path: PathBuf| path.display().to_string();
        daemon.extend(words(&[
            "--data-root",
            &directory(self.sandbox.root()),
            "--exec-root",
            &directory(self.sandbox.run()),
        ]));
        self.command_of_daemon = daemon;
        self.start_again()?;
        self.note_daemons();
        Ok(())
    }

    fn start_again(&mut self) -> Result<()> {
        let pid = self.hand.daemon(self.command_of_daemon.clone(), self.sandbox.log())?;
        self.daemon = Some(pid);
        let deadline = Instant::now() + PATIENCE;
        // The socket is in a directory that only the engine's mount namespace has.
        let socket = self.sandbox.socket();
        let socket = format!("/proc/{}/root{}", self.hand.id(), socket.display());
        while !answers(Path::new(&socket)) {
            if Instant::now() > deadline || !alive(pid) {
                let log = std::fs::read_to_string(self.sandbox.log()).unwrap_or_default();
                bail!("the daemon does not answer: {}", log.lines().last().unwrap_or("it said nothing"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts the daemon again that was killed, with what it left.
    pub fn restart(&mut self, program: &Path) -> Result<()> {
        match self.kind {
            Kind::Berth => self.start_berth(program),
            Kind::Docker | Kind::DockerNoProxy => self.start_docker(),
            Kind::Podman | Kind::BerthRuntime | Kind::Crun | Kind::Runc => Ok(()),
        }
    }

    /// Everything beside the hand that lives now is a daemon; what comes later belongs to a container.
    fn note_daemons(&mut self) {
        let hand = self.hand.id();
        self.daemons = self.account.processes(true).into_iter().filter(|&pid| pid != hand).collect();
    }

    fn set_up_podman(&mut self) -> Result<()> {
        let programs = self.kind.programs().context("podman is not installed")?;
        let directory = self.sandbox.path().display().to_string();
        // Podman asks for more than a machine's root may have at times.
        let configuration = "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:4096\"]\n[engine]\nevents_logger = \"file\"\n";
        std::fs::write(self.sandbox.path().join("containers.conf"), configuration)?;
        let runtime =
            ["crun", "runc"].into_iter().find(|name| installed(name).is_some()).context("podman needs crun or runc")?;
        self.words = words(&[&programs[0].display().to_string(), "--cgroup-manager", "cgroupfs", "--runtime", runtime]);
        for (option, name) in
            [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "cni")]
        {
            std::fs::create_dir_all(self.sandbox.path().join(name))?;
            self.words.extend(words(&[option, &format!("{directory}/{name}")]));
        }
        Ok(())
    }

    fn set_up_runtime(&mut self, program: &Path) -> Result<()> {
        let program = match self.kind.programs().context("not installed")?.into_iter().next() {
            Some(program) => program,
            None => {
                let link = self.sandbox.path().join("berth-runtime");
                std::os::unix::fs::symlink(program, &link)?;
                link
            }
        };
        self.words = words(&[&program.display().to_string(), "--root", &self.sandbox.run().display().to_string()]);
        Ok(())
    }

    /// Its directory, empty but for its own things.
    pub fn directory(&self) -> &Path {
        self.sandbox.path()
    }

    /// Its namespaces, for what belongs to the place and not to the engine.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The processes that run while no container does.
    pub fn daemons(&self) -> &[u32] {
        &self.daemons
    }

    /// The process that starts its commands.
    pub fn hand(&self) -> u32 {
        self.hand.id()
    }

    /// The whole command for some words. What differs between the engines is put in here.
    pub fn command(&self, line: &[&str]) -> Vec<String> {
        let mut command = self.words.clone();
        match (self.kind, line) {
            (Kind::Podman, [verb @ ("run" | "create"), rest @ ..]) => {
                command.extend(words(&[verb, "--cgroup-parent", &self.account.parent()]));
                command.extend(words(rest));
            }
            // The others take a registry on loopback as it is.
            (Kind::Podman, [verb @ ("pull" | "push"), rest @ ..]) => {
                command.extend(words(&[verb, "--tls-verify=false"]));
                command.extend(words(rest));
            }
            // Podman would wait ten seconds for a program that knows no SIGTERM.
            (Kind::Podman, ["rm", "-f", rest @ ..]) => {
                command.extend(words(&["rm", "-f", "-t", "0"]));
                command.extend(words(rest));
            }
            _ => command.extend(words(line)),
        }
        command
    }

    /// Runs one command; its time does not matter. Gives its output.
    pub fn run(&mut self, line: &[&str]) -> Result<String> {
        let batch = Batch { jobs: vec![self.command(line)], width: 1, probe: None, capture: true };
        Ok(self.hand.run(batch)?.output)
    }

    /// Runs one command and says what it cost.
    pub fn time(&mut self, line: &[&str]) -> Result<Cost> {
        let batch = Batch { jobs: vec![self.command(line)], width: 1, ..Batch::default() };
        let (outcome, cpu) = self.batch(batch)?;
        Ok(Cost { wall: outcome.wall, cpu: Some(cpu) })
    }

    /// Runs commands and says what they cost together.
    pub fn batch(&mut self, batch: Batch) -> Result<(Outcome, f64)> {
        let before = self.account.cpu()?;
        let outcome = self.hand.run(batch)?;
        Ok((outcome, self.account.cpu_settled()? - before))
    }

    /// How long this machine takes to start and end the smallest program, however fast it is just now.
    pub fn reference(&mut self) -> Result<Option<Summary>> {
        let jobs = vec![words(&["/bin/busybox", "true"]); 50];
        Ok(Summary::of(&self.hand.run(Batch { jobs, width: 1, ..Batch::default() })?.jobs))
    }

    /// Ends it and removes what it left.
    fn finish(&mut self) {
        self.hand.finish();
        self.account.end_all(None);
        self.account.remove();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What a program says when it is asked for its version, on one line.
pub fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

/// Makes the namespaces private: what engines write to fixed places goes to a layer that ends with them. Their runtime
/// directories are in memory, as `/run` is.
fn isolate(sandbox: &Sandbox, kind: Kind) -> Result<()> {
    let directory = sandbox.path().display().to_string();
    ensure!(
        !["/etc", "/run", "/var/lib"].iter().any(|place| sandbox.path().starts_with(place)),
        "TMPDIR must not be below /etc, /run or /var/lib"
    );
    let mut script = format!(
        "set -e; mount -t tmpfs bench /run; mkdir {directory}/run {directory}/host; \
         mount -t tmpfs bench {directory}/run; mount -t tmpfs bench {directory}/host; \
         for place in etc lib; do mkdir {directory}/host/$place {directory}/host/$place-work; done; \
         over() {{ mount -t overlay bench -o lowerdir=$1,upperdir={directory}/host/$2,workdir={directory}/host/$2-work $1; }}; \
         over /etc etc; over /var/lib lib; "
    );
    if matches!(kind, Kind::Podman | Kind::BerthRuntime | Kind::Crun | Kind::Runc) {
        // crun takes v1 beside an empty cgroup2 for a machine that it does not know.
        script.push_str("if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; ");
    }
    let output = sandbox.command("sh").args(["-c", &script]).output().context("starting a shell")?;
    ensure!(output.status.success(), "preparing namespaces: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Programs find no configuration of the user's, and speak English.
fn environment(sandbox: &Sandbox, kind: Kind) -> Vec<(String, String)> {
    let file = |name: &str| sandbox.path().join(name).display().to_string();
    let pairs = [
        ("HOME", file("home")),
        // Podman asks Docker's for credentials, too, and wants it to be there then.
        if kind == Kind::Podman {
            ("CONTAINERS_CONF", file("containers.conf"))
        } else {
            ("DOCKER_CONFIG", file("client"))
        },
        ("TMPDIR", file("")),
        ("LC_ALL", "C".to_owned()),
        ("TZ", "UTC".to_owned()),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let asked = stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    let mut head = [0; 15];
    asked.is_ok() && stream.read_exact(&mut head).is_ok() && head == *b"HTTP/1.1 200 OK"
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|&word| word.to_owned()).collect()
}
