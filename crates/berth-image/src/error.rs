//! Why an image operation failed. The texts are Docker's where clients know them.

use std::path::PathBuf;

use berth_archive::ArchiveError;
use berth_content::ContentError;
use berth_distribution::DistributionError;
use berth_model::{Digest, ErrorKind, InvalidReference};
use berth_snapshot::SnapshotError;
use berth_store::StoreError;

use crate::ResolveError;

/// An error of the image store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of that name or id.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The name has not the form of one.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A tag has not the form of one.
    #[error("invalid tag format")]
    InvalidTag,
    /// A name that would look like a digest.
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    AmbiguousTag,
    /// Several ids begin so.
    #[error("multiple images found with provided prefix: {0}")]
    AmbiguousPrefix(String),
    /// The image is here, but not for that platform.
    #[error("image with reference {name} was found but does not provide the specified platform ({platform})")]
    NoSuchPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        platform: String,
    },
    /// An index at a registry has nothing for that platform.
    #[error("no matching manifest for {platform} in the manifest list entries: {name}")]
    NoMatchingManifest {
        /// The image.
        name: String,
        /// The platform asked for.
        platform: String,
    },
    /// An image to push is not here.
    #[error("tag does not exist: {0}")]
    NoSuchTag(String),
    /// A push was refused or broke off.
    #[error("{}", not_pushed(.0))]
    Push(DistributionError),
    /// An archive was loaded whose image is for other platforms than the one asked for.
    #[error("image {name} was loaded, but doesn't provide the requested platform ([{platform}])")]
    LoadedForOther {
        /// The image.
        name: String,
        /// The platform asked for.
        platform: String,
    },
    /// The image cannot be removed.
    #[error("conflict: unable to delete {what} ({}) - {reason}", if *.hard { "cannot be forced" } else { "must be forced" })]
    InUse {
        /// The image as the message names it.
        what: String,
        /// Whether force would not help either.
        hard: bool,
        /// Why.
        reason: String,
    },
    /// Platforms are taken from all images that have them, which must be meant.
    #[error("Content will be removed from all images referencing this variant. Use \u{2014}-force to force delete.")]
    PlatformsNeedForce,
    /// Another image is mounted there.
    #[error("{target} shows image {image} already: unmount it first")]
    MountTaken {
        /// The directory.
        target: String,
        /// What the other image was asked for by.
        image: String,
    },
    /// No image is mounted there.
    #[error("no image is mounted at {0}")]
    NotMounted(String),
    /// The image has no layers.
    #[error("image {0} has no files that could be mounted")]
    NothingToMount(String),
    /// An archive that holds no image in any form known.
    #[error("unrecognized image format")]
    UnrecognizedFormat,
    /// An archive that ends before its first header does.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// A document of an image is wrong.
    #[error("invalid image: {0}")]
    Invalid(String),
    /// A layer is not what the image's configuration says.
    #[error("layer {blob} unpacks to {found}, but the image's configuration says {expected}")]
    WrongLayer {
        /// The layer.
        blob: Digest,
        /// The digest of its uncompressed content.
        found: Digest,
        /// What the configuration says.
        expected: Digest,
    },
    /// Unpacking a layer failed.
    #[error("unpacking layer {blob}: {source}")]
    Unpack {
        /// The layer.
        blob: Digest,
        /// The reason.
        source: ArchiveError,
    },
    /// The disk is full.
    #[error("no space left in {}, needed for {action} {path:?} of a layer", .directory.display())]
    Full {
        /// Where space is needed.
        directory: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The file, from the root of the layer.
        path: String,
    },
    /// A change of an import is no instruction, or one that does not belong there.
    #[error("{0} is not a valid change command")]
    NotAChange(String),
    /// A change of an import is wrong.
    #[error("{0}")]
    Change(String),
    /// Pulling failed.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// An archive's reason.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The content store's reason.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The layer trees' reason.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The database's reason.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The words of Docker's store (golden).
fn not_pushed(error: &DistributionError) -> String {
    match error {
        DistributionError::NoCredentials | DistributionError::Denied { .. } => {
            format!("push access denied, repository does not exist or may require authorization: {error}")
        }
        error => error.to_string(),
    }
}

impl ImageError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::NoSuchPlatform { .. } | Self::NoMatchingManifest { .. } | Self::NoSuchTag(_) => {
                ErrorKind::NotFound
            }
            Self::Push(error) => error.kind(),
            Self::Reference(_) | Self::InvalidTag | Self::AmbiguousTag | Self::AmbiguousPrefix(_) => ErrorKind::Invalid,
            Self::NotAChange(_) | Self::Change(_) => ErrorKind::Invalid,
            Self::InUse { .. } | Self::MountTaken { .. } => ErrorKind::Conflict,
            Self::NotMounted(_) => ErrorKind::NotFound,
            Self::NothingToMount(_) | Self::PlatformsNeedForce => ErrorKind::Invalid,
            Self::LoadedForOther { .. } => ErrorKind::NotFound,
            Self::UnrecognizedFormat | Self::UnexpectedEof | Self::Invalid(_) | Self::WrongLayer { .. } => {
                ErrorKind::Invalid
            }
            Self::Full { .. } => ErrorKind::Internal,
            Self::Unpack { source, .. } => source.kind(),
            Self::Resolve(error) => error.kind(),
            Self::Archive(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}
