//! Where images come from when they are not here: the seam that a registry client fills.

use std::io::{self, Read};

use berth_model::{ErrorKind, ImageRef};
use berth_oci::image::Descriptor;

/// Finds images by name and gives their content.
///
/// Its calls block: an image store works on threads of its own, fetches several blobs at a time by calling from several threads, and goes on
/// with a blob that broke off by asking for it from an offset. What it gives is believed only once its digest was checked.
pub trait Resolver: Send + Sync {
    /// What a name points to just now: a manifest or an index.
    ///
    /// # Errors
    /// [`ResolveError`].
    fn resolve(&self, reference: &ImageRef) -> Result<Descriptor, ResolveError>;

    /// The bytes of a blob from `offset` on. The name tells where to look, and with which credentials.
    ///
    /// # Errors
    /// [`ResolveError`].
    fn fetch(&self, reference: &ImageRef, blob: &Descriptor, offset: u64)
    -> Result<Box<dyn Read + Send>, ResolveError>;
}

/// An image could not be found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such image there.
    #[error("failed to resolve reference \"{0}\": {0}: not found")]
    NotFound(ImageRef),
    /// Nobody here knows that registry.
    #[error(
        "cannot pull {}: pulling from registries is not there yet; \"load\" an archive or \"import\" a root file system instead",
        .0.familiar()
    )]
    NotThereYet(ImageRef),
    /// The blob could not be fetched.
    #[error("fetching {what}: {source}")]
    Fetch {
        /// Which blob of which image.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl ResolveError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::NotThereYet(_) => ErrorKind::NotImplemented,
            Self::Fetch { .. } => ErrorKind::Internal,
        }
    }
}
