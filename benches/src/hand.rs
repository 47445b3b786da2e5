//! A small process inside an engine's namespaces and cgroup that starts commands and takes their time.
//!
//! The clock runs from just before a command is started until it has been reaped, with nothing in between: no
//! `nsenter`, no shell. Requests and answers are lines of JSON. When the other end goes away, however it went, the
//! hand ends every process of the engine and removes its directory, so that nothing outlives a bench.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use berth_testkit::Sandbox;
use rustix::process::{WaitOptions, WaitStatus, wait};
use serde::{Deserialize, Serialize};

use crate::account::Account;

/// The first word that makes this program a hand.
pub const WORD: &str = "--hand";

/// How long commands may take, besides some time for each.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a hand is asked.
#[derive(Serialize, Deserialize)]
enum Request {
    /// Start a daemon, its output in a file.
    Daemon { words: Vec<String>, log: PathBuf },
    /// Run commands and take their time.
    Run(Batch),
}

/// Commands to run.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Batch {
    /// One command each.
    pub jobs: Vec<Vec<String>>,
    /// How many at a time.
    pub width: usize,
    /// One more, started when the first `width` have been, and timed by itself.
    pub probe: Option<Vec<String>>,
    /// Whether stdout is wanted (all of it in one text) or thrown away.
    pub capture: bool,
}

/// How a batch went. Times are in milliseconds.
#[derive(Default, Serialize, Deserialize)]
pub struct Outcome {
    /// From the first start to the last end.
    pub wall: f64,
    /// Each job from its start to its end, in the order they were given.
    pub jobs: Vec<f64>,
    /// The time of the probe.
    pub probe: Option<f64>,
    /// What was captured.
    pub output: String,
    /// What the first command that failed said.
    pub failure: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Started(u32),
    Done(Outcome),
    Failed(String),
}

/// The other end of a hand.
pub struct Hand {
    process: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Hand {
    /// Starts a hand in a sandbox, and puts it into the engine's account.
    pub fn start(sandbox: &Sandbox, account: &Account, environment: &[(String, String)]) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut process = sandbox
            .command(program)
            .args([WORD, account.name()])
            .arg(sandbox.path())
            .envs(environment.iter().cloned())
            .env_remove("DOCKER_HOST")
            .env_remove("BERTH_HOST")
            .current_dir(sandbox.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting nsenter, from Debian's util-linux")?;
        let output = process.stdout.take().context("no pipe")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        account.adopt(process.id())?;
        let input = process.stdin.take();
        Ok(Self { process, input, answers })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Starts a daemon that runs until the end.
    pub fn daemon(&mut self, words: Vec<String>, log: PathBuf) -> Result<u32> {
        match self.ask(&Request::Daemon { words, log }, Duration::from_secs(30))? {
            Answer::Started(pid) => Ok(pid),
            Answer::Done(_) => bail!("the hand answered something else"),
            Answer::Failed(reason) => bail!(reason),
        }
    }

    /// Runs commands. All must end well.
    pub fn run(&mut self, batch: Batch) -> Result<Outcome> {
        let patience = PATIENCE + Duration::from_secs(3) * u32::try_from(batch.jobs.len())?;
        match self.ask(&Request::Run(batch), patience)? {
            Answer::Done(Outcome { failure: Some(failure), .. }) | Answer::Failed(failure) => bail!(failure),
            Answer::Done(outcome) => Ok(outcome),
            Answer::Started(_) => bail!("the hand answered something else"),
        }
    }

    fn ask(&mut self, request: &Request, patience: Duration) -> Result<Answer> {
        let input = self.input.as_mut().context("the engine was given up")?;
        let line = serde_json::to_string(request)?;
        writeln!(input, "{line}").context("asking the hand")?;
        let Ok(answer) = self.answers.recv_timeout(patience) else {
            // Without its input it gives everything back; later requests fail at once.
            self.input = None;
            bail!("no end after {} s", patience.as_secs())
        };
        Ok(serde_json::from_str(&answer)?)
    }

    /// Ends the engine and the hand.
    pub fn finish(&mut self) {
        self.input = None;
        // It gives up by itself after a while, so this ends.
        let _ = self.process.wait();
    }
}

/// The hand itself.
pub fn serve(words: &[String]) -> ExitCode {
    let [account, directory] = words else { return ExitCode::FAILURE };
    let Ok(account) = Account::find(account) else { return ExitCode::FAILURE };
    let (sender, requests) = channel();
    let directory = PathBuf::from(directory);
    let cleaner = (account, directory.clone());
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        give_back(&cleaner.0, &cleaner.1);
        // A command that hangs keeps the other thread waiting: this one ends the process.
        std::process::exit(0);
    });
    while let Ok(line) = requests.recv() {
        let answer = serde_json::from_str(&line).map_err(Into::into).and_then(|request| act(request, &directory));
        let answer = answer.unwrap_or_else(|error: anyhow::Error| Answer::Failed(format!("{error:#}")));
        let Ok(answer) = serde_json::to_string(&answer) else { break };
        // Nobody may listen any more; then the other thread has work to do that a panic would cut short.
        if writeln!(std::io::stdout(), "{answer}").is_err() {
            break;
        }
    }
    // The other thread is about to end us.
    std::thread::sleep(Duration::from_secs(60));
    ExitCode::SUCCESS
}

