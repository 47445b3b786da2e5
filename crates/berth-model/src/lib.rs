//! The words of the engine: ids, names, references, digests, sizes, signals, times, the lifecycle.
//!
//! Text becomes one of these types at the edge; inside, nobody re-checks. No I/O, no clock, no randomness.
#![forbid(unsafe_code)]

mod cancel;
mod digest;
mod duration;
mod error_kind;
mod id;
pub mod lifecycle;
mod name;
mod platform;
mod reference;
mod signal;
mod size;
mod system_error;
mod timestamp;

pub use cancel::Cancel;
pub use digest::{Algorithm, Digest, InvalidDigest};
pub use duration::{InvalidDuration, human_duration, parse_go_duration, to_go_duration};
pub use error_kind::ErrorKind;
pub use id::{ContainerId, ExecId, HexId, InvalidId};
pub use name::{ContainerName, InvalidName, VolumeName};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{ImageRef, InvalidReference};
pub use signal::{InvalidSignal, Signal};
pub use size::{ByteSize, InvalidSize, binary_size, decimal_size};
pub use system_error::plain_reasons;
pub use timestamp::{InvalidTimestamp, Timestamp};
