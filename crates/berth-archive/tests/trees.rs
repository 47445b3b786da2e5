//! Parts of trees in and out of archives, what a layer changes, and layers compared with their archives.

mod support;

use std::{fs, io::BufReader, os::fd::AsFd, path::Path};

use berth_archive::{
    Applier, ApplyOptions, ChangeKind, Kind, LayerView, Owners, PackOptions, Replace, TarReader, Whiteouts, changes,
    pack_path, pack_view, verify,
};
use support::{apply, archive, is_root, link, member};

const AS_IT_IS: PackOptions = PackOptions { whiteouts: Whiteouts::Keep, living: false };

fn open(path: &Path) -> fs::File {
    fs::File::open(path).expect("directory")
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut reader = TarReader::new(tar);
    let mut names = Vec::new();
    while let Some(member) = reader.next_member().expect("own archive") {
        names.push(String::from_utf8(member.name).expect("text"));
    }
    names
}

/// `dir/{file,sub/deep}` and a link.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temp dir");
    fs::create_dir_all(root.path().join("dir/sub")).expect("directory");
    fs::write(root.path().join("dir/file"), "content").expect("file");
    fs::write(root.path().join("dir/sub/deep"), "deep").expect("file");
    std::os::unix::fs::symlink("file", root.path().join("dir/link")).expect("link");
    root
}

#[test]
fn a_part_of_a_tree_is_packed_under_any_name() {
    let root = tree();
    let packed = |path: &str, name: &str| {
        let root = open(root.path());
        names(&pack_path(root.as_fd(), path.as_bytes(), name.as_bytes(), Vec::new(), AS_IT_IS).expect("packed"))
    };
    assert_eq!(packed("dir", "dir"), ["dir/", "dir/file", "dir/link", "dir/sub/", "dir/sub/deep"]);
    assert_eq!(packed("dir/sub", "other"), ["other/", "other/deep"]);
    assert_eq!(packed("dir/file", "renamed"), ["renamed"]);
    assert_eq!(packed("", "."), ["./", "./dir/", "./dir/file", "./dir/link", "./dir/sub/", "./dir/sub/deep"]);
    assert_eq!(packed("", "/")[..2], ["/", "/dir/"]);
    let root = open(root.path());
    assert!(pack_path(root.as_fd(), b"dir/link/x", b"x", Vec::new(), AS_IT_IS).is_err(), "no link is followed");
}

fn put(root: &Path, members: &[u8], options: ApplyOptions, with: impl Fn(Applier) -> Applier) -> Result<(), String> {
    let owners = if is_root() { Owners::Recorded } else { Owners::Caller };
    let options = ApplyOptions { whiteouts: Whiteouts::Keep, root_attributes: false, owners, ..options };
    let applier = with(Applier::new(open(root).into(), LayerView::empty(), options));
    applier.apply(&mut TarReader::new(members)).map(drop).map_err(|error| error.to_string())
}

#[test]
fn members_go_to_a_directory_and_under_another_name() {
    let root = tree();
    let members = archive(&[
        (member("./", Kind::Directory), b""),
        (member("a", Kind::Directory), b""),
        (member("a/f", Kind::File), b"f"),
        (link("a/h", Kind::HardLink, "a/f"), b""),
        (member("ab", Kind::File), b"ab"),
    ]);
    put(root.path(), &members, ApplyOptions::default(), |applier| applier.beneath(b"dir").renamed(b"a", b"new"))
        .expect("put");
    let text = |path: &str| fs::read_to_string(root.path().join(path)).expect(path);
    assert_eq!((text("dir/new/f"), text("dir/new/h"), text("dir/ab")), ("f".into(), "f".into(), "ab".into()));
    // A link in the tree leads on within the tree's root, wherever it points.
    std::os::unix::fs::symlink("/dir/sub", root.path().join("dir/way")).expect("link");
    std::os::unix::fs::symlink("../../../../../..", root.path().join("dir/up")).expect("link");
    let through = archive(&[(member("way/x", Kind::File), b"x"), (member("up/top", Kind::File), b"top")]);
    put(root.path(), &through, ApplyOptions::default(), |applier| applier.beneath(b"dir")).expect("put");
    assert_eq!((text("dir/sub/x"), text("top")), ("x".into(), "top".into()));
}

