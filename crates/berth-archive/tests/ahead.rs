//! Layers that are unpacked before anybody knows what lies below them: as if it had been known, or not at all.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::fd::AsFd as _;

use berth_archive::{Kind, LayerView, Member, Settled};
use support::*;

fn file(name: &str) -> Member {
    member(name, Kind::File)
}

fn dir(name: &str, mode: u32) -> Member {
    let mut member = member(name, Kind::Directory);
    member.mode = mode;
    member
}

type Members = Vec<(Member, &'static [u8])>;

/// What lies below in all of these: a directory with looks of its own, a link to one, a file.
fn below() -> Members {
    let owned = |uid, mut member: Member| {
        member.uid = uid;
        member
    };
    vec![
        (owned(5, dir(".", 0o751)), b""),
        (owned(7, dir("tmp", 0o1777)), b""),
        (link("lib", Kind::Symlink, "usr/lib"), b""),
        (file("usr/lib/old"), b"1"),
        (file("file"), b"2"),
    ]
}

/// Modes and owners of everything but the times of directories, which implied ones do not have from anywhere.
fn looks(root: &std::path::Path) -> (Vec<String>, std::collections::BTreeMap<String, String>) {
    use std::os::unix::fs::MetadataExt as _;
    let listing = listing(root);
    let of = |path: &str| {
        let data = std::fs::symlink_metadata(root.join(path)).unwrap();
        format!("{path} {:o} {} {}", data.mode(), data.uid(), data.gid())
    };
    (std::iter::once(of(".")).chain(listing.keys().map(|path| of(path))).collect(), listing)
}

#[test]
fn a_layer_unpacked_ahead_is_as_one_unpacked_in_its_turn_or_is_refused() {
    if !is_root() {
        return;
    }
    let cases: [(&str, Members, bool); 13] = [
        ("names of its own", vec![(dir("a", 0o700), b""), (file("a/b"), b"x")], true),
        ("a directory that only lies below", vec![(file("tmp/x"), b"x")], true),
        ("one that is nowhere", vec![(file("brand/new/x"), b"x")], true),
        ("named later", vec![(file("tmp/x"), b"x"), (dir("tmp", 0o700), b"")], true),
        ("the root named", vec![(dir("./", 0o711), b""), (file("x"), b"x")], true),
        ("a whiteout", vec![(file("usr/lib/.wh.old"), b""), (file("tmp/.wh..wh..opq"), b"")], true),
        ("a whiteout, then a directory", vec![(file(".wh.file"), b""), (file("file/x"), b"x")], true),
        ("taken away again", vec![(file("tmp/x"), b"x"), (link("tmp", Kind::Symlink, "usr"), b"")], true),
        ("a link of its own", vec![(link("l", Kind::Symlink, "usr/lib"), b""), (file("l/new"), b"x")], true),
        ("a hard link of its own", vec![(file("tmp/a"), b"x"), (link("tmp/b", Kind::HardLink, "tmp/a"), b"")], true),
        ("through a link below", vec![(file("lib/new"), b"x")], false),
        ("a hard link to below", vec![(link("tmp/b", Kind::HardLink, "usr/lib/old"), b"")], false),
        ("everything hidden", vec![(file(".wh..wh..opq"), b"")], false),
    ];
    for (what, members, fits) in cases {
        let temp = tempfile::tempdir().unwrap();
        let [lower, turn, ahead] = ["lower", "turn", "ahead"].map(|name| temp.path().join(name));
        [&lower, &turn, &ahead].into_iter().for_each(|path| std::fs::create_dir(path).unwrap());
        apply(&archive(&below()), &lower).unwrap();
        let tar = archive(&members);
        // As the layer store begins a directory above another.
        std::os::unix::fs::chown(&turn, Some(5), None).unwrap();
        std::fs::set_permissions(&turn, std::fs::metadata(&lower).unwrap().permissions()).unwrap();
        let expected = apply_above(&tar, &turn, std::slice::from_ref(&lower)).unwrap();
        let unpacked = apply_ahead(&tar, &ahead).ok();
        let settled = unpacked.as_ref().map(|unpacked| {
            let root = std::fs::File::open(&ahead).unwrap();
            unpacked.assumptions.settle(root.as_fd(), &LayerView::open(&[&lower]).unwrap()).unwrap()
        });
        assert_eq!(settled == Some(Settled::Fits), fits, "{what}");
        if let Some(unpacked) = unpacked.filter(|_| fits) {
            assert_eq!((&unpacked.diff_id, unpacked.usage), (&expected.diff_id, expected.usage), "{what}");
            assert_eq!(looks(&ahead), looks(&turn), "{what}");
        }
    }
}

#[test]
fn a_directory_below_with_attributes_that_a_member_does_not_name_is_left_to_its_turn() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let [lower, ahead] = ["lower", "ahead"].map(|name| temp.path().join(name));
    [&lower, &ahead].into_iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let mut tmp = dir("tmp", 0o755);
    tmp.xattrs.push((b"trusted.mark".to_vec(), b"1".to_vec()));
    apply(&archive(&[(tmp, b"")]), &lower).unwrap();
    let unpacked = apply_ahead(&archive(&[(file("tmp/x"), b"x"), (dir("tmp", 0o700), b"")]), &ahead).unwrap();
    let root = std::fs::File::open(&ahead).unwrap();
    let settled = unpacked.assumptions.settle(root.as_fd(), &LayerView::open(&[&lower]).unwrap()).unwrap();
    assert_eq!(settled, Settled::Differs);
}

#[test]
fn large_files_that_pass_the_page_cache_arrive_whole() {
    let temp = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|n| (n * 31 % 251) as u8).collect();
    let small = &bytes[..33_000];
    apply_ahead(&archive(&[(file("large"), &bytes), (file("small"), small)]), temp.path()).unwrap();
    assert!(std::fs::read(temp.path().join("large")).unwrap() == bytes);
    assert!(std::fs::read(temp.path().join("small")).unwrap() == small);
}
