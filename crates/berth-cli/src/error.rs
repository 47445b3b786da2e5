//! Why a command failed, what it prints and its exit code: the only place where an error becomes one.

use std::io;
use std::process::ExitCode;

use berth_client::ClientError;

/// Exit code of a command line that cannot be understood, and of `run` when the engine refuses (B002, B010).
pub const ENGINE_CODE: u8 = 125;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Anything else that a user should read.
    #[error("{text}")]
    Message {
        /// What is printed on stderr.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// A command line that makes no sense, or that the engine refuses to run: docker's prefix, a hint and exit code 125 (B002).
    #[error("{0}")]
    Refused(String),
    /// The command ends with this code and prints nothing more.
    #[error("exit code {0}")]
    Exit(u8),
    /// Output could not be written.
    #[error("write: {0}")]
    Output(io::Error),
}

impl CliError {
    /// A failure with a text, and exit code 1.
    pub fn message(text: impl Into<String>) -> CliError {
        CliError::Message { text: text.into(), code: 1 }
    }

    /// A failure with a text and a code of its own.
    pub fn with_code(text: impl Into<String>, code: u8) -> CliError {
        CliError::Message { text: text.into(), code }
    }

    /// A refusal with exit code 125 and a hint, see [`CliError::Refused`].
    pub fn refused(text: impl std::fmt::Display) -> CliError {
        CliError::Refused(text.to_string())
    }

    /// Ends the command with this code, without a text. Code 0 ends it well.
    pub fn exit(code: u8) -> CliError {
        CliError::Exit(code)
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            CliError::Message { code, .. } | CliError::Exit(code) => *code,
            CliError::Refused(_) => ENGINE_CODE,
            // A reader that went away ends us as SIGPIPE would have.
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 141,
            CliError::Client(_) | CliError::Output(_) => 1,
        }
    }

    /// Prints the failure and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            CliError::Exit(_) => {}
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => {
                use io::Write;
                // Nobody is left to tell when stderr is closed.
                let _ = writeln!(io::stderr(), "{}", berth_model::plain_reasons(&other.to_string()));
            }
        }
        ExitCode::from(self.code())
    }
}

impl From<io::Error> for CliError {
    /// Errors of writing the output; those of files are turned into messages where the file is known.
    fn from(error: io::Error) -> CliError {
        CliError::Output(error)
    }
}
