//! A registry as the place where images come from and go to, for one user and one operation.

use std::ops::Range;

use berth_distribution::{BlobBody, Credentials, DistributionError, Registries, Repository};
use berth_model::{Cancel, ImageRef};
use berth_oci::image::Descriptor;

use crate::{Fetched, ResolveError, Resolver};

/// A repository of a registry.
pub struct RegistryResolver {
    repository: Repository,
}

impl RegistryResolver {
    /// The repository that a reference names. Everything ends early once `cancel` is set.
    ///
    /// # Errors
    /// [`ResolveError::Resolve`] if the settings of that registry cannot be used.
    pub fn open(
        registries: &Registries,
        reference: &ImageRef,
        credentials: &Credentials,
        cancel: &Cancel,
    ) -> Result<Self, ResolveError> {
        let repository = registries.repository(reference, credentials, cancel);
        let repository =
            repository.map_err(|source| ResolveError::Resolve { reference: Box::new(reference.clone()), source })?;
        Ok(Self { repository })
    }

    /// The repository itself.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

fn failed(what: &Descriptor) -> impl FnOnce(DistributionError) -> ResolveError {
    let what = what.digest.to_string();
    move |source| match source {
        DistributionError::Cancelled => ResolveError::Cancelled,
        source => ResolveError::Registry { what, source },
    }
}

impl Resolver for RegistryResolver {
    fn resolve(&self, reference: &ImageRef) -> Result<Descriptor, ResolveError> {
        self.repository.resolve(reference).map_err(|source| match source {
            DistributionError::NotFound(_) => ResolveError::NotFound(reference.clone()),
            DistributionError::Cancelled => ResolveError::Cancelled,
            source => ResolveError::Resolve { reference: Box::new(reference.clone()), source },
        })
    }

    fn manifest(&self, _: &ImageRef, manifest: &Descriptor) -> Result<Vec<u8>, ResolveError> {
        self.repository.manifest(manifest).map_err(failed(manifest))
    }

    fn fetch(&self, _: &ImageRef, blob: &Descriptor, range: Range<u64>) -> Result<Fetched, ResolveError> {
        let body: BlobBody = self.repository.blob(blob, range).map_err(failed(blob))?;
        Ok(Fetched { start: body.start, is_part: body.is_part, body: Box::new(body) })
    }

    fn tags(&self, reference: &ImageRef) -> Result<Vec<String>, ResolveError> {
        self.repository
            .tags()
            .map_err(|source| ResolveError::Resolve { reference: Box::new(reference.clone()), source })
    }
}
