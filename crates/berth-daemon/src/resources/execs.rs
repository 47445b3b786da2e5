//! Exec instances.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::error::IdResponse;
use berth_api::exec::{ExecCreateRequest, ExecInspect, ExecStartRequest, ProcessConfig};
use berth_engine::EngineError;
use berth_engine::attach::{DetachKeys, DetachScanner};
use berth_engine::exec::{ExecCreate, ExecStart, ExecStarted, ExecState, ExecView};
use http::StatusCode;
use tokio::io::AsyncWriteExt;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::connection::common_head;
use crate::http::error::ApiError;
use crate::http::hijack::{self, Ended, Framing, Hijack, RawStream, frame};
use crate::http::reply::Reply;
use crate::http::router::{Endpoint, endpoint};
use crate::resources::container_attach::joined;
use crate::resources::containers;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("POST" "/containers/{name}/exec", "ContainerExec", create),
    endpoint!("POST" "/exec/{id}/start", "ExecStart", start, Hijack),
    endpoint!("POST" "/exec/{id}/resize", "ExecResize", resize),
    endpoint!("GET" "/exec/{id}/json", "ExecInspect", inspect),
];

async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let wire = call.document::<ExecCreateRequest>()?.unwrap_or_default();
    let command = wire.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    keys(&wire.detach_keys)?;
    let view = containers::named(&call.daemon, &call.object)?;
    if view.state.word() == "paused" {
        let name = &call.object;
        return Err(ApiError::conflict(format!("Container {name} is paused, unpause the container before exec")));
    }
    let request = ExecCreate {
        command,
        env: wire.env.unwrap_or_default(),
        user: wire.user,
        working_dir: wire.working_dir,
        tty: wire.tty,
        privileged: wire.privileged,
        attach_stdin: wire.attach_stdin,
        attach_stdout: wire.attach_stdout,
        attach_stderr: wire.attach_stderr,
        detach_keys: wire.detach_keys,
        console_size: wire.console_size.map(|size| size.0).filter(|_| wire.tty),
    };
    let id = call.daemon.engine.exec_create(&view.id, request)?;
    Ok(Reply::json_with(StatusCode::CREATED, &IdResponse { id: id.to_string() }))
}

/// The keys that detach; empty is the usual pair.
fn keys(text: &str) -> Result<DetachKeys, ApiError> {
    match text {
        "" => Ok(DetachKeys::default()),
        text => text.parse().map_err(|_| ApiError::invalid(format!("Invalid escape keys ({text}) provided"))),
    }
}

async fn start(mut call: Call) -> Result<Reply, ApiError> {
    let wire = call.document::<ExecStartRequest>()?.unwrap_or_default();
    let exec = call.daemon.engine.exec(&call.object)?;
    check_container(&call.daemon, &exec)?;
    let request = ExecStart { detach: wire.detach, console_size: wire.console_size.map(|size| size.0) };
    if wire.detach {
        call.daemon.engine.exec_start(&call.object, request).await?;
        return Ok(Reply::empty(StatusCode::OK));
    }
    let framing = if exec.request.tty { Framing::Raw } else { Framing::Multiplexed };
    let head = hijack::open_head(&call, framing, &common_head());
    let daemon = Arc::clone(&call.daemon);
    match daemon.engine.exec_start(&call.object, request).await {
        Ok(started) => {
            let attachment = Attachment { daemon, exec, started };
            Ok(Reply::Hijack(Hijack::new(head, move |client| attachment.run(client))))
        }
        // The program's failure is output: clients print it where the program's would be, and ask for the exit code.
        Err(EngineError::Start(failure)) => Ok(Reply::Hijack(report(head, framing, &failure.message))),
        Err(error) => Err(error.into()),
    }
}

fn check_container(daemon: &Daemon, exec: &ExecView) -> Result<(), ApiError> {
    // An exec ends with its container; one that was never started is forgotten with it.
    let gone = || ApiError::not_found(format!("No such exec instance: {}", exec.id));
    let view = daemon.engine.container(exec.container.as_str()).map_err(|_| gone())?;
    match view.state.word() {
        "paused" => {
            let id = &view.id;
            Err(ApiError::conflict(format!("Container {id} is paused, unpause the container before exec")))
        }
        "running" => Ok(()),
        _ if exec.state == ExecState::Created => Err(gone()),
        _ => Ok(()),
    }
}

/// A client that only gets to read why the program did not start.
fn report(head: String, framing: Framing, message: &str) -> Hijack {
    let text = format!("{message}\r\n");
    let bytes = match framing {
        Framing::Raw => text.into_bytes(),
        Framing::Multiplexed => frame(1, text.as_bytes()),
    };
    Hijack::new([head.into_bytes(), bytes].concat(), |mut client| async move { drop(client.shutdown().await) })
}

/// A client at the streams of an exec that runs.
struct Attachment {
    daemon: Arc<Daemon>,
    exec: ExecView,
    started: ExecStarted,
}

impl Attachment {
    async fn run(self, mut client: RawStream) {
        let Some(stream) = self.started.stream else {
            // An exec that nobody wanted streams of.
            drop(client.shutdown().await);
            return;
        };
        let keys = keys(&self.started.detach_keys).unwrap_or_default();
        let scanner = self.started.terminal.then(|| DetachScanner::new(keys));
        if hijack::relay(client, joined(stream), scanner, self.started.ended).await == Ended::Detached {
            self.daemon.engine.exec_detached(self.exec.id.as_str());
        }
    }
}

async fn resize(call: Call) -> Result<Reply, ApiError> {
    let (height, width) = containers::terminal_size(&call)?;
    call.daemon.engine.exec_resize(&call.object, width, height).await?;
    Ok(Reply::empty(StatusCode::OK))
}

async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let exec = call.daemon.engine.exec(&call.object)?;
    Ok(Reply::json(&to_wire(&exec)))
}

fn to_wire(exec: &ExecView) -> ExecInspect {
    let request = &exec.request;
    let (running, exit_code, pid) = match exec.state {
        ExecState::Created | ExecState::Starting => (false, None, 0),
        ExecState::Running { pid } => (true, None, pid),
        ExecState::Ended { code, pid } => (false, Some(i64::from(code)), pid),
    };
    let mut words = request.command.iter().cloned();
    ExecInspect {
        id: exec.id.to_string(),
        running,
        exit_code,
        process_config: Some(ProcessConfig {
            tty: request.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: Some(request.privileged),
            user: request.user.clone(),
        }),
        open_stdin: request.attach_stdin,
        open_stderr: request.attach_stderr,
        open_stdout: request.attach_stdout,
        can_remove: false,
        container_id: exec.container.to_string(),
        detach_keys: encoded_keys(&request.detach_keys),
        pid: i64::from(pid),
    }
}

/// The bytes of the keys in base64, as clients know them; empty when the usual pair is meant.
fn encoded_keys(text: &str) -> String {
    let byte = |word: &str| match word.strip_prefix("ctrl-").map(str::as_bytes) {
        // A control character is its letter without the upper bits.
        Some([letter]) => letter & 0x1f,
        _ => word.bytes().next().unwrap_or_default(),
    };
    if text.is_empty() { String::new() } else { STANDARD.encode(text.split(',').map(byte).collect::<Vec<_>>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_shown_as_bytes() {
        assert_eq!(encoded_keys(""), "");
        assert_eq!(encoded_keys("ctrl-x"), "GA==");
        assert_eq!(encoded_keys("ctrl-p,q"), STANDARD.encode([16, b'q']));
    }
}
