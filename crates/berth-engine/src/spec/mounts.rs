//! Mounts a container asks for: binds, volumes, tmpfs.

use serde::{Deserialize, Serialize};

/// One mount, from `-v`, `--mount`, `--tmpfs` or the image's volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Absolute path inside the container, cleaned.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Not writable.
    pub read_only: bool,
    /// The mode text of a `-v` specification (`ro,z`), shown by inspect.
    #[serde(default)]
    pub mode: String,
    /// Consistency word; kept and ignored, as Docker does on Linux.
    #[serde(default)]
    pub consistency: String,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// Absolute path.
        source: String,
        /// How.
        #[serde(default)]
        options: BindOptions,
    },
    /// A volume.
    Volume {
        /// Its name; `None` makes an anonymous one.
        name: Option<String>,
        /// How.
        #[serde(default)]
        options: VolumeOptions,
    },
    /// Memory.
    Tmpfs(TmpfsOptions),
    /// The content of an image, read-only.
    Image {
        /// The image as typed.
        source: String,
        /// A directory in it.
        #[serde(default)]
        subpath: String,
    },
}

/// How a bind mount is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// Propagation; `rprivate` when not given.
    pub propagation: Option<Propagation>,
    /// Only the mount itself, not what is mounted beneath.
    pub non_recursive: bool,
    /// Makes a missing source as a directory (`-v` does, `--mount` does not).
    pub create_source: bool,
    /// Read-only for the mount itself only.
    pub read_only_non_recursive: bool,
    /// Fails where recursive read-only is not possible.
    pub read_only_force_recursive: bool,
}

/// How a volume is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// Does not copy the image's content into an empty volume.
    pub no_copy: bool,
    /// A directory in the volume.
    pub subpath: String,
    /// Labels of a volume made on demand.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Driver of a volume made on demand; empty is `local`.
    pub driver: String,
    /// Options of that driver.
    pub driver_opts: std::collections::BTreeMap<String, String>,
}

/// How a tmpfs is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Bytes; 0 is the kernel's default.
    pub size_bytes: u64,
    /// Permissions of its root; 0 is 1777.
    pub mode: u32,
    /// Further options, as typed after `--tmpfs /path:` or as pairs.
    pub options: Vec<String>,
}

/// Mount propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Neither way.
    Private,
    /// Neither way, the whole tree.
    Rprivate,
    /// Both ways.
    Shared,
    /// Both ways, the whole tree.
    Rshared,
    /// From the host only.
    Slave,
    /// From the host only, the whole tree.
    Rslave,
}

impl Propagation {
    /// The word of mount options.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Propagation::Private => "private",
            Propagation::Rprivate => "rprivate",
            Propagation::Shared => "shared",
            Propagation::Rshared => "rshared",
            Propagation::Slave => "slave",
            Propagation::Rslave => "rslave",
        }
    }

    /// Reads the word of mount options.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "private" => Propagation::Private,
            "rprivate" => Propagation::Rprivate,
            "shared" => Propagation::Shared,
            "rshared" => Propagation::Rshared,
            "slave" => Propagation::Slave,
            "rslave" => Propagation::Rslave,
            _ => return None,
        })
    }
}
