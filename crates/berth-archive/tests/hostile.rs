//! Archives made to do harm: nothing is ever written outside the root, and the message names the member.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use std::{io::Write as _, path::Path};

use berth_archive::{ApplyOptions, ArchiveError, BlobHash, Kind, LayerView, Limits, Owners, unpack};
use berth_model::Algorithm;
use support::*;

/// Unpacks into `outer/root` and checks that `outer` holds nothing else afterwards.
fn inside(members: &[(berth_archive::Member, &[u8])], check: impl FnOnce(Result<(), ArchiveError>, &Path)) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(outer.path().join("secret"), "untouched").unwrap();
    let result = apply(&archive(members), &root).map(drop);
    check(result, &root);
    assert_eq!(std::fs::read(outer.path().join("secret")).unwrap(), b"untouched");
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2, "something was made outside the root");
}

fn refused(members: &[(berth_archive::Member, &[u8])], words: &str) {
    inside(members, |result, _| {
        let error = result.expect_err(words).to_string();
        assert!(error.contains(words), "{error:?} should contain {words:?}");
        assert!(!error.contains('\n'));
    });
}

#[test]
fn names_that_leave_the_root_are_refused() {
    for name in ["../secret", "a/../../secret", "..", "./../secret", "/../secret"] {
        refused(&[(member(name, Kind::File), b"x")], "it leads out of the root");
        refused(&[(member(name, Kind::Directory), b"")], "it leads out of the root");
        refused(&[(link(name, Kind::Symlink, "x"), b"")], "it leads out of the root");
    }
}

#[test]
fn absolute_names_mean_the_root_of_the_layer() {
    inside(&[(member("/etc/x", Kind::File), b"1"), (member("//etc/./y", Kind::File), b"2")], |result, root| {
        result.unwrap();
        assert_eq!(listing(root).keys().collect::<Vec<_>>(), ["etc", "etc/x", "etc/y"]);
    });
}

#[test]
fn symbolic_links_never_lead_out() {
    for target in ["..", "../", "/", "../..", "/../..", "../root/.."] {
        inside(
            &[(link("out", Kind::Symlink, target), b""), (member("out/secret", Kind::File), b"owned")],
            |result, root| {
                result.unwrap();
                assert_eq!(listing(root)["secret"], "owned", "{target} is followed inside the root");
            },
        );
    }
    // A link at the member's own place is replaced, not followed.
    inside(
        &[(link("file", Kind::Symlink, "../secret"), b""), (member("file", Kind::File), b"mine")],
        |result, root| {
            result.unwrap();
            assert_eq!(listing(root)["file"], "mine");
        },
    );
    // So is one where a directory should be.
    inside(&[(link("dir", Kind::Symlink, ".."), b""), (member("dir", Kind::Directory), b"")], |result, root| {
        result.unwrap();
        assert_eq!(listing(root)["dir"], "dir");
    });
    refused(&[(link("loop", Kind::Symlink, "loop"), b""), (member("loop/x", Kind::File), b"")], "symbolic links");
    refused(&[(link("empty", Kind::Symlink, ""), b"")], "without a proper target");
}

#[test]
fn a_directory_that_becomes_a_link_does_not_carry_later_members_out() {
    let members = [
        (member("d", Kind::Directory), &b""[..]),
        (member("d/one", Kind::File), b"1"),
        (link("d", Kind::Symlink, ".."), b""),
        (member("d/secret", Kind::File), b"2"),
    ];
    inside(&members, |result, root| {
        result.unwrap();
        let found = listing(root);
        assert_eq!((found["d"].as_str(), found["secret"].as_str()), ("-> ..", "2"));
        assert!(!found.contains_key("d/one"));
    });
}

#[test]
fn hard_links_never_lead_out() {
    refused(&[(link("h", Kind::HardLink, "../secret"), b"")], "leads out of the root");
    refused(&[(link("h", Kind::HardLink, "../../etc/passwd"), b"")], "leads out of the root");
    refused(&[(link("h", Kind::HardLink, "/etc/passwd"), b"")], "which does not exist");
    refused(&[(link("h", Kind::HardLink, "missing"), b"")], "which does not exist");
    refused(&[(link("h", Kind::HardLink, "/"), b"")], "hard link to the root");
    // A link to a link is a link to the link itself.
    inside(
        &[
            (link("s", Kind::Symlink, "../secret"), b""),
            (link("h", Kind::HardLink, "s"), b""),
            (member("h", Kind::File), b"x"),
        ],
        |result, root| {
            result.unwrap();
            assert_eq!(listing(root)["h"], "x");
        },
    );
    // Nor through a parent that is one.
    inside(&[(link("up", Kind::Symlink, ".."), b""), (link("h", Kind::HardLink, "up/secret"), b"")], |result, _| {
        assert!(result.expect_err("no such file inside").to_string().contains("does not exist"));
    });
}

