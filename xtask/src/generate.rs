//! Protocol files to Rust: compiled by protox, printed by prost-build, committed under `crates/berth-proto/src/generated`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// The files whose messages the engine speaks. What they import comes along.
///
/// Task v2 is not among them: its messages are those of v3 under another package name, which a test of `berth-proto` keeps true.
const FILES: &[&str] = &[
    "berth/shim/v1/shim.proto",
    "events/task.proto",
    "runtime/bootstrap/v1/bootstrap.proto",
    "runtime/task/v3/shim.proto",
    "services/ttrpc/events/v1/events.proto",
    "types/introspection.proto",
    "types/runc/options/oci.proto",
    "types/runtimeoptions/v1/api.proto",
];

/// Writes the generated files, or with `check` only compares them.
pub fn run(check: bool) -> Result<(), Box<dyn Error>> {
    let krate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/berth-proto");
    let target = krate.join("src/generated");
    let fresh = generate(&krate.join("proto"))?;
    if check { compare(&target, &fresh) } else { write(&target, &fresh) }
}

fn generate(protos: &Path) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let descriptors = protox::compile(FILES, [protos.to_path_buf(), protos.join("containerd")])?;
    let scratch = Scratch::new()?;
    prost_build::Config::new()
        // Maps keep an order, so that what is encoded can be compared.
        .btree_map(["."])
        .include_file("mod.rs")
        .out_dir(&scratch.0)
        .compile_fds(descriptors)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&scratch.0)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}

fn write(target: &Path, fresh: &BTreeMap<String, Vec<u8>>) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(target)? {
        fs::remove_file(entry?.path())?;
    }
    for (name, text) in fresh {
        fs::write(target.join(name), text)?;
    }
    Ok(())
}

fn compare(target: &Path, fresh: &BTreeMap<String, Vec<u8>>) -> Result<(), Box<dyn Error>> {
    for (name, text) in fresh {
        if fs::read(target.join(name)).ok().as_ref() != Some(text) {
            return Err(format!("{name} is not what the protocol files say; run `cargo xtask gen`").into());
        }
    }
    Ok(())
}

/// A directory of our own that goes with us.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("berth-xtask-gen-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}
