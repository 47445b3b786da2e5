//! The OCI layout that is part of the program: the image `hello-world`, so that a new machine without any registry has something to run.

use std::{io, ops::Range, sync::LazyLock};

use berth_archive::{Kind, Member, TarWriter, Time};
use berth_content::digest_of;
use berth_model::{Algorithm, Digest, ImageRef, Platform};
use berth_oci::image::{ContainerConfig, Descriptor, History, ImageConfig, Manifest, RootFs, media_type};

use crate::{Fetched, ResolveError, Resolver};

/// The program, built from `hello/hello.rs`.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello"));
/// When the image says it was made: always the same, so that its digest depends on nothing but its content.
const CREATED: &str = "2026-11-01T00:00:00Z";
const CREATED_SECONDS: i64 = 1_793_491_200;

/// Answers for `hello-world` and for nothing else.
pub struct EmbeddedResolver {
    layout: LazyLock<HelloWorld>,
}

/// The blobs of the layout.
struct HelloWorld {
    manifest: Descriptor,
    blobs: Vec<(Digest, Vec<u8>)>,
}

impl EmbeddedResolver {
    /// The layout embedded in this program. It is made when first asked for.
    #[must_use]
    pub fn new() -> Self {
        Self { layout: LazyLock::new(HelloWorld::make) }
    }
}

impl Default for EmbeddedResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver for EmbeddedResolver {
    fn resolve(&self, reference: &ImageRef) -> Result<Descriptor, ResolveError> {
        if reference.repository() != "docker.io/library/hello-world" {
            return Err(ResolveError::NotFound(reference.clone()));
        }
        let ours = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => *digest == self.layout.manifest.digest,
            (None, tag) => tag == Some("latest"),
        };
        if ours { Ok(self.layout.manifest.clone()) } else { Err(ResolveError::NotFound(reference.clone())) }
    }

    fn manifest(&self, reference: &ImageRef, manifest: &Descriptor) -> Result<Vec<u8>, ResolveError> {
        self.blob(reference, &manifest.digest).map(<[u8]>::to_vec)
    }

    fn fetch(&self, reference: &ImageRef, blob: &Descriptor, range: Range<u64>) -> Result<Fetched, ResolveError> {
        let mut body = io::Cursor::new(self.blob(reference, &blob.digest)?.to_vec());
        body.set_position(range.start);
        Ok(Fetched { start: range.start, is_part: true, body: Box::new(body) })
    }

    fn tags(&self, reference: &ImageRef) -> Result<Vec<String>, ResolveError> {
        self.resolve(reference).map(|_| vec!["latest".to_owned()])
    }
}

impl EmbeddedResolver {
    fn blob(&self, reference: &ImageRef, digest: &Digest) -> Result<&[u8], ResolveError> {
        let found = self.layout.blobs.iter().find(|(known, _)| known == digest);
        let missing = || ResolveError::NotFound(reference.with_digest(digest.clone()));
        found.map(|(_, bytes)| bytes.as_slice()).ok_or_else(missing)
    }
}

impl HelloWorld {
    fn make() -> Self {
        let mut blobs = Vec::new();
        let mut add = |kind: &str, bytes: Vec<u8>| {
            let digest = digest_of(Algorithm::Sha256, &bytes);
            let descriptor = Descriptor::new(kind, digest.clone(), bytes.len() as u64);
            blobs.push((digest, bytes));
            descriptor
        };
        let layer = add(media_type::LAYER, layer());
        let config = add(media_type::CONFIG, to_json(&config(layer.digest.clone())));
        let manifest = add(media_type::MANIFEST, to_json(&Manifest::image(config, vec![layer])));
        Self { manifest, blobs }
    }
}

/// A tar with nothing but the program.
fn layer() -> Vec<u8> {
    let mut member = Member::new(b"hello", Kind::File);
    member.mode = 0o755;
    member.mtime = Time { seconds: CREATED_SECONDS, nanos: 0 };
    let mut writer = TarWriter::new(Vec::new());
    let written = writer.append_bytes(&member, PROGRAM).and_then(|()| writer.finish());
    written.expect("writing to memory cannot fail")
}

fn config(layer: Digest) -> ImageConfig {
    let host = Platform::host();
    ImageConfig {
        created: Some(CREATED.to_owned()),
        architecture: host.architecture,
        variant: Some(host.variant).filter(|variant| !variant.is_empty()),
        os: host.os,
        rootfs: RootFs { diff_ids: vec![layer], ..RootFs::default() },
        history: vec![History {
            created: Some(CREATED.to_owned()),
            created_by: Some("CMD [\"/hello\"]".to_owned()),
            comment: Some("embedded in Berth".to_owned()),
            ..History::default()
        }],
        config: ContainerConfig {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: Some(vec!["/hello".to_owned()]),
            working_dir: "/".to_owned(),
            ..ContainerConfig::default()
        },
        ..ImageConfig::default()
    }
}

pub(crate) fn to_json<T: serde::Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents of ours have text keys only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_tiny_and_always_the_same() {
        let (one, two) = (HelloWorld::make(), HelloWorld::make());
        assert_eq!(one.manifest, two.manifest);
        assert!(PROGRAM.len() < 16_000, "{} bytes", PROGRAM.len());
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert_eq!(CREATED.parse::<berth_model::Timestamp>().expect("time").seconds(), CREATED_SECONDS);
    }

    #[test]
    fn the_program_greets_and_ends_well() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("hello");
        std::fs::write(&path, PROGRAM).expect("write");
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("chmod");
        let output = std::process::Command::new(&path).output().expect("run");
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("Hello from Berth!"));
    }

    #[test]
    fn anything_else_is_answered_in_one_clear_line() {
        let resolver = EmbeddedResolver::new();
        let error = resolver.resolve(&"nginx:1".parse().expect("name")).expect_err("not here");
        assert_eq!(error.kind(), berth_model::ErrorKind::NotFound);
        assert!(error.to_string().ends_with("docker.io/library/nginx:1: not found"), "{error}");
        let error = resolver.resolve(&"hello-world:2".parse().expect("name")).expect_err("not here");
        assert!(error.to_string().ends_with("docker.io/library/hello-world:2: not found"), "{error}");
    }
}
