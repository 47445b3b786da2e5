//! The same archives through GNU tar and through this crate give the same trees.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    process::Command,
};

use support::*;

/// A tree with a bit of everything that a tar can carry.
fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("dir/sub")).unwrap();
    std::fs::write(root.join("dir/file"), "content").unwrap();
    std::fs::write(root.join("dir/sub/big"), vec![b'x'; 3_000_000]).unwrap();
    std::fs::write(root.join(format!("dir/{}", "n".repeat(200))), "long").unwrap();
    std::fs::write(root.join("ünïcode\nname"), "").unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("hard")).unwrap();
    std::os::unix::fs::symlink(format!("{}x", "../".repeat(60)), root.join("link")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for n in 0..40_u64 {
        sparse.write_all_at(&[b'0' + n as u8; 4096], n * 200_000 + 4096).unwrap();
    }
    sparse.set_len(10_000_000).unwrap();
    let all_hole = std::fs::File::create(root.join("hole")).unwrap();
    all_hole.set_len(5_000_000).unwrap();
    if is_root() {
        std::os::unix::fs::chown(root.join("dir"), Some(3_000_000), Some(77)).unwrap();
        rustix::fs::setxattr(root.join("hard"), "user.note", b"a\nb", rustix::fs::XattrFlags::empty()).unwrap();
    }
}

fn tar(arguments: &[&str]) {
    let status = Command::new("tar").args(arguments).status().unwrap();
    assert!(status.success(), "tar {arguments:?}");
}

/// Mode, owner, size and time of everything, and the bytes of files.
fn facts(root: &Path) -> Vec<(String, String, String)> {
    listing(root)
        .into_iter()
        .map(|(name, what)| {
            let data = root.join(&name).symlink_metadata().unwrap();
            let facts = format!(
                "{:o} {}:{} {} {} {}",
                data.mode(),
                data.uid(),
                data.gid(),
                data.nlink(),
                data.mtime(),
                data.mtime_nsec()
            );
            (name, facts, what)
        })
        .collect()
}

#[test]
fn all_formats_unpack_as_with_gnu_tar() {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    make_tree(&tree);
    for (name, options) in [
        ("gnu", &["--format=gnu"][..]),
        ("gnu sparse", &["--format=gnu", "--sparse"]),
        ("pax", &["--format=pax", "--xattrs", "--xattrs-include=*"]),
        ("pax sparse 1.0", &["--format=pax", "--sparse"]),
        ("pax sparse 0.1", &["--format=pax", "--sparse", "--sparse-version=0.1"]),
        ("pax sparse 0.0", &["--format=pax", "--sparse", "--sparse-version=0.0"]),
    ] {
        let archive = temp.path().join("archive.tar");
        let (tree_text, archive_text) = (tree.to_str().unwrap(), archive.to_str().unwrap());
        let mut create = vec!["-C", tree_text, "-cf", archive_text];
        create.extend(options);
        create.push(".");
        tar(&create);
        let (theirs, ours) = (temp.path().join("theirs"), temp.path().join("ours"));
        std::fs::create_dir(&theirs).unwrap();
        std::fs::create_dir(&ours).unwrap();
        tar(&[
            "-C",
            theirs.to_str().unwrap(),
            "-xpf",
            archive_text,
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ]);
        apply(&std::fs::read(&archive).unwrap(), &ours).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (mine, other) in facts(&ours).iter().zip(&facts(&theirs)) {
            assert_eq!((&mine.0, &mine.1), (&other.0, &other.1), "{name}");
            assert!(mine.2 == other.2, "{name}: {} differs", mine.0);
        }
        assert_eq!(listing(&ours).len(), listing(&theirs).len(), "{name}");
        if name.contains("sparse") {
            let blocks = std::fs::metadata(ours.join("sparse")).unwrap().blocks();
            assert!(blocks * 512 < 2_000_000, "{name}: the holes were filled");
        }
        std::fs::remove_dir_all(&theirs).unwrap();
        std::fs::remove_dir_all(&ours).unwrap();
    }
}
