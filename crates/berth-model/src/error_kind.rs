//! What went wrong, coarsely: the only thing the edges need to choose a status or an exit code.

/// The kind of an error. The daemon turns it into an HTTP status in one function, the client into an exit code in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong (400).
    Invalid,
    /// The caller is not known (401).
    Unauthorized,
    /// The caller, or the state of things, forbids it (403).
    Forbidden,
    /// The object does not exist (404).
    NotFound,
    /// The object is in a state that does not allow it (409).
    Conflict,
    /// It is already so (304).
    NotModified,
    /// It is not there yet (501).
    NotImplemented,
    /// It cannot be done now (503).
    Unavailable,
    /// Anything else (500).
    Internal,
}