fn act(request: Request, directory: &Path) -> Result<Answer> {
    match request {
        Request::Daemon { words, log } => {
            let log = File::options().create(true).append(true).open(&log).context("opening the daemon's log")?;
            Ok(Answer::Started(start(&words, log.try_clone()?, log)?))
        }
        Request::Run(batch) => run(&batch, directory).map(Answer::Done),
    }
}

/// Starts a command. All children are reaped by one wait for any child.
fn start(words: &[String], stdout: File, stderr: File) -> Result<u32> {
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    Ok(command.spawn().with_context(|| format!("starting {program}"))?.id())
}

fn run(batch: &Batch, directory: &Path) -> Result<Outcome> {
    ensure!(batch.width > 0, "nothing at a time is never");
    let null = File::options().write(true).open("/dev/null").context("opening /dev/null")?;
    let (errors, captured) = (directory.join("hand.stderr"), directory.join("hand.stdout"));
    let append = |path: &Path| File::options().create(true).append(true).open(path);
    for path in [&errors, &captured] {
        File::create(path).with_context(|| format!("making {}", path.display()))?;
    }
    let stderr = append(&errors)?;
    let stdout = if batch.capture { append(&captured)? } else { null };
    let mut outcome = Outcome { jobs: vec![0.0; batch.jobs.len()], ..Outcome::default() };
    let mut running = BTreeMap::new();
    let mut waiting = batch.jobs.iter().enumerate();
    let begin = Instant::now();
    let mut failed = None;
    let mut probe = batch.probe.as_ref();
    loop {
        while running.len() < batch.width {
            let Some((number, words)) = waiting.next() else { break };
            let at = Instant::now();
            running.insert(start(words, stdout.try_clone()?, stderr.try_clone()?)?, (at, Some(number), words));
        }
        if let Some(words) = probe.take() {
            let at = Instant::now();
            running.insert(start(words, stdout.try_clone()?, stderr.try_clone()?)?, (at, None, words));
        }
        if running.is_empty() {
            break;
        }
        let (pid, status) = next_end()?;
        let Some((at, number, words)) = running.remove(&pid) else {
            // A daemon; the commands that need it will say so.
            continue;
        };
        let took = at.elapsed().as_secs_f64() * 1e3;
        match number {
            Some(number) => outcome.jobs[number] = took,
            None => outcome.probe = Some(took),
        }
        if status.exit_status() != Some(0) && failed.is_none() {
            failed = Some((words, status));
        }
    }
    outcome.wall = begin.elapsed().as_secs_f64() * 1e3;
    outcome.failure = failed.map(|(words, status)| explain(words, status, &errors));
    if batch.capture {
        outcome.output = std::fs::read_to_string(&captured)?;
    }
    Ok(outcome)
}

fn next_end() -> Result<(u32, WaitStatus)> {
    let (pid, status) = wait(WaitOptions::empty()).context("waiting")?.context("nobody ended")?;
    Ok((u32::try_from(pid.as_raw_nonzero().get())?, status))
}

fn explain(words: &[String], status: WaitStatus, errors: &Path) -> String {
    let said = std::fs::read_to_string(errors).unwrap_or_default();
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
    let said = if said.is_empty() { "nothing on stderr".to_owned() } else { said.join(" / ") };
    let program = words.first().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("{program} exits with {code}: {said}"),
        (_, signal) => format!("{program} is killed by signal {}: {said}", signal.unwrap_or(0)),
    }
}

/// Ends the engine's processes, takes its mounts away, and removes its directory.
fn give_back(account: &Account, directory: &Path) {
    account.end_all(Some(std::process::id()));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let inside =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| Path::new(path).starts_with(directory));
    for path in inside.collect::<Vec<_>>().into_iter().rev() {
        // What is still in use goes with the namespace.
        let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
    }
    let _ = std::fs::remove_dir_all(directory);
    // Not left to the other end, which may be gone.
    account.release(std::process::id());
    account.remove();
}