#[test]
fn kinds_are_kept_when_asked() {
    let root = tree();
    let options = ApplyOptions { replace: Replace::SameKind, ..ApplyOptions::default() };
    let over = |name: &str, kind: Kind| put(root.path(), &archive(&[(member(name, kind), b"")]), options, |a| a);
    assert!(over("dir/file", Kind::Directory).expect_err("refused").contains("take the place"));
    assert!(over("dir/link", Kind::Directory).expect_err("refused").contains("take the place"));
    assert!(over("dir/sub", Kind::File).expect_err("refused").contains("take the place of a directory"));
    over("dir/file", Kind::File).expect("a file for a file");
    over("dir/sub", Kind::Directory).expect("a directory for a directory");
    put(root.path(), &archive(&[(member("dir/sub", Kind::File), b"")]), ApplyOptions::default(), |a| a)
        .expect("anything");
}

#[test]
fn changes_are_those_that_somebody_can_see() {
    if !is_root() {
        return;
    }
    let (lower, upper) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
    apply(
        &archive(&[
            (member("etc", Kind::Directory), b""),
            (member("etc/kept", Kind::File), b"same"),
            (member("etc/gone", Kind::File), b""),
            (member("opaque", Kind::Directory), b""),
            (member("opaque/old", Kind::File), b"old"),
            (member("was", Kind::Directory), b""),
            (member("was/in", Kind::File), b""),
        ]),
        lower.path(),
    )
    .expect("lower");
    support::apply_above(
        &archive(&[
            (member("etc", Kind::Directory), b""),
            (member("etc/kept", Kind::File), b"same"),
            (member("etc/.wh.gone", Kind::File), b""),
            (member("etc/.wh.never", Kind::File), b""),
            (member("opaque", Kind::Directory), b""),
            (member("opaque/.wh..wh..opq", Kind::File), b""),
            (member("opaque/new", Kind::File), b"new"),
            (member("was", Kind::File), b""),
        ]),
        upper.path(),
        &[lower.path().to_owned()],
    )
    .expect("upper");
    let view = LayerView::open(&[lower.path()]).expect("view");
    let found = changes(open(upper.path()).as_fd(), &view).expect("changes");
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let shown: Vec<String> =
        found.iter().map(|one| format!("{} {}", letter(one.kind), String::from_utf8_lossy(&one.path))).collect();
    let expected = ["C etc", "D etc/gone", "C opaque", "A opaque/new", "D opaque/old", "C was", "D was/in"];
    assert_eq!(shown, expected);
    let both = LayerView::open(&[lower.path(), upper.path()]).expect("view");
    let merged = names(&pack_view(&both, Vec::new(), AS_IT_IS).expect("packed"));
    assert_eq!(merged, ["etc/", "etc/kept", "opaque/", "opaque/new", "was"]);
}

#[test]
fn a_layer_that_was_changed_is_found_out() {
    let root = tempfile::tempdir().expect("temp dir");
    let tar = archive(&[
        (member("a", Kind::File), b"replaced by the next"),
        (member("a", Kind::File), b"content"),
        (link("h", Kind::HardLink, "a"), b""),
        (link("l", Kind::Symlink, "a"), b""),
        (member("d", Kind::Directory), b""),
        (member("d/x", Kind::File), b"x"),
    ]);
    apply(&tar, root.path()).expect("applied");
    let check = || -> Vec<String> {
        let found = verify(BufReader::new(&tar[..]), open(root.path()).as_fd()).expect("own archive");
        found.into_iter().map(|one| format!("{} {}", one.path, one.reason)).collect()
    };
    assert_eq!(check(), Vec::<String>::new());
    fs::write(root.path().join("d/x"), "y").expect("write");
    fs::remove_file(root.path().join("l")).expect("remove");
    fs::write(root.path().join("h"), "longer content").expect("write");
    assert_eq!(
        check(),
        ["a has 14 bytes instead of 7", "d/x has other content", "h has 14 bytes instead of 7", "l is missing"]
    );
}
