//! The words of the protocols that Berth's processes speak with each other and with containerd.
//!
//! Messages are generated from the files in `proto/` by `cargo xtask gen` and committed. [`ttrpc`] is the transport
//! between a manager and its shims, without any I/O; [`client`] drives it over tokio and exists only with the feature of
//! that name, so that the shim stays free of it. [`local_log`] is a format of files that shim and manager share. gRPC services are not here yet.
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;
pub mod local_log;
pub mod ttrpc;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
mod generated;

pub use prost_types::{Any, Timestamp};

/// The service between Berth's manager and its shim, `berth.shim.v1`.
pub mod shim {
    pub use crate::generated::berth::shim::v1::*;
    use crate::ttrpc::Status;

    /// Name of the service on the wire.
    pub const SERVICE: &str = "berth.shim.v1.Shim";

    /// Type URL of a [`StartFailure`] among the details of a status.
    pub const START_FAILURE_URL: &str = "berth.shim.v1.StartFailure";

    impl StartFailure {
        /// Finds what a status tells of a start that failed.
        #[must_use]
        pub fn of(status: &Status) -> Option<Self> {
            let details = status.details.iter().find(|any| any.type_url.ends_with(START_FAILURE_URL))?;
            prost::Message::decode(details.value.as_slice()).ok()
        }
    }
}

/// containerd's protocols around a shim.
pub mod containerd {
    /// Task service, versions 2 and 3: the messages of both are the same on the wire, only [`SERVICE_V2`](task::SERVICE_V2) and [`SERVICE_V3`](task::SERVICE_V3) differ.
    pub mod task {
        pub use crate::generated::containerd::task::v3::*;
        /// Name of version 2 of the service on the wire.
        pub const SERVICE_V2: &str = "containerd.task.v2.Task";
        /// Name of version 3 of the service on the wire.
        pub const SERVICE_V3: &str = "containerd.task.v3.Task";
    }
    /// What a shim publishes about its task.
    pub use crate::generated::containerd::events;
    /// The service that takes events from shims.
    pub mod forward {
        pub use crate::generated::containerd::services::events::ttrpc::v1::*;
        /// Name of the service on the wire.
        pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
    }
    /// Options of the `runc` kind of runtimes.
    pub use crate::generated::containerd::runc::v1 as runc;
    /// How a shim is started by containerd 2.3 and newer.
    pub use crate::generated::containerd::runtime::bootstrap::v1 as bootstrap;
    /// Mounts, envelopes, runtime information.
    pub use crate::generated::containerd::types;
    /// States and processes of a task.
    pub use crate::generated::containerd::v1::types as task_types;
    /// Options of a runtime that is configured by a file.
    pub use crate::generated::runtimeoptions::v1 as runtime_options;
}

#[cfg(test)]
mod tests {
    #[test]
    fn task_v2_and_v3_have_the_same_messages() {
        let v2 = include_str!("../proto/containerd/runtime/task/v2/shim.proto");
        let v3 = include_str!("../proto/containerd/runtime/task/v3/shim.proto");
        assert_eq!(v2.replace("task.v2", "task.v3").replace("task/v2", "task/v3"), v3);
    }
}
