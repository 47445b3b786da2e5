//! OCI image, runtime and state documents.
//!
//! Words only: no I/O. Unknown keys of a runtime document are ignored, as the specification asks ("Extensibility"); image documents
//! that are rewritten keep theirs.
#![forbid(unsafe_code)]

pub mod image;
pub mod runtime;
pub mod seccomp_profile;