#[test]
fn the_root_itself_cannot_be_replaced() {
    refused(&[(member(".", Kind::File), b"x")], "it would replace the root");
    refused(&[(link("/", Kind::Symlink, "/etc"), b"")], "it would replace the root");
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        refused(&[(member(name, Kind::File), b"")], "whiteout of nothing");
    }
    // Old bookkeeping is passed over.
    inside(&[(member(".wh..wh.plnk/1.2", Kind::File), b""), (member(".wh..wh.aufs", Kind::File), b"")], |result, _| {
        result.unwrap();
    });
}

#[test]
fn overlay_s_own_attributes_are_not_taken_from_an_archive() {
    let mut trapped = member("d", Kind::Directory);
    trapped.xattrs = vec![
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
    ];
    inside(&[(trapped, b"")], |result, root| {
        result.unwrap();
        let mut names = [0; 256];
        let len = rustix::fs::listxattr(root.join("d"), &mut names[..]).unwrap();
        assert!(!String::from_utf8_lossy(&names[..len]).contains("overlay"));
    });
}

#[test]
fn impossible_owners_are_refused() {
    if !is_root() {
        return;
    }
    let mut nobody = member("x", Kind::File);
    nobody.uid = u64::from(u32::MAX);
    refused(&[(nobody, b"")], "is no user of Linux");
}

#[test]
fn the_later_of_two_members_with_one_name_wins() {
    let members = [
        (member("x", Kind::File), &b"first"[..]),
        (member("x", Kind::File), b"second"),
        (member("y", Kind::Directory), b""),
        (member("y/z", Kind::File), b""),
        (member("y", Kind::File), b"no directory any more"),
        (link("l", Kind::Symlink, "a"), b""),
        (link("l", Kind::Symlink, "b"), b""),
        (member("k", Kind::Fifo), b""),
        (member("k", Kind::Directory), b""),
        (link("x2", Kind::HardLink, "x"), b""),
        (link("x2", Kind::HardLink, "y"), b""),
    ];
    inside(&members, |result, root| {
        result.unwrap();
        let found = listing(root);
        assert_eq!(found["x"], "second");
        assert_eq!(found["y"], "no directory any more");
        assert_eq!(
            (found["l"].as_str(), found["k"].as_str(), found["x2"].as_str()),
            ("-> b", "dir", "no directory any more")
        );
        assert_eq!(found.len(), 5);
    });
}

#[test]
fn long_names_work_up_to_what_linux_allows() {
    let name = "n".repeat(255);
    let deep = format!("{}{name}", "d/".repeat(300));
    inside(&[(member(&name, Kind::File), b"1"), (member(&deep, Kind::File), b"2")], |result, root| {
        result.unwrap();
        assert_eq!(std::fs::read(root.join(&deep)).unwrap(), b"2");
    });
    refused(&[(member(&"n".repeat(300), Kind::File), b"")], "File name too long");
    refused(&[(member(&"d/".repeat(2100), Kind::Directory), b"")], "File name too long");
}

#[test]
fn every_cut_of_an_archive_is_an_error_or_a_whole_prefix() {
    let whole = archive(&[
        (member("d", Kind::Directory), b""),
        (member("d/x", Kind::File), &[7; 1500]),
        (member("y", Kind::File), b"y"),
    ]);
    for len in (0..whole.len()).step_by(97) {
        let dir = tempfile::tempdir().unwrap();
        let result = apply(&whole[..len], dir.path());
        let at_boundary = len == 0 || result.is_ok();
        if !at_boundary {
            assert!(result.unwrap_err().to_string().starts_with("unexpected EOF"), "cut at {len}");
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&archive(&[(member("zeros", Kind::File), &vec![0; 8 << 20])])).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 64 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let root = std::fs::File::open(dir.path()).unwrap().into();
    let options = ApplyOptions { owners: Owners::Caller, ..ApplyOptions::default() };
    let limits = Limits { max_bytes: Some(1 << 20), ..Limits::default() };
    let error = unpack(bomb.as_slice(), root, LayerView::empty(), options, BlobHash::Known, Algorithm::Sha256, limits)
        .unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge { limit: 1_048_576 }), "{error}");
    let size = std::fs::metadata(dir.path().join("zeros")).map_or(0, |data| data.len());
    assert!(size <= 1 << 20, "{size}");
}

#[test]
fn random_damage_never_escapes_or_panics() {
    let good = archive(&[
        (member("a", Kind::Directory), b""),
        (link("a/l", Kind::Symlink, "../.."), b""),
        (member("a/l/x", Kind::File), b"data data data"),
        (link("h", Kind::HardLink, "a/l/x"), b""),
        (member("a/.wh.gone", Kind::File), b""),
        (member("a/.wh..wh..opq", Kind::File), b""),
        (member(&"long/".repeat(8), Kind::Directory), b""),
    ]);
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..6) {
            // Mostly in headers, with the checksum mended, so that the damage is looked at.
            let block = random.usize(0..bytes.len() / 512) * 512;
            let at = block + random.usize(0..512);
            bytes[at] = if random.bool() { random.u8(..) } else { *random.choice(b"/.0157gxLKS\0").unwrap() };
            let sum: u32 = bytes[block..block + 512]
                .iter()
                .enumerate()
                .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
                .sum();
            bytes[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let _ = apply(&bytes, &root);
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1, "seed {seed}");
    }
}
