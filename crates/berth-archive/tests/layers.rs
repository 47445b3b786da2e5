//! Layers above layers: whiteouts, opaque directories, what is implied, and the way back into a tar.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use berth_archive::{Kind, LayerView, Member, PackOptions, Whiteouts, copy_directory, pack};
use support::*;

/// Layers in a temporary directory, applied one above the other.
struct Stack {
    dir: tempfile::TempDir,
    layers: Vec<PathBuf>,
}

impl Stack {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), layers: Vec::new() }
    }

    fn add(&mut self, members: &[(Member, &[u8])]) -> &Path {
        let path = self.dir.path().join(self.layers.len().to_string());
        std::fs::create_dir(&path).unwrap();
        apply_above(&archive(members), &path, &self.layers).unwrap();
        self.layers.push(path);
        self.layers.last().unwrap()
    }

    fn view(&self) -> LayerView {
        LayerView::open(&self.layers).unwrap()
    }

    /// Everything that the stack shows, copied out.
    fn shown(&self) -> std::collections::BTreeMap<String, String> {
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let directory = std::fs::File::open(target.path()).unwrap();
        assert!(copy_directory(&self.view(), b"/", std::os::fd::AsFd::as_fd(&directory)).unwrap());
        listing(target.path())
    }
}

fn file(name: &str) -> Member {
    member(name, Kind::File)
}

fn dir(name: &str) -> Member {
    member(name, Kind::Directory)
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    if !is_root() {
        return;
    }
    let mut stack = Stack::new();
    stack.add(&[
        (file("a/one"), b"1"),
        (file("a/two"), b"2"),
        (file("b/x/deep"), b"3"),
        (file("c/y"), b"4"),
        (file("d"), b"5"),
    ]);
    stack.add(&[
        (file("a/.wh.one"), b""),
        (file("b/.wh..wh..opq"), b""),
        (file("b/new"), b"6"),
        (file(".wh.c"), b""),
        // A file becomes a directory; a directory becomes a new one in the same layer, in either order.
        (file(".wh.d"), b""),
        (file("d/inside"), b"7"),
    ]);
    let shown = stack.shown();
    let names: Vec<&str> = shown.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "a/two", "b", "b/new", "d", "d/inside"]);
    stack.add(&[(dir("a"), b""), (file(".wh.a"), b""), (file("a/three"), b"8")]);
    assert_eq!(stack.shown().keys().collect::<Vec<_>>(), ["a", "a/three", "b", "b/new", "d", "d/inside"]);
    // Overlay never takes a root for opaque, so each name is hidden by itself.
    stack.add(&[(file(".wh..wh..opq"), b""), (file("only"), b"9")]);
    assert_eq!(stack.shown().keys().collect::<Vec<_>>(), ["only"]);
}

