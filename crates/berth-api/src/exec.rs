//! Exec instances: create, start, inspect.

use crate::ConsoleSize;
use crate::wire::{is_default, wire};

wire! {
    /// The body of exec create.
    pub struct ExecCreateRequest {
        /// User, as `name|uid[:group|gid]`; empty takes the container's.
        pub user: String,
        /// Whether the process is as powerful as the host's root.
        pub privileged: bool,
        /// Whether the process gets a terminal.
        pub tty: bool,
        /// First size of the terminal.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<ConsoleSize>,
        /// Whether stdin is connected.
        pub attach_stdin: bool,
        /// Whether stderr is connected.
        pub attach_stderr: bool,
        /// Whether stdout is connected.
        pub attach_stdout: bool,
        /// Keys that detach, in their textual form.
        pub detach_keys: String,
        /// Further environment.
        pub env: Option<Vec<String>>,
        /// Directory in which the command starts; empty takes the container's.
        pub working_dir: String,
        /// Program and arguments.
        pub cmd: Option<Vec<String>>,
    }

    /// The body of exec start.
    pub struct ExecStartRequest {
        /// Whether to answer as soon as the process runs.
        pub detach: bool,
        /// Whether the process has a terminal, as said at create.
        pub tty: bool,
        /// First size of the terminal.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<ConsoleSize>,
    }

    /// Everything about one exec instance.
    pub struct ExecInspect {
        /// Id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Whether it runs.
        pub running: bool,
        /// `null` while it has not ended.
        pub exit_code: Option<i64>,
        /// The process.
        pub process_config: Option<ProcessConfig>,
        /// Whether stdin is connected.
        pub open_stdin: bool,
        /// Whether stderr is connected.
        pub open_stderr: bool,
        /// Whether stdout is connected.
        pub open_stdout: bool,
        /// Whether it may be forgotten.
        pub can_remove: bool,
        /// Id of the container.
        #[serde(rename = "ContainerID")]
        pub container_id: String,
        /// Bytes of the keys that detach, in base64.
        pub detach_keys: String,
        /// Process id on the host.
        pub pid: i64,
    }
}

wire! { "camelCase";
    /// The process of an exec instance.
    pub struct ProcessConfig {
        /// Whether it has a terminal.
        pub tty: bool,
        /// Program.
        pub entrypoint: String,
        /// Arguments.
        pub arguments: Vec<String>,
        /// Whether it is as powerful as the host's root.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub privileged: Option<bool>,
        /// User as given.
        #[serde(skip_serializing_if = "is_default")]
        pub user: String,
    }
}
