//! Killed at any moment, the store opens again with whole images only, and nothing is left over.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use berth_image::{ImageStoreConfig, Images, ImportOptions, ListOptions, RemoveOptions};
use support::*;

const ROOT: &str = "BERTH_TEST_CRASH_ROOT";

fn open(root: &Path) -> Images {
    Images::open(ImageStoreConfig::new(root), berth_store::Store::open(root, root).unwrap()).unwrap()
}

fn layers() -> Vec<Vec<u8>> {
    (0..3_u8)
        .map(|n| tar(&[(format!("f{n}").as_str(), &vec![n; 200_000][..]), (format!("g{n}").as_str(), b"g")]))
        .collect()
}

/// Not a test of its own: the program that is killed. It loads, imports, tags and removes without end.
#[test]
fn victim() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let images = open(Path::new(&root));
    images.reconcile(&[]).unwrap();
    let layers = layers();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    loop {
        for n in 1..=3 {
            images.load(docker_archive(&format!("loaded{n}"), &layers[..n]).as_slice(), &[], &mut |_| {}).unwrap();
        }
        let reference = Some("imported".parse().unwrap());
        images.import(gzip(layers[0]).as_slice(), ImportOptions { reference, ..ImportOptions::default() }).unwrap();
        images.tag("loaded2", &"other".parse().unwrap()).unwrap();
        for name in ["loaded1", "loaded3", "imported", "loaded2", "other"] {
            images.remove(name, RemoveOptions { force: true }, &no_users).unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_whole_images_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let layers = layers();
    for round in 0..12 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact"])
            .env(ROOT, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + round * 37));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let images = open(dir.path());
        images.reconcile(&[]).unwrap();
        let list = images.list(ListOptions::default()).unwrap();
        let mut expected = std::collections::BTreeSet::new();
        for summary in &list {
            let image = images.resolve(summary.id.as_str()).unwrap();
            let rootfs = images.rootfs(&image).unwrap();
            for (n, path) in rootfs.chain().iter().enumerate() {
                let data = std::fs::read(path.join(format!("f{n}"))).unwrap();
                assert!(tar(&[(format!("f{n}").as_str(), &data[..]), (format!("g{n}").as_str(), b"g")]) == layers[n]);
                expected.insert(path.clone());
            }
        }
        images.snapshots().empty_trash();
        let count = |path: &str| std::fs::read_dir(dir.path().join(path)).unwrap().count();
        let left = ["content/ingest", "snapshots/unpack", "snapshots/trash"].map(count);
        assert_eq!((left, count("snapshots/layers")), ([0; 3], expected.len()), "round {round}");
        if list.is_empty() {
            assert_eq!(count("content/blobs/sha256"), 0);
        }
    }
}
