//! Why a container could not be made, changed or removed: the step, its path and the system's error, in one line.
//!
//! The same type crosses the socket between the new process and its maker, so it owns all it says.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use berth_model::ErrorKind;
use serde::{Deserialize, Serialize};

/// Why an operation of the runtime failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RuntimeError {
    /// A system call of one step failed.
    #[error("{step}{}: {}", Quoted(path), ErrnoText(*errno))]
    Step {
        /// What was being done, such as `mounting proc at`.
        step: Cow<'static, str>,
        /// What it was done to; may be empty.
        path: PathBuf,
        /// The system's error number.
        errno: i32,
    },
    /// The program could not be executed.
    #[error("exec: {name:?}: {}{fault}", fault.operation(name))]
    Program {
        /// The first argument.
        name: String,
        /// What is wrong with it.
        fault: ProgramFault,
    },
    /// A hook failed.
    #[error("running {point} hook {path:?}: {reason}")]
    Hook {
        /// `prestart`, `createRuntime` and so on.
        point: Cow<'static, str>,
        /// The hook's program.
        path: PathBuf,
        /// Exit status, signal, timeout or the reason why it could not be run.
        reason: String,
    },
    /// The configuration asks for something that cannot be.
    #[error("invalid configuration: {field}: {reason}")]
    Invalid {
        /// The field by its path in `config.json`.
        field: Cow<'static, str>,
        /// What is wrong with it.
        reason: String,
    },
    /// The cgroup could not be made, changed or removed.
    #[error("{message}")]
    Cgroup {
        /// The whole line.
        message: String,
    },
    /// The new process ended before it could say why.
    #[error("container init ended early: {reason}")]
    Lost {
        /// Its status, and the likely reason.
        reason: String,
    },
    /// A file cannot be mounted on a directory, nor a directory on a file.
    #[error(
        "mounting {} at {}: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type",
        .source_path.display(), .destination.display()
    )]
    MountMismatch {
        /// What was to be mounted.
        source_path: PathBuf,
        /// Where.
        destination: PathBuf,
    },
    /// No container has this id.
    #[error("container {id:?} does not exist")]
    UnknownContainer {
        /// The id as asked for.
        id: String,
    },
    /// A container with this id exists.
    #[error("container with given ID already exists: {id}")]
    IdInUse {
        /// The id.
        id: String,
    },
    /// The id has other characters than letters, digits and `_+-.`
    #[error("invalid container id {id:?}: only letters, digits and the characters _+-. are allowed")]
    InvalidId {
        /// The id as given.
        id: String,
    },
    /// The container is in a state in which this cannot be done.
    #[error("{action} container {id:?}: {reason}")]
    WrongState {
        /// The container.
        id: String,
        /// What was asked for, such as `cannot start`.
        action: Cow<'static, str>,
        /// The state it is in.
        reason: Cow<'static, str>,
    },
}

/// What is wrong with a program that should have been executed. The texts are those users of Docker know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramFault {
    /// A bare name that no directory of `PATH` has.
    NotInPath,
    /// A path that leads nowhere.
    Missing,
    /// A path to a directory.
    IsDirectory,
    /// The kernel's reason.
    Errno(i32),
}

impl RuntimeError {
    /// A failed step.
    pub(crate) fn step(
        step: impl Into<Cow<'static, str>>,
        path: impl Into<PathBuf>,
        source: &io::Error,
    ) -> RuntimeError {
        // An error without a number is one of our own making: bad input.
        let errno = source.raw_os_error().unwrap_or(rustix::io::Errno::INVAL.raw_os_error());
        RuntimeError::Step { step: step.into(), path: path.into(), errno }
    }

