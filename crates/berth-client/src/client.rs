//! The client: where the daemon is, which version both speak, and connections that can be used again.

use std::cell::{Cell, RefCell};

use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::http::connection::Connection;
use crate::request::{Request, escape_into};
use crate::transport::Stream;
use crate::version::ApiVersion;

/// A client of one daemon.
///
/// Its life: made with an [`Endpoint`]; connects with the first request; keeps a connection for the next request once an answer was read to
/// its end, and makes another while an answer is still being read (a `wait`, an attach). The version starts at
/// [`ApiVersion::CURRENT`], or is fixed by `DOCKER_API_VERSION`, and is lowered to that of an older daemon by its first answer.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    authority: String,
    user_agent: String,
    headers: Vec<(String, String)>,
    version: Cell<ApiVersion>,
    version_is_settled: Cell<bool>,
    idle: RefCell<Vec<Connection>>,
}

impl Client {
    /// A client for the daemon at `endpoint`. Does not connect yet.
    pub fn new(endpoint: Endpoint, user_agent: impl Into<String>) -> Client {
        Client {
            authority: endpoint.authority(),
            endpoint,
            user_agent: user_agent.into(),
            headers: Vec::new(),
            version: Cell::new(ApiVersion::CURRENT),
            version_is_settled: Cell::new(false),
            idle: RefCell::new(Vec::new()),
        }
    }

    /// Fixes the version, so that none is negotiated.
    #[must_use]
    pub fn with_version(self, version: ApiVersion) -> Client {
        self.version.set(version);
        self.version_is_settled.set(true);
        self
    }

    /// Sends these headers with every request.
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<(String, String)>) -> Client {
        self.headers = headers;
        self
    }

    /// Where the daemon is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The version of the next request.
    pub fn version(&self) -> ApiVersion {
        self.version.get()
    }

    /// A request of `method` to `path`, which begins with `/` and has no version. Parts that come from the user are escaped with
    /// [`Client::path`].
    pub fn request<'b>(&self, method: &'static str, path: impl Into<String>) -> Request<'_, 'b> {
        Request::new(self, method, path.into())
    }

    /// `GET path`.
    pub fn get<'b>(&self, path: impl Into<String>) -> Request<'_, 'b> {
        self.request("GET", path)
    }

    /// `POST path`.
    pub fn post<'b>(&self, path: impl Into<String>) -> Request<'_, 'b> {
        self.request("POST", path)
    }

    /// `DELETE path`.
    pub fn delete<'b>(&self, path: impl Into<String>) -> Request<'_, 'b> {
        self.request("DELETE", path)
    }

    /// The path `/{noun}/{name}{rest}` with the name escaped; slashes in it stay, as names of images have them.
    pub fn path(noun: &str, name: &str, rest: &str) -> String {
        let mut path = String::with_capacity(noun.len() + name.len() + rest.len() + 2);
        path.push('/');
        path.push_str(noun);
        path.push('/');
        escape_into(&mut path, name, true);
        path.push_str(rest);
        path
    }

    /// Makes a connection now and keeps it for the first request: tells whether a daemon is there without asking it anything.
    pub fn probe(&self) -> Result<(), ClientError> {
        let connection = self.connect()?;
        self.give_back(connection);
        Ok(())
    }

    /// Asks the daemon for its version unless an answer has already told it.
    pub fn settle_version(&self) -> Result<ApiVersion, ClientError> {
        if !self.version_is_settled.get() {
            self.request("HEAD", "/_ping").send()?.finish()?;
        }
        Ok(self.version.get())
    }

    pub(crate) fn connect(&self) -> Result<Connection, ClientError> {
        Stream::connect(&self.endpoint).map(Connection::new)
    }

    /// A kept connection that the daemon has not closed meanwhile.
    pub(crate) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).find(Connection::is_quiet)
    }

    pub(crate) fn give_back(&self, connection: Connection) {
        self.idle.borrow_mut().push(connection);
    }

    /// Takes note of the daemon's version; true if ours had to be lowered.
    pub(crate) fn learn_version(&self, header: Option<&str>) -> bool {
        if self.version_is_settled.get() {
            return false;
        }
        let Some(theirs) = header.and_then(|text| text.parse::<ApiVersion>().ok()) else { return false };
        self.version_is_settled.set(true);
        let lowered = theirs < self.version.get();
        if lowered {
            self.version.set(theirs);
        }
        lowered
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn user_agent(&self) -> &str {
        &self.user_agent
    }

    pub(crate) fn extra_headers(&self) -> &[(String, String)] {
        &self.headers
    }
}
