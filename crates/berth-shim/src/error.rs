//! Failures of the shim, and how they look on the wire.

use std::io;
use std::path::PathBuf;

use berth_proto::shim::{START_FAILURE_URL, StartFailure};
use berth_proto::ttrpc::{Code, Status};
use berth_runtime::RuntimeError;
use prost::Message;

/// Why the shim could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The runtime could not.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A control group could not be used.
    #[error(transparent)]
    Cgroup(#[from] berth_cgroup::CgroupError),
    /// The shim could not find its place.
    #[error(transparent)]
    Placement(#[from] crate::placement::PlacementError),
    /// Something of the shim's own.
    #[error("{step} {}: {source}", path.display())]
    Own {
        /// What was being done.
        step: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A document could not be read.
    #[error("{what}: {source}")]
    Document {
        /// Which.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The request cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// Not in the present state.
    #[error("{0}")]
    State(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// The method is not served.
    #[error("{0}")]
    Unimplemented(String),
}

impl ShimError {
    /// An error of the system at a step of the shim's own.
    pub fn own(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Own { step, path, source }
    }

    /// As the answer to a call.
    pub fn to_status(&self) -> Status {
        Status::new(self.code(), self.to_string())
    }

    /// As the answer to a call that should have started a process: the details say what a shell would.
    pub fn to_start_status(&self) -> Status {
        let failure = match self {
            Self::Runtime(error) => StartFailure {
                exit_code: u32::from(error.exit_code()),
                step: match error {
                    RuntimeError::Step { step, .. } => step.clone().into_owned(),
                    RuntimeError::Program { .. } => "exec".to_owned(),
                    _ => String::new(),
                },
                errno: error.errno().unwrap_or(0),
            },
            Self::Own { step, source, .. } => {
                StartFailure { exit_code: 125, step: (*step).to_owned(), errno: source.raw_os_error().unwrap_or(0) }
            }
            _ => StartFailure { exit_code: 125, step: String::new(), errno: 0 },
        };
        let mut status = self.to_status();
        status
            .details
            .push(berth_proto::Any { type_url: START_FAILURE_URL.to_owned(), value: failure.encode_to_vec() });
        status
    }

    fn code(&self) -> Code {
        match self {
            Self::Runtime(RuntimeError::Invalid { .. } | RuntimeError::InvalidId { .. }) => Code::InvalidArgument,
            Self::Runtime(RuntimeError::UnknownContainer { .. }) | Self::NotFound(_) => Code::NotFound,
            Self::Runtime(RuntimeError::IdInUse { .. }) | Self::Exists(_) => Code::AlreadyExists,
            Self::Runtime(RuntimeError::WrongState { .. }) | Self::State(_) => Code::FailedPrecondition,
            Self::Document { .. } | Self::Invalid(_) => Code::InvalidArgument,
            Self::Unimplemented(_) => Code::Unimplemented,
            _ => Code::Unknown,
        }
    }
}
