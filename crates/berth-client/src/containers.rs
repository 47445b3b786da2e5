//! Calls about containers. Each is one route of the Engine API; names go as the user typed them.
//!
//! A call that may take its time, or that is usually made for several containers, is only sent: the caller has several of them on the way
//! and then asks each [`InFlight`] for its end.

use berth_api::container::{ContainerInspect, Top, UpdateRequest, UpdateResponse, WaitResponse};
use berth_api::container_config::{CreateRequest, CreateResponse};

use crate::client::Client;
use crate::error::ClientError;
use crate::http::response::Response;
use crate::request::InFlight;

/// Which streams an attach connects.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Our input to the process.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Replay the log first.
    pub logs: bool,
    /// Keys that detach, for the daemon to look for too; empty is the daemon's default.
    pub detach_keys: String,
}

/// Which lines of a log, and how.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Go on as the container writes.
    pub follow: bool,
    /// A time stamp before each line.
    pub timestamps: bool,
    /// Attributes before each line.
    pub details: bool,
    /// From this time, as seconds with a fraction.
    pub since: Option<String>,
    /// Up to this time.
    pub until: Option<String>,
    /// So many lines, or `all`.
    pub tail: String,
}

/// How containers are removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// The legacy link of this name, not the container.
    pub link: bool,
}

/// What a wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run: answered at once if so.
    NotRunning,
    /// Its next end.
    NextExit,
    /// Its removal.
    Removed,
}

impl WaitCondition {
    fn word(self) -> &'static str {
        match self {
            WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        }
    }
}

impl Client {
    /// `POST /containers/create`.
    pub fn container_create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: &CreateRequest,
    ) -> Result<CreateResponse, ClientError> {
        let post = self.post("/containers/create").query_opt("name", name).query_opt("platform", platform);
        post.json(request).send()?.json()
    }

    /// `GET /containers/{name}/json`.
    pub fn container_inspect(&self, name: &str) -> Result<ContainerInspect, ClientError> {
        self.get(Client::path("containers", name, "/json")).send()?.json()
    }

    /// `POST /containers/{name}/start`. One that runs already is no error.
    pub fn container_start(&self, name: &str) -> Result<(), ClientError> {
        self.post(Client::path("containers", name, "/start")).send()?.finish()
    }

    /// `POST /containers/{name}/stop`; `seconds` before the kill, the container's own or the daemon's default without.
    pub fn container_stop(
        &self,
        name: &str,
        signal: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<InFlight<'_>, ClientError> {
        self.end(name, "/stop", signal, seconds)
    }

    /// `POST /containers/{name}/restart`, with the words of [`Client::container_stop`].
    pub fn container_restart(
        &self,
        name: &str,
        signal: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<InFlight<'_>, ClientError> {
        self.end(name, "/restart", signal, seconds)
    }

    fn end(
        &self,
        name: &str,
        verb: &str,
        signal: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<InFlight<'_>, ClientError> {
        let seconds = seconds.map(|seconds| seconds.to_string());
        let post = self.post(Client::path("containers", name, verb));
        post.query_opt("signal", signal).query_opt("t", seconds.as_deref()).dispatch()
    }

    /// `POST /containers/{name}/kill`.
    pub fn container_kill(&self, name: &str, signal: Option<&str>) -> Result<InFlight<'_>, ClientError> {
        self.post(Client::path("containers", name, "/kill")).query_opt("signal", signal).dispatch()
    }

    /// `POST /containers/{name}/pause`.
    pub fn container_pause(&self, name: &str) -> Result<InFlight<'_>, ClientError> {
        self.post(Client::path("containers", name, "/pause")).dispatch()
    }

    /// `POST /containers/{name}/unpause`.
    pub fn container_unpause(&self, name: &str) -> Result<InFlight<'_>, ClientError> {
        self.post(Client::path("containers", name, "/unpause")).dispatch()
    }

    /// `POST /containers/{name}/rename`.
    pub fn container_rename(&self, name: &str, new_name: &str) -> Result<(), ClientError> {
        self.post(Client::path("containers", name, "/rename")).query("name", new_name).send()?.finish()
    }

    /// `DELETE /containers/{name}`.
    pub fn container_remove(&self, name: &str, options: RemoveOptions) -> Result<InFlight<'_>, ClientError> {
        let delete = self.delete(Client::path("containers", name, ""));
        delete.flag("force", options.force).flag("link", options.link).flag("v", options.volumes).dispatch()
    }

    /// `POST /containers/{name}/wait`, sent and not answered: its head says that the daemon watches, its body that it happened.
    pub fn container_wait(&self, name: &str, condition: WaitCondition) -> Result<InFlight<'_>, ClientError> {
        self.post(Client::path("containers", name, "/wait")).query("condition", condition.word()).dispatch()
    }

    /// `POST /containers/{name}/attach`, sent and not answered; the answer's connection is then ours, see [`Response::into_stream`].
    pub fn container_attach(&self, name: &str, options: &AttachOptions) -> Result<InFlight<'_>, ClientError> {
        let keys = Some(options.detach_keys.as_str()).filter(|keys| !keys.is_empty());
        self.post(Client::path("containers", name, "/attach"))
            .query_opt("detachKeys", keys)
            .flag("logs", options.logs)
            .flag("stderr", options.stderr)
            .flag("stdin", options.stdin)
            .flag("stdout", options.stdout)
            .query("stream", "1")
            .upgrade()
            .dispatch()
    }

    /// `GET /containers/{name}/logs`: both streams, in frames unless the container has a terminal.
    pub fn container_logs(&self, name: &str, options: &LogOptions) -> Result<Response<'_>, ClientError> {
        self.get(Client::path("containers", name, "/logs"))
            .flag("details", options.details)
            .flag("follow", options.follow)
            .query_opt("since", options.since.as_deref())
            .query("stderr", "1")
            .query("stdout", "1")
            .query("tail", &options.tail)
            .flag("timestamps", options.timestamps)
            .query_opt("until", options.until.as_deref())
            .send()
    }

    /// `POST /containers/{name}/resize`, in characters.
    pub fn container_resize(&self, name: &str, height: u16, width: u16) -> Result<(), ClientError> {
        self.resize("containers", name, height, width)
    }

    pub(crate) fn resize(&self, noun: &str, name: &str, height: u16, width: u16) -> Result<(), ClientError> {
        let (height, width) = (height.to_string(), width.to_string());
        self.post(Client::path(noun, name, "/resize")).query("h", &height).query("w", &width).send()?.finish()
    }

    /// `GET /containers/{name}/top`.
    pub fn container_top(&self, name: &str, ps_args: &str) -> Result<Top, ClientError> {
        let args = Some(ps_args).filter(|args| !args.is_empty());
        self.get(Client::path("containers", name, "/top")).query_opt("ps_args", args).send()?.json()
    }

    /// `POST /containers/{name}/update`.
    pub fn container_update(&self, name: &str, request: &UpdateRequest) -> Result<UpdateResponse, ClientError> {
        self.post(Client::path("containers", name, "/update")).json(request).send()?.json()
    }
}

/// Reads the body of a wait.
///
/// # Errors
/// [`ClientError::Broken`] when the daemon went away before it happened.
pub fn finish_wait(response: Response<'_>) -> Result<WaitResponse, ClientError> {
    response.json()
}
