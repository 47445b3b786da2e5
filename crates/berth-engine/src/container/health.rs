//! Asking a container how it feels: checks by its timetable, a verdict from their results (B154-B158).

use std::{sync::Arc, time::Duration};

use berth_model::Timestamp;
use tokio::io::AsyncReadExt;

use super::{Container, Handle};
use crate::{
    EngineError, Inner, clock,
    exec::{self, ExecCreate, ExecStart, ExecState},
    health::{HealthCheckResult, HealthStatus, HealthView},
    spec::{HealthTest, Healthcheck},
    view::ContainerView,
};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;
/// Results that are kept (B157).
const KEPT: usize = 5;
/// Output that is kept of each.
const MAX_OUTPUT: usize = 4096;

/// A check with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Plan {
    /// `None` without a check.
    fn of(view: &ContainerView) -> Option<Self> {
        let config = &view.spec.config;
        let check = config.healthcheck.as_ref()?;
        let command = match &check.test {
            HealthTest::Inherit | HealthTest::Disabled => return None,
            HealthTest::Command(words) => words.clone(),
            HealthTest::Shell(line) => {
                let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
                shell.into_iter().chain([line.clone()]).collect()
            }
        };
        Some(Self::with_defaults(command, check))
    }

    fn with_defaults(command: Vec<String>, check: &Healthcheck) -> Self {
        let or = |given: Duration, default| if given.is_zero() { default } else { given };
        Self {
            command,
            interval: or(check.interval, DEFAULT_INTERVAL),
            timeout: or(check.timeout, DEFAULT_TIMEOUT),
            start_period: check.start_period,
            start_interval: or(check.start_interval, DEFAULT_START_INTERVAL),
            retries: if check.retries == 0 { DEFAULT_RETRIES } else { check.retries },
        }
    }

    /// How long to wait for the next check.
    fn pause(&self, status: HealthStatus, age: Duration) -> Duration {
        if status == HealthStatus::Starting && age < self.start_period { self.start_interval } else { self.interval }
    }
}