    /// A field of the configuration that cannot be.
    pub(crate) fn invalid(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> RuntimeError {
        RuntimeError::Invalid { field: field.into(), reason: reason.into() }
    }

    /// The exit code that `run` and `exec` answer with: 127 no such program, 126 not executable, otherwise 128 (the
    /// container could not start). The engine's own 125 is not a matter of the runtime.
    pub fn exit_code(&self) -> u8 {
        match self {
            RuntimeError::Program { fault: ProgramFault::NotInPath | ProgramFault::Missing, .. } => 127,
            RuntimeError::Program { fault: ProgramFault::IsDirectory, .. } => 126,
            RuntimeError::Program { fault: ProgramFault::Errno(errno), .. } => {
                match io::Error::from_raw_os_error(*errno).kind() {
                    io::ErrorKind::NotFound => 127,
                    _ => 126,
                }
            }
            // What is to be bound is as wrong as a program that is not there; other engines say 127 for both.
            RuntimeError::MountMismatch { .. } => 127,
            _ => 128,
        }
    }

    /// The kind, for whoever turns it into a status.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RuntimeError::Program { .. }
            | RuntimeError::Invalid { .. }
            | RuntimeError::InvalidId { .. }
            | RuntimeError::MountMismatch { .. } => ErrorKind::Invalid,
            RuntimeError::UnknownContainer { .. } => ErrorKind::NotFound,
            RuntimeError::IdInUse { .. } | RuntimeError::WrongState { .. } => ErrorKind::Conflict,
            RuntimeError::Step { .. }
            | RuntimeError::Hook { .. }
            | RuntimeError::Cgroup { .. }
            | RuntimeError::Lost { .. } => ErrorKind::Internal,
        }
    }

    /// The system's error number, where one was the cause.
    pub fn errno(&self) -> Option<i32> {
        match self {
            RuntimeError::Step { errno, .. } | RuntimeError::Program { fault: ProgramFault::Errno(errno), .. } => {
                Some(*errno)
            }
            RuntimeError::Program { fault: ProgramFault::IsDirectory, .. } => {
                Some(rustix::io::Errno::ISDIR.raw_os_error())
            }
            RuntimeError::Program { .. } => Some(rustix::io::Errno::NOENT.raw_os_error()),
            _ => None,
        }
    }
}

impl ProgramFault {
    /// What found a path missing, as Go's library words it and Docker's users grep for it.
    fn operation(self, name: &str) -> String {
        if self == ProgramFault::Missing { format!("stat {name}: ") } else { String::new() }
    }
}

impl From<berth_cgroup::CgroupError> for RuntimeError {
    fn from(error: berth_cgroup::CgroupError) -> RuntimeError {
        let message = match error.errno() {
            Some(errno) => format!("{error}: {}", ErrnoText(errno)),
            None => error.to_string(),
        };
        RuntimeError::Cgroup { message }
    }
}

/// Adds the step and its path to an error of the system.
pub(crate) trait Step<T> {
    /// Says which step failed, and on what.
    fn step(self, step: &'static str, path: impl AsRef<Path>) -> Result<T, RuntimeError>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &'static str, path: impl AsRef<Path>) -> Result<T, RuntimeError> {
        self.map_err(|source| RuntimeError::step(step, path.as_ref(), &source))
    }
}

impl<T> Step<T> for rustix::io::Result<T> {
    fn step(self, step: &'static str, path: impl AsRef<Path>) -> Result<T, RuntimeError> {
        self.map_err(|errno| RuntimeError::step(step, path.as_ref(), &errno.into()))
    }
}

impl fmt::Display for ProgramFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramFault::NotInPath => f.write_str("executable file not found in $PATH"),
            ProgramFault::Missing => f.write_str("no such file or directory"),
            ProgramFault::IsDirectory => f.write_str("is a directory"),
            ProgramFault::Errno(errno) => ErrnoText(*errno).fmt(f),
        }
    }
}

/// A path after a space and in quotes, or nothing.
struct Quoted<'a>(&'a Path);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_os_str().is_empty() { Ok(()) } else { write!(f, " {:?}", self.0) }
    }
}

/// The system's text for an error number, in the small letters that everybody greps for.
struct ErrnoText(i32);

impl fmt::Display for ErrnoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
        let mut letters = text.chars();
        match letters.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), letters.as_str()),
            None => write!(f, "error {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, fault: ProgramFault) -> RuntimeError {
        RuntimeError::Program { name: name.to_owned(), fault }
    }

    #[test]
    fn programs_fail_with_the_texts_and_codes_that_users_know() {
        for (error, text, code) in [
            (program("x", ProgramFault::NotInPath), "exec: \"x\": executable file not found in $PATH", 127),
            (
                program("/etc/passwd", ProgramFault::Errno(libc_eacces())),
                "exec: \"/etc/passwd\": permission denied",
                126,
            ),
            (program("/x", ProgramFault::Missing), "exec: \"/x\": stat /x: no such file or directory", 127),
            (program("/", ProgramFault::IsDirectory), "exec: \"/\": is a directory", 126),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.exit_code(), code);
        }
    }

    fn libc_eacces() -> i32 {
        rustix::io::Errno::ACCESS.raw_os_error()
    }

    #[test]
    fn a_step_names_what_where_and_why() {
        let error = RuntimeError::step("mounting proc at", "/proc", &io::Error::from_raw_os_error(1));
        assert_eq!(error.to_string(), "mounting proc at \"/proc\": operation not permitted");
        assert_eq!(error.exit_code(), 128);
    }
}
