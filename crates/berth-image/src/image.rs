//! One image, found: what it is and what a container of it runs.

use std::sync::Arc;

use berth_model::{Digest, Platform};
use berth_oci::image::{ContainerConfig, Descriptor, ImageConfig, Manifest};

use crate::documents::Configured;

/// One image for one platform. What it says never changes; it may be removed while somebody holds this.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) target: Descriptor,
    pub(crate) manifest_descriptor: Descriptor,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) config: Arc<Configured>,
}

impl Image {
    /// Its id: the digest of the manifest or index that its names point to.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.target.digest
    }

    /// What its names point to.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.target
    }

    /// The manifest for its platform, with the platform in it.
    #[must_use]
    pub fn manifest_descriptor(&self) -> &Descriptor {
        &self.manifest_descriptor
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What a container of it runs.
    #[must_use]
    pub fn config(&self) -> &ContainerConfig {
        &self.config.document.config
    }

    /// Its whole configuration.
    #[must_use]
    pub fn document(&self) -> &ImageConfig {
        &self.config.document
    }

    /// What it runs on.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.config.document.platform()
    }
}
