//! The house rules that a program can check.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers, lowest first. A crate may know those below it; beside it, only those drawn in [`SIDEWAYS`].
const LAYERS: [&[&str]; 5] = [
    &["berth-model", "berth-oci", "berth-api", "berth-proto", "berth-init"],
    &[
        "berth-sys",
        "berth-cgroup",
        "berth-store",
        "berth-content",
        "berth-archive",
        "berth-snapshot",
        "berth-ports",
        "berth-net",
        "berth-http",
        "berth-distribution",
    ],
    &["berth-runtime", "berth-shim", "berth-dns", "berth-image", "berth-engine"],
    &["berth-client", "berth-daemon", "berth-registry", "berth-cli"],
    &["berth"],
];

/// Arrows within a layer, as ARCHITECTURE.md draws them.
const SIDEWAYS: [(&str, &str); 18] = [
    ("berth-oci", "berth-model"),
    ("berth-api", "berth-model"),
    ("berth-cgroup", "berth-sys"),
    ("berth-archive", "berth-sys"),
    ("berth-snapshot", "berth-sys"),
    ("berth-snapshot", "berth-archive"),
    ("berth-net", "berth-sys"),
    ("berth-net", "berth-store"),
    ("berth-net", "berth-ports"),
    ("berth-ports", "berth-sys"),
    ("berth-content", "berth-store"),
    ("berth-distribution", "berth-http"),
    ("berth-shim", "berth-runtime"),
    ("berth-engine", "berth-image"),
    ("berth-engine", "berth-dns"),
    ("berth-cli", "berth-client"),
    ("berth-content", "berth-archive"),
    ("berth-content", "berth-sys"),
];

/// Only these may know the runtime: the shim, and the binary that gives it its name.
const KNOW_THE_RUNTIME: [&str; 2] = ["berth-shim", "berth"];
/// Only for tests: no layer.
const TESTKIT: &str = "berth-testkit";
/// Drawers that nobody can find anything in.
const DRAWERS: [&str; 5] = ["util", "utils", "helpers", "common", "misc"];

/// Checks every rule; the error names every place that breaks one.
pub fn check(repository: &Path) -> Result<(), String> {
    let mut broken = Vec::new();
    for (krate, dependency) in internal_edges(repository) {
        broken.extend(edge_fault(&krate, &dependency));
    }
    for file in rust_files(&repository.join("crates")) {
        broken.extend(file_fault(repository, &file));
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}

fn edge_fault(krate: &str, dependency: &str) -> Option<String> {
    if krate == TESTKIT || dependency == TESTKIT {
        return None;
    }
    let (Some(above), Some(below)) = (layer(krate), layer(dependency)) else {
        return Some(format!("{krate} or {dependency} is in no layer: draw it in xtask and ARCHITECTURE.md"));
    };
    if dependency == "berth-runtime" && !KNOW_THE_RUNTIME.contains(&krate) {
        return Some(format!("{krate} must not know {dependency}: only the shim does"));
    }
    let allowed = above > below || (above == below && SIDEWAYS.contains(&(krate, dependency)));
    (!allowed).then(|| format!("{krate} must not know {dependency}: dependencies point down"))
}

fn layer(krate: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&krate))
}

/// Crates of this repository that a crate is built with.
fn internal_edges(repository: &Path) -> Vec<(String, String)> {
    let mut edges = Vec::new();
    for entry in fs::read_dir(repository.join("crates")).into_iter().flatten().flatten() {
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap_or_default();
        let krate = entry.file_name().to_string_lossy().into_owned();
        let mut counts = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                counts = line == "[dependencies]";
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if counts && name.starts_with("berth-") {
                edges.push((krate.clone(), name.to_owned()));
            }
        }
    }
    edges
}

fn file_fault(repository: &Path, file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let shown = file.strip_prefix(repository).unwrap_or(file).display();
    let is_generated = file.components().any(|part| part.as_os_str() == "generated");
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if DRAWERS.contains(&stem) {
        return Some(format!("{shown}: a drawer: ask what its functions know, and give them to that"));
    }
    if !is_generated && !text.trim_start().starts_with("//!") {
        return Some(format!("{shown}: no header that says what it is"));
    }
    let is_root = stem == "lib" && file.parent().is_some_and(|parent| parent.ends_with("src"));
    if is_root && !text.contains("#![forbid(unsafe_code)]") && !shown.to_string().contains("berth-sys") {
        return Some(format!("{shown}: `unsafe` is not forbidden"));
    }
    None
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_rules_are_kept() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the repository");
        if let Err(broken) = check(repository) {
            panic!("{broken}");
        }
    }

    #[test]
    fn a_dependency_that_points_up_is_found() {
        assert_eq!(edge_fault("berth-daemon", "berth-engine"), None);
        assert!(edge_fault("berth-model", "berth-engine").is_some());
        assert!(edge_fault("berth-engine", "berth-runtime").is_some());
        assert!(edge_fault("berth-image", "berth-engine").is_some());
    }
}