#[test]
fn what_overlay_shows_is_what_the_view_shows() {
    if !is_root() {
        return;
    }
    let mut stack = Stack::new();
    stack.add(&[
        (file("a/one"), b"1"),
        (file("a/two"), b"2"),
        (file("b/x"), b"3"),
        (link("l", Kind::Symlink, "a/one"), b""),
    ]);
    stack.add(&[(file("a/.wh.one"), b""), (file("b/.wh..wh..opq"), b""), (file("b/y"), b"4")]);
    stack.add(&[(file(".wh.l"), b""), (file("l/z"), b"5"), (file("a/one"), b"again")]);
    let lower: Vec<String> = stack.layers.iter().rev().map(|path| path.display().to_string()).collect();
    let script = "mount --make-rprivate / && mount -t overlay overlay -o lowerdir=$1 $2 && cd $2 && find . -mindepth 1 | sort && cat a/one l/z";
    let at = stack.dir.path().join("merged");
    std::fs::create_dir(&at).unwrap();
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", &lower.join(":")])
        .arg(&at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = stack.shown();
    let mut expected: String = shown.keys().map(|name| format!("./{name}\n")).collect();
    expected.push_str("again5");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn directories_that_a_layer_only_implies_look_as_below() {
    if !is_root() {
        return;
    }
    let mut stack = Stack::new();
    let mut tmp = dir("tmp");
    (tmp.mode, tmp.uid) = (0o1777, 7);
    stack.add(&[(tmp, b""), (link("lib", Kind::Symlink, "usr/lib"), b""), (file("usr/lib/old"), b"1")]);
    let upper = stack.add(&[(file("tmp/x"), b""), (file("lib/new"), b"2"), (file("brand/new/y"), b"")]).to_owned();
    let tmp = std::fs::metadata(upper.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.uid()), (0o1777, 7));
    assert_eq!(std::fs::metadata(upper.join("brand")).unwrap().mode() & 0o7777, 0o755);
    // The link below stays a link: its directory got the file.
    assert!(upper.join("usr/lib/new").is_file());
    let shown = stack.shown();
    assert_eq!(
        (shown["lib"].as_str(), shown["usr/lib/old"].as_str(), shown["usr/lib/new"].as_str()),
        ("-> usr/lib", "1", "2")
    );
}

#[test]
fn a_hard_link_to_a_file_of_a_lower_layer_brings_it_up() {
    if !is_root() {
        return;
    }
    let mut stack = Stack::new();
    let mut suid = file("bin/su");
    suid.mode = 0o4755;
    stack.add(&[(suid, b"program")]);
    let upper = stack.add(&[(link("bin/other", Kind::HardLink, "bin/su"), b"")]).to_owned();
    let data = std::fs::metadata(upper.join("bin/other")).unwrap();
    assert_eq!((data.mode() & 0o7777, data.nlink()), (0o4755, 2));
    // What is hidden cannot be linked to.
    stack.add(&[(file("bin/.wh.su"), b"")]);
    let path = stack.dir.path().join("last");
    std::fs::create_dir(&path).unwrap();
    let bad = archive(&[(link("bin/third", Kind::HardLink, "bin/su"), b"")]);
    assert!(apply_above(&bad, &path, &stack.layers).unwrap_err().to_string().contains("does not exist"));
}

#[test]
fn owners_modes_times_attributes_and_devices_are_as_recorded() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let mut file = file("d/f");
    (file.mode, file.uid, file.gid) = (0o6751, 12, 34);
    file.mtime = berth_archive::Time { seconds: 1_000_000_000, nanos: 123_456_789 };
    // A capability as the kernel keeps it, with a line feed in it.
    let capability = [1, 0, 0, 2, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.xattrs = vec![(b"security.capability".to_vec(), capability.to_vec()), (b"user.x".to_vec(), b"y".to_vec())];
    let mut d = dir("d");
    (d.mode, d.uid, d.gid) = (0o2500, 5, 6);
    let mut device = member("dev/null", Kind::CharDevice);
    (device.mode, device.device) = (0o666, (1, 3));
    let mut symlink = link("s", Kind::Symlink, "nowhere");
    (symlink.uid, symlink.gid) = (9, 9);
    symlink.mtime = berth_archive::Time { seconds: -1, nanos: 0 };
    let bytes = archive(&[(d, b""), (file, b"x"), (device, b""), (symlink, b""), (member("p", Kind::Fifo), b"")]);
    let unpacked = apply(&bytes, temp.path()).unwrap();
    assert_eq!((unpacked.usage.inodes, unpacked.usage.bytes), (7, 4 * 4096));
    let data = |name: &str| std::fs::symlink_metadata(temp.path().join(name)).unwrap();
    let f = data("d/f");
    assert_eq!(
        (f.mode() & 0o7777, f.uid(), f.gid(), f.mtime(), f.mtime_nsec()),
        (0o6751, 12, 34, 1_000_000_000, 123_456_789)
    );
    let mut value = [0; 64];
    let len = rustix::fs::getxattr(temp.path().join("d/f"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..len], capability);
    let d = data("d");
    assert_eq!((d.mode() & 0o7777, d.uid(), d.gid(), d.mtime()), (0o2500, 5, 6, 1_700_000_000));
    assert_eq!((data("dev/null").mode() & 0o777, data("dev/null").rdev()), (0o666, rustix::fs::makedev(1, 3)));
    assert_eq!((data("s").uid(), data("s").mtime()), (9, -1));
}

#[test]
fn an_upper_directory_becomes_a_layer_and_back() {
    if !is_root() {
        return;
    }
    let mut stack = Stack::new();
    stack.add(&[(file("a/one"), b"1"), (file("a/two"), b"2"), (file("b/x"), b"3")]);
    let upper = stack
        .add(&[
            (file("a/.wh.one"), b""),
            (file("b/.wh..wh..opq"), b""),
            (file("b/y"), b"4"),
            (link("h", Kind::HardLink, "b/y"), b""),
            (link("s", Kind::Symlink, "h"), b""),
            (file(&format!("{}/{}", "d".repeat(120), "f".repeat(200))), b"long"),
        ])
        .to_owned();
    std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
    let root = std::fs::File::open(&upper).unwrap();
    let options = PackOptions { whiteouts: Whiteouts::Overlay, living: false };
    let tar = pack(std::os::fd::AsFd::as_fd(&root), Vec::new(), options).unwrap();
    assert_eq!(tar, pack(std::os::fd::AsFd::as_fd(&root), Vec::new(), options).unwrap(), "the same bytes each time");
    let again = stack.dir.path().join("again");
    std::fs::create_dir(&again).unwrap();
    apply_above(&tar, &again, &stack.layers[..1]).unwrap();
    std::fs::remove_file(upper.join("socket")).unwrap();
    assert_eq!(listing(&again), listing(&upper));
    assert_eq!(std::fs::metadata(again.join("h")).unwrap().nlink(), 2);
    let mut value = [0; 4];
    assert_eq!(rustix::fs::getxattr(again.join("b"), "trusted.overlay.opaque", &mut value[..]), Ok(1));
}

#[test]
fn copying_out_keeps_owner_and_mode_and_never_leaves_the_image() {
    if !is_root() {
        return;
    }
    let mut stack = Stack::new();
    let mut data = dir("var/data");
    (data.mode, data.uid, data.gid) = (0o750, 33, 33);
    stack.add(&[
        (data, b""),
        (file("var/data/f"), b"1"),
        (link("var/data/h", Kind::HardLink, "var/data/f"), b""),
        (link("var/data/out", Kind::Symlink, "/etc/passwd"), b""),
        (link("data", Kind::Symlink, "/../../var/data"), b""),
        (link("host", Kind::Symlink, "/proc/self/root/etc"), b""),
    ]);
    let target = tempfile::tempdir().unwrap();
    let directory = std::fs::File::open(target.path()).unwrap();
    assert!(copy_directory(&stack.view(), b"/data", std::os::fd::AsFd::as_fd(&directory)).unwrap());
    let copied = std::fs::metadata(target.path()).unwrap();
    assert_eq!((copied.mode() & 0o7777, copied.uid(), copied.gid()), (0o750, 33, 33));
    let found = listing(target.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["f", "h", "out"]);
    assert_eq!(std::fs::metadata(target.path().join("f")).unwrap().nlink(), 2);
    let mut again = target.path().to_owned();
    again.push("none");
    for missing in [&b"/nowhere"[..], b"/host", b"/var/data/f", b"/var/data/f/x"] {
        assert!(!copy_directory(&stack.view(), missing, std::os::fd::AsFd::as_fd(&directory)).unwrap());
    }
    assert_eq!(stack.view().read_file("/data/f", 100).unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(stack.view().read_file("/data/out", 100).unwrap(), None);
}

#[test]
fn a_layer_that_nobody_may_read_is_no_obstacle_for_its_mode() {
    let temp = tempfile::tempdir().unwrap();
    let mut closed = file("closed");
    closed.mode = 0o000;
    let mut open = file("open");
    open.mode = 0o777;
    apply(&archive(&[(closed, b"x"), (open, b"y")]), temp.path()).unwrap();
    let mode = |name: &str| std::fs::metadata(temp.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("closed"), mode("open")), (0o000, 0o777));
}
