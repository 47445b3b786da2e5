//! What the tests of this crate share: an image store in a temporary directory, and small archives.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::path::Path;

use berth_archive::{Kind, Member, TarWriter};
use berth_content::digest_of;
use berth_image::{ImageError, ImageStoreConfig, ImageUser, Images, LoadedImage, Progress};
use berth_model::{Algorithm, Digest};
use berth_store::Store;

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub images: Images,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = open(dir.path());
        Self { dir, images }
    }

    /// Closes the store and opens it again, as an engine does that was killed in between.
    pub fn reopen(self) -> Self {
        let Self { dir, images } = self;
        drop(images);
        let images = open(dir.path());
        Self { dir, images }
    }

    pub fn load(&self, archive: &[u8]) -> Result<Vec<LoadedImage>, ImageError> {
        self.images.load(archive, &[], &mut |_| {})
    }

    /// What a load says, without the progress of layers.
    pub fn load_says(&self, archive: &[u8]) -> String {
        let mut said = String::new();
        let result = self.images.load(archive, &[], &mut |progress| {
            if let Progress::Stream(text) = progress {
                said.push_str(&text);
            }
        });
        match result {
            Ok(_) => said,
            Err(error) => format!("{said}error: {error}\n"),
        }
    }

    /// How many files there are of blobs, of partial blobs, and of layers.
    pub fn counts(&self) -> [usize; 3] {
        self.images.snapshots().empty_trash();
        let count = |path: &str| std::fs::read_dir(self.dir.path().join(path)).map_or(0, Iterator::count);
        [
            count("content/blobs/sha256") + count("content/blobs/sha512"),
            count("content/ingest") + count("snapshots/unpack") + count("snapshots/trash"),
            count("snapshots/layers"),
        ]
    }
}

fn open(root: &Path) -> Images {
    let store = Store::open(root, root).unwrap();
    Images::open(ImageStoreConfig::new(root), store).unwrap()
}

pub fn no_users() -> Vec<ImageUser> {
    Vec::new()
}

pub fn sha256(bytes: &[u8]) -> Digest {
    digest_of(Algorithm::Sha256, bytes)
}

/// A tar of regular files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (name, data) in files {
        let mut member = Member::new(name.as_bytes(), Kind::File);
        member.mode = 0o644;
        writer.append_bytes(&member, data).unwrap();
    }
    writer.finish().unwrap()
}

/// A configuration for layers whose uncompressed tars are given.
pub fn config(layers: &[&[u8]], extra: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", sha256(layer))).collect();
    let platform = berth_model::Platform::host();
    format!(
        r#"{{"architecture":"{}","os":"linux","created":"2024-01-02T03:04:05Z","config":{{"Cmd":["/x"],"Labels":{{"k":"v"}}}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[{{"created_by":"one"}},{{"created_by":"ENV","empty_layer":true}}]{extra}}}"#,
        platform.architecture,
        diff_ids.join(",")
    )
    .into_bytes()
}

/// An archive as `docker save` of a store with graph drivers wrote it.
pub fn docker_archive(tag: &str, layers: &[&[u8]]) -> Vec<u8> {
    let config = config(layers, "");
    let config_name = format!("{}.json", sha256(&config).hex());
    let names: Vec<String> = (0..layers.len()).map(|n| format!("layer{n}/layer.tar")).collect();
    let manifest = format!(
        r#"[{{"Config":"{config_name}","RepoTags":["{tag}"],"Layers":{}}}]"#,
        serde_json::to_string(&names).unwrap()
    );
    let mut files: Vec<(&str, &[u8])> = vec![(&config_name, &config)];
    files.extend(names.iter().map(String::as_str).zip(layers.iter().copied()));
    files.push(("manifest.json", manifest.as_bytes()));
    tar(&files)
}

/// A layout with one image, its layers compressed with gzip. `manifest_extra` goes into the manifest.
pub struct Layout {
    pub files: Vec<(String, Vec<u8>)>,
    pub manifest: Digest,
}

impl Layout {
    pub fn new(name: Option<&str>, layers: &[&[u8]]) -> Self {
        let config = config(layers, "");
        let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut add = |bytes: Vec<u8>, kind: &str| {
            let descriptor =
                format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, sha256(&bytes), bytes.len());
            files.push((format!("blobs/sha256/{}", sha256(&bytes).hex()), bytes));
            descriptor
        };
        let config = add(config, "application/vnd.oci.image.config.v1+json");
        let layers: Vec<String> =
            layers.iter().map(|layer| add(gzip(layer), "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{}]}}"#,
            layers.join(",")
        );
        let digest = sha256(manifest.as_bytes());
        let descriptor = add(manifest.into_bytes(), "application/vnd.oci.image.manifest.v1+json");
        let annotations =
            name.map(|name| format!(r#","annotations":{{"io.containerd.image.name":"{name}"}}"#)).unwrap_or_default();
        let descriptor = format!("{}{annotations}}}", descriptor.strip_suffix('}').unwrap());
        files.push((
            "index.json".to_owned(),
            format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#).into_bytes(),
        ));
        Self { files, manifest: digest }
    }

    pub fn archive(&self) -> Vec<u8> {
        tar(&self.files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect::<Vec<_>>())
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