impl Container {
    /// Begins to ask, if the container has a check.
    pub(crate) fn start_health_checks(&mut self) {
        let view = self.view();
        let Some(plan) = Plan::of(&view) else { return };
        let Ok(handle) = self.engine.registry.find(view.id.as_str()) else { return };
        let health = HealthView { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        self.publish_view(|view| view.health = Some(health));
        let engine = Arc::clone(&self.engine);
        let since = view.state.running_since().unwrap_or_else(clock::now);
        self.health_checks = Some(tokio::spawn(ask_on(engine, handle, plan, since)).abort_handle());
    }

    /// Stops asking; what was found stays to be seen.
    pub(crate) fn stop_health_checks(&mut self) {
        if let Some(checks) = self.health_checks.take() {
            checks.abort();
        }
    }

    async fn note_health(&mut self, result: HealthCheckResult, plan: Plan) -> Result<(), EngineError> {
        let view = self.view();
        let (Some(before), Some(since)) = (&view.health, view.state.running_since()) else { return Ok(()) };
        let after = verdict(before.clone(), result, &plan, since);
        let changed = before.status != after.status;
        let action = format!("health_status: {}", after.status.word());
        self.publish_view(|view| view.health = Some(after));
        if changed {
            self.engine.publish(&self.view(), &action, []);
        }
        Ok(())
    }
}

/// What one more result means.
fn verdict(mut health: HealthView, result: HealthCheckResult, plan: &Plan, since: Timestamp) -> HealthView {
    let in_start_period = result.start.since(since) < plan.start_period;
    if result.exit_code == 0 {
        health.status = HealthStatus::Healthy;
        health.failing_streak = 0;
    } else if health.status != HealthStatus::Starting || !in_start_period {
        health.failing_streak += 1;
        if health.failing_streak >= plan.retries {
            health.status = HealthStatus::Unhealthy;
        }
    }
    health.log.push(result);
    let excess = health.log.len().saturating_sub(KEPT);
    health.log.drain(..excess);
    health
}

async fn ask_on(engine: Arc<Inner>, handle: Handle, plan: Plan, since: Timestamp) {
    loop {
        let status = handle.view().health.as_ref().map_or(HealthStatus::Starting, |health| health.status);
        tokio::time::sleep(plan.pause(status, clock::now().since(since))).await;
        if !matches!(handle.view().state, berth_model::lifecycle::State::Running { .. }) {
            continue; // A frozen container cannot answer; that is no failure.
        }
        let result = check(&engine, &handle, &plan).await;
        let noted = plan.clone();
        if handle.run(move |container| Box::pin(container.note_health(result, noted))).await.is_err() {
            return;
        }
    }
}

/// Runs one check. A check that cannot be run at all has failed.
async fn check(engine: &Arc<Inner>, handle: &Handle, plan: &Plan) -> HealthCheckResult {
    let start = clock::now();
    let mut output = Vec::new();
    let outcome = tokio::time::timeout(plan.timeout, run(engine, handle, plan, &mut output)).await;
    let (exit_code, output) = match outcome {
        Ok(Ok(code)) => (code, String::from_utf8_lossy(&output).into_owned()),
        Ok(Err(error)) => (-1, error.to_string()),
        Err(_) => (-1, format!("Health check exceeded timeout ({})", berth_model::to_go_duration(plan.timeout))),
    };
    HealthCheckResult { start, end: clock::now(), exit_code, output }
}

async fn run(engine: &Arc<Inner>, handle: &Handle, plan: &Plan, output: &mut Vec<u8>) -> Result<i32, EngineError> {
    let request =
        ExecCreate { command: plan.command.clone(), attach_stdout: true, attach_stderr: true, ..ExecCreate::default() };
    let id = exec::create(engine, handle, request)?;
    let kill_on_drop = exec::KillOnDrop::new(engine, id.clone());
    let started = exec::start(engine, id.as_str(), ExecStart::default()).await?;
    if let Some(mut stream) = started.stream {
        let mut frames = std::mem::take(&mut stream.read_ahead);
        // Everything is read, so that the check is not held up; only the first part is kept.
        let mut block = [0; 4096];
        while let Ok(count @ 1..) = stream.socket.read(&mut block).await {
            if frames.len() < 2 * MAX_OUTPUT {
                frames.extend_from_slice(&block[..count]);
            }
        }
        *output = payloads(&frames);
    }
    let code = loop {
        match engine.execs.get(id.as_str())?.state {
            ExecState::Ended { code, .. } => break code,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    kill_on_drop.ended();
    Ok(code)
}

/// The text in a row of frames, cut at what is kept.
fn payloads(mut frames: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let [_, 0, 0, 0, a, b, c, d, rest @ ..] = frames {
        let length = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).min(rest.len());
        text.extend_from_slice(&rest[..length]);
        frames = &rest[length..];
    }
    text.truncate(MAX_OUTPUT);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(code: i32, second: i64) -> HealthCheckResult {
        let at = Timestamp::from_parts(second, 0);
        HealthCheckResult { start: at, end: at, exit_code: code, output: String::new() }
    }

    #[test]
    fn the_verdict_follows_the_results() {
        let check = Healthcheck { retries: 2, start_period: Duration::from_secs(10), ..Healthcheck::default() };
        let plan = Plan::with_defaults(vec!["true".to_owned()], &check);
        let mut health = HealthView { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        for (code, second, status) in [
            (1, 1, "starting"),
            (1, 2, "starting"),
            (0, 3, "healthy"),
            (1, 4, "healthy"),
            (1, 5, "unhealthy"),
            (0, 6, "healthy"),
        ] {
            health = verdict(health, result(code, second), &plan, Timestamp::from_nanos(0));
            assert_eq!(health.status.word(), status, "at {second}");
        }
        assert_eq!((health.log.len(), health.log[0].start.seconds()), (5, 2));
    }

    #[test]
    fn frames_become_text() {
        assert_eq!(payloads(b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x01c"), b"abc");
        assert_eq!(payloads(b"\x01\0\0\0\0\0\0\x09ab"), b"ab");
    }
}
