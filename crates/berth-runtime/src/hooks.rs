//! Programs of the configuration that run at points of the container's life ("POSIX-platform Hooks").
//!
//! Each gets the container's state as JSON on its standard input. A hook that fails, or takes too long, fails the operation.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use berth_oci::runtime::{Hook, OCI_VERSION, State, Status};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use crate::error::RuntimeError;

/// A point of the container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Point {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Point::Prestart => "prestart",
            Point::CreateRuntime => "createRuntime",
            Point::CreateContainer => "createContainer",
            Point::StartContainer => "startContainer",
            Point::Poststart => "poststart",
            Point::Poststop => "poststop",
        }
    }
}

/// What a hook is told of its container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) pid: Option<i32>,
    pub(crate) status: Status,
}

impl Subject<'_> {
    /// The specification's document.
    pub(crate) fn state(&self) -> State {
        State {
            oci_version: OCI_VERSION.to_owned(),
            id: self.id.to_owned(),
            status: self.status,
            pid: self.pid,
            bundle: self.bundle.to_owned(),
            annotations: self.annotations.clone(),
        }
    }

    fn document(&self) -> Vec<u8> {
        serde_json::to_vec(&self.state()).unwrap_or_default()
    }
}

/// Runs the hooks of one point in their order; the first that fails ends it.
pub(crate) fn run(hooks: &[Hook], point: Point, subject: &Subject<'_>) -> Result<(), RuntimeError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let document = subject.document();
    for hook in hooks {
        run_one(hook, &document).map_err(|reason| failed(hook, point, reason))?;
    }
    Ok(())
}

/// Runs all hooks of one point, whatever becomes of each; gives those that failed.
pub(crate) fn run_all(hooks: &[Hook], point: Point, subject: &Subject<'_>) -> Vec<RuntimeError> {
    let document = subject.document();
    let outcome = |hook| run_one(hook, &document).err().map(|reason| failed(hook, point, reason));
    hooks.iter().filter_map(outcome).collect()
}

fn failed(hook: &Hook, point: Point, reason: String) -> RuntimeError {
    RuntimeError::Hook { point: point.name().into(), path: hook.path.clone(), reason }
}

fn run_one(hook: &Hook, document: &[u8]) -> Result<(), String> {
    let mut child = spawn(hook).map_err(|error| error.to_string())?;
    if let Some(mut input) = child.stdin.take() {
        // A hook need not read what it is told.
        let _ = input.write_all(document);
    }
    let timeout = hook.timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let status = wait(&mut child, timeout)?;
    if status.success() { Ok(()) } else { Err(describe(status)) }
}

fn spawn(hook: &Hook) -> std::io::Result<Child> {
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        command.arg0(name).args(arguments);
    }
    command.env_clear();
    for variable in &hook.env {
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
    }
    // Their output is shown: it is the only way in which a hook can explain itself.
    command.stdin(Stdio::piped()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).spawn()
}

fn wait(child: &mut Child, timeout: Option<Duration>) -> Result<ExitStatus, String> {
    if let Some(timeout) = timeout
        && !ends_within(child, timeout)
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("not done after {} s", timeout.as_secs()));
    }
    child.wait().map_err(|error| error.to_string())
}

fn ends_within(child: &Child, timeout: Duration) -> bool {
    let pid = Pid::from_raw(child.id() as i32);
    let Some(pidfd) = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return true;
    };
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return false,
            _ => return true,
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str, timeout: Option<i64>) -> Result<(), RuntimeError> {
        let hook = Hook {
            path: "/bin/sh".into(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["WORD=hook".to_owned()],
            timeout,
        };
        let annotations = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        let subject = Subject {
            id: "c1",
            bundle: Path::new("/bundle"),
            annotations: &annotations,
            pid: Some(7),
            status: Status::Creating,
        };
        run(&[hook], Point::Prestart, &subject)
    }

    #[test]
    fn a_hook_gets_the_state_and_its_own_environment() {
        let expected = r#"{"ociVersion":"1.2.1","id":"c1","status":"creating","pid":7,"bundle":"/bundle","annotations":{"key":"value"}}"#;
        let script = format!("[ \"$(cat)\" = '{expected}' ] && [ $WORD = hook ] && [ -z \"$HOME\" ]");
        run_shell(&script, None).unwrap();
    }

    #[test]
    fn a_hook_that_fails_or_hangs_says_so() {
        let text = |result: Result<(), RuntimeError>| result.unwrap_err().to_string();
        assert_eq!(text(run_shell("exit 3", None)), r#"running prestart hook "/bin/sh": exit status 3"#);
        assert_eq!(text(run_shell("sleep 60", Some(1))), r#"running prestart hook "/bin/sh": not done after 1 s"#);
        assert_eq!(text(run_shell("kill -9 $$", None)), r#"running prestart hook "/bin/sh": ended by signal 9"#);
    }
}
