//! A daemon in its own namespaces for tests and benches; checks that nothing is left behind.
//!
//! [`Berth::start`] gives a running engine with a temporary root, a network and a mount namespace of its own, and a `busybox` image made of
//! Debian's `busybox-static`. When it is dropped, everything is removed and the machine is searched for what was left.
#![forbid(unsafe_code)]

mod daemon;
mod image;
mod leaks;
mod outcome;
mod registry;
mod sandbox;
pub mod topology;
mod words;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub use daemon::Daemon;
pub use image::{busybox_tar, busybox_tree};
pub use outcome::Outcome;
pub use registry::{Answer, Registry};
pub use sandbox::Sandbox;
pub use words::split;

/// An engine for one test.
pub struct Berth {
    daemon: Option<Daemon>,
    sandbox: Sandbox,
    program: PathBuf,
    options: Vec<String>,
    check_leaks: bool,
}

/// Which client drives the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Our own.
    Berth,
    /// The unmodified one of Docker.
    Docker,
}

impl Berth {
    /// Starts an engine that has the `busybox` image.
    #[must_use]
    pub fn start(program: &str) -> Self {
        Self::start_with(program, &[])
    }

    /// Starts an engine with the `busybox` image and further options of the daemon.
    #[must_use]
    pub fn start_with(program: &str, options: &[&str]) -> Self {
        let berth = Self::start_empty(program, options);
        let archive = image::busybox_archive(berth.sandbox.path());
        berth.run(&format!("import --change 'CMD [\"sh\"]' {} busybox:latest", archive.display())).succeeds();
        berth
    }

    /// Starts an engine without images, with further options of the daemon.
    #[must_use]
    pub fn start_empty(program: &str, options: &[&str]) -> Self {
        let mut berth = Self {
            daemon: None,
            sandbox: Sandbox::new(),
            program: PathBuf::from(program),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            check_leaks: true,
        };
        berth.start_daemon();
        berth
    }

    /// Starts an engine whose root directory is a file system of its own, of so many MiB; see [`Sandbox::leave_free`].
    #[must_use]
    pub fn start_on_small_disk(program: &str, mebibytes: u32) -> Self {
        let mut sandbox = Sandbox::new();
        sandbox.put_root_on_small_disk(mebibytes);
        let mut berth =
            Self { daemon: None, sandbox, program: PathBuf::from(program), options: Vec::new(), check_leaks: true };
        berth.start_daemon();
        berth
    }

    /// Starts the daemon, if it does not run, and waits until it answers.
    pub fn start_daemon(&mut self) {
        if self.daemon.is_none() {
            self.daemon = Some(Daemon::start(&self.program, &self.sandbox, &self.options));
        }
    }

    /// Starts the daemon anew, to end by SIGKILL where it reaches that point of `berth_sys::fault`.
    pub fn start_daemon_to_die(&mut self, point: &str) {
        self.stop_daemon();
        self.daemon = Some(Daemon::start_to_die(&self.program, &self.sandbox, &self.options, point));
    }

    /// Waits for the end of a daemon that was to die.
    ///
    /// # Panics
    /// If it lives on: the point was not reached.
    #[track_caller]
    pub fn await_death(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        if !daemon.has_died() {
            daemon.kill();
            panic!("the daemon did not reach the point where it was to die");
        }
    }

    /// Ends the daemon by SIGKILL.
    pub fn kill_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Asks the daemon to end, and waits for it.
    pub fn stop_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").pid()
    }

    /// What the daemon has logged.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.sandbox.log()).unwrap_or_default()
    }

    /// The temporary directories and namespaces.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The directory of everything that lasts.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.sandbox.root()
    }

    /// Everything the engine holds now, sorted: directories, blobs, names, addresses, cgroups, processes, mounts. What was refused, or taken
    /// back, leaves it as it was.
    #[must_use]
    pub fn footprint(&self) -> Vec<String> {
        leaks::footprint(&self.sandbox)
    }

    /// Waits until the engine holds just this again.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn footprint_is(&self, expected: &[String]) {
        let differs = leaks::search(&self.sandbox, |sandbox| {
            let now = leaks::footprint(sandbox);
            let more = now.iter().filter(|found| !expected.contains(found)).map(|found| format!("more: {found}"));
            let less = expected.iter().filter(|wanted| !now.contains(wanted)).map(|wanted| format!("less: {wanted}"));
            more.chain(less).collect()
        });
        assert!(differs.is_empty(), "the engine holds something else: {differs:#?}");
    }

    /// Does without the search at the end, for a test that leaves something on purpose.
    pub fn leave_traces(&mut self) {
        self.check_leaks = false;
    }

    /// Runs `berth` with these words, split as a shell would.
    #[must_use]
    pub fn run(&self, words: &str) -> Outcome {
        self.run_as(Client::Berth, words)
    }

    /// Runs the unmodified `docker` client with these words.
    #[must_use]
    pub fn docker(&self, words: &str) -> Outcome {
        self.run_as(Client::Docker, words)
    }

    /// Runs either client.
    #[must_use]
    pub fn run_as(&self, client: Client, words: &str) -> Outcome {
        Outcome::of(&mut self.command(client, &split(words)), b"")
    }

    /// Runs `berth` with something on its stdin, which then ends.
    #[must_use]
    pub fn run_with_input(&self, words: &str, input: &[u8]) -> Outcome {
        Outcome::of(&mut self.command(Client::Berth, &split(words)), input)
    }

    /// A command of either client, not yet started. It finds no configuration of the user's.
    #[must_use]
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, client: Client, words: &[S]) -> Command {
        let program = match client {
            Client::Berth => self.program.as_path(),
            Client::Docker => Path::new("docker"),
        };
        let mut command = Command::new(program);
        command
            .arg("--host")
            .arg(format!("unix://{}", self.sandbox.socket().display()))
            .args(words)
            .env("DOCKER_CONFIG", self.sandbox.path().join("client"))
            .env("HOME", self.sandbox.path())
            .env("TZ", "UTC")
            .env_remove("DOCKER_HOST")
            .env_remove("BERTH_HOST")
            .current_dir(self.sandbox.path());
        command
    }

    /// A request to the Engine API by hand: the whole answer's status and JSON body.
    ///
    /// # Panics
    /// If the daemon does not answer.
    #[must_use]
    pub fn api(&self, method: &str, path: &str, body: Option<&serde_json::Value>) -> (u16, serde_json::Value) {
        daemon::request(&self.sandbox.socket(), method, path, body)
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- daemon log ---\n{}", self.daemon_log());
        }
        self.start_daemon_quietly();
        let ids = self.command(Client::Berth, &["ps", "-aq"]).stderr(Stdio::null()).output();
        let ids = ids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for id in ids.lines() {
            let _ = self.command(Client::Berth, &["rm", "-f", "-v", id]).output();
        }
        let mut found =
            if self.check_leaks { leaks::search(&self.sandbox, leaks::with_the_daemon) } else { Vec::new() };
        self.stop_daemon();
        if self.check_leaks {
            found.extend(leaks::search(&self.sandbox, leaks::without_the_daemon));
            found.extend(leaks::on_record(&self.sandbox));
        }
        self.sandbox.remove_cgroups();
        if !found.is_empty() && !std::thread::panicking() {
            panic!("left behind: {found:#?}\n--- daemon log ---\n{}", self.daemon_log());
        }
    }
}

impl Berth {
    fn start_daemon_quietly(&mut self) {
        if self.daemon.is_none() && !std::thread::panicking() {
            self.start_daemon();
        }
    }
}
