//! Mounted images. Not of the reference API.

use serde::{Deserialize, Serialize};

/// An image that is mounted, or may be now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageMount {
    /// The directory that shows it.
    pub target: String,
    /// The image's id.
    pub image: String,
    /// What it was asked for by.
    pub name: String,
    /// Whether the directory is one of the engine's, which goes with the mount.
    pub own: bool,
    /// Whether it was recorded before.
    pub existed: bool,
    /// The directories of its layers, the highest first, as an overlay takes them.
    pub layers: Vec<String>,
}
