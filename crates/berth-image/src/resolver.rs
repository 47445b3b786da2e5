//! Where images come from when they are not here.

use std::{
    io::{self, Read},
    ops::Range,
};

use berth_distribution::DistributionError;
use berth_model::{ErrorKind, ImageRef};
use berth_oci::image::Descriptor;

/// Finds images by name and gives their content: a registry, or the layout embedded in the program.
///
/// Its calls block: an image store works on threads of its own, fetches several blobs and several parts of one at a time by calling from
/// several threads, and goes on with a blob that broke off by asking for the rest of it. What it gives is believed only once its digest was
/// checked.
pub trait Resolver: Send + Sync {
    /// What a name points to just now: a manifest or an index.
    ///
    /// # Errors
    /// [`ResolveError`].
    fn resolve(&self, reference: &ImageRef) -> Result<Descriptor, ResolveError>;

    /// A manifest or an index.
    ///
    /// # Errors
    /// [`ResolveError`].
    fn manifest(&self, reference: &ImageRef, manifest: &Descriptor) -> Result<Vec<u8>, ResolveError>;

    /// The bytes of a blob within a range. The name tells where to look.
    ///
    /// # Errors
    /// [`ResolveError`].
    fn fetch(&self, reference: &ImageRef, blob: &Descriptor, range: Range<u64>) -> Result<Fetched, ResolveError>;

    /// All tags of a repository.
    ///
    /// # Errors
    /// [`ResolveError`].
    fn tags(&self, reference: &ImageRef) -> Result<Vec<String>, ResolveError>;
}

/// Bytes of a blob as they come.
pub struct Fetched {
    /// Where in the blob they begin: not after what was asked for, but maybe before.
    pub start: u64,
    /// Whether the server knows parts of blobs: one that does not gives the whole, whatever was asked for.
    pub is_part: bool,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

/// An image could not be found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such image there.
    #[error("failed to resolve reference \"{0}\": {0}: not found")]
    NotFound(ImageRef),
    /// The registry does not tell what the name points to.
    #[error("{}", unresolved(.reference, .source))]
    Resolve {
        /// The name.
        reference: Box<ImageRef>,
        /// Why not.
        source: DistributionError,
    },
    /// A blob or manifest could not be fetched.
    #[error("failed to copy: {what}: {source}")]
    Registry {
        /// Which blob.
        what: String,
        /// Why not.
        source: DistributionError,
    },
    /// A blob broke off on its way.
    #[error("fetching {what}: {source}")]
    Fetch {
        /// Which blob of which image.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody wants it any more.
    #[error("context canceled")]
    Cancelled,
}

/// The words of Docker's store for each reason (golden).
fn unresolved(reference: &ImageRef, source: &DistributionError) -> String {
    let failed = format!("failed to resolve reference \"{reference}\"");
    match source {
        DistributionError::NoCredentials | DistributionError::Denied { .. } => {
            format!("{failed}: pull access denied, repository does not exist or may require authorization: {source}")
        }
        DistributionError::Refused { .. } => format!("unknown: {failed}: {source}"),
        DistributionError::NotFound(_) => format!("{failed}: {reference}: not found"),
        source => format!("{failed}: {source}"),
    }
}

impl ResolveError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Resolve { source, .. } => match source {
                // What somebody may not see might as well not be there.
                DistributionError::Denied { .. } => ErrorKind::NotFound,
                source => source.kind(),
            },
            Self::Registry { source, .. } => source.kind(),
            Self::Fetch { .. } | Self::Cancelled => ErrorKind::Internal,
        }
    }

    /// Whether trying again may help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Resolve { source, .. } | Self::Registry { source, .. } => source.is_transient(),
            Self::Fetch { .. } => true,
            Self::NotFound(_) | Self::Cancelled => false,
        }
    }

    /// Whether no registry answered at all.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Resolve { source, .. } if source.is_unanswered())
    }
}
