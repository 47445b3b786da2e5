//! Layer tars: apply, diff, whiteouts, safe paths.
//!
//! A layer travels as a tar and lives as a directory of its own that overlay stacks on others. [`Applier`] turns the first into the
//! second, [`pack`] the second into the first, both with whiteouts in the form that belongs there (OCI image specification,
//! "Layers"). [`unpack`] does the whole way from a compressed blob in two lanes. [`LayerView`] reads a stack of such directories
//! as the one tree that a container would see, without mounting anything.
//!
//! Nothing that an archive or a layer says is believed: every path is opened beneath its root with `openat2`, symbolic links are
//! followed only inside it, and a name that leaves it is an error that quotes it.
//!
//! Deliberately absent: digests' meaning, manifests, mounts, where layers lie on disk.
#![forbid(unsafe_code)]

mod apply;
mod compression;
mod copy;
mod diff;
mod error;
mod hash;
mod member;
mod name;
mod pack;
mod pax;
mod pipeline;
mod reader;
mod sparse;
mod tree;
mod verify;
mod view;
mod writer;

pub use apply::{Applier, ApplyOptions, Assumptions, Below, OverlayXattrs, Owners, Replace, Settled, Usage, Whiteouts};
pub use compression::{Compression, Decoder, decoder, peek};
pub use copy::copy_directory;
pub use diff::{Change, ChangeKind, changes};
pub use error::ArchiveError;
pub use hash::{Hasher, HashingReader};
pub use member::{Kind, Member, Time};
pub use name::MemberName;
pub use pack::{PackOptions, pack, pack_path, pack_view};
pub use pipeline::{BlobHash, Limits, Unpacked, unpack};
pub use reader::TarReader;
pub use verify::{Difference, digest_file, verify};
pub use view::{LayerView, Node};
pub use writer::TarWriter;
