//! Calls about processes that are run in a container beside its main one.

use berth_api::error::IdResponse;
use berth_api::exec::{ExecCreateRequest, ExecInspect, ExecStartRequest};

use crate::client::Client;
use crate::error::ClientError;
use crate::http::response::Response;

impl Client {
    /// `POST /containers/{name}/exec`; gives the id.
    pub fn exec_create(&self, container: &str, request: &ExecCreateRequest) -> Result<String, ClientError> {
        let made: IdResponse =
            self.post(Client::path("containers", container, "/exec")).json(request).send()?.json()?;
        Ok(made.id)
    }

    /// `POST /exec/{id}/start` without a connection to it.
    pub fn exec_start_detached(&self, id: &str, request: &ExecStartRequest) -> Result<(), ClientError> {
        self.post(Client::path("exec", id, "/start")).json(request).send()?.finish()
    }

    /// `POST /exec/{id}/start`; the answer's connection is then ours, see [`Response::into_stream`].
    pub fn exec_start(&self, id: &str, request: &ExecStartRequest) -> Result<Response<'_>, ClientError> {
        self.post(Client::path("exec", id, "/start")).json(request).upgrade().send()
    }

    /// `GET /exec/{id}/json`.
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInspect, ClientError> {
        self.get(Client::path("exec", id, "/json")).send()?.json()
    }

    /// `POST /exec/{id}/resize`, in characters.
    pub fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<(), ClientError> {
        self.resize("exec", id, height, width)
    }
}
