//! Layers and writable layers on a real file system, and the overlay that the kernel makes of them.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use berth_model::{ContainerId, Digest};
use berth_snapshot::{Lifetime, SnapshotError, Snapshots};
use rustix::fs::{AtFlags, Mode, OFlags};

fn id(byte: u8) -> ContainerId {
    format!("{byte:02x}").repeat(32).parse().unwrap()
}

fn layer(snapshots: &Snapshots, byte: u8, files: &[(&str, &str)], parent: Option<&Path>) -> PathBuf {
    let pending = snapshots.begin_layer(parent).unwrap();
    let chain = Digest::sha256(&[byte; 32]);
    let path = pending.publish(&chain).unwrap();
    for (name, text) in files {
        std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
        std::fs::write(path.join(name), text).unwrap();
    }
    path
}

const VOLATILE: Lifetime = Lifetime::Volatile { description: None };

fn count(root: &Path, name: &str) -> usize {
    std::fs::read_dir(root.join(name)).unwrap().count()
}

#[test]
fn a_layer_appears_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let pending = snapshots.begin_layer(None).unwrap();
    assert_eq!((count(dir.path(), "layers"), count(dir.path(), "unpack")), (0, 1));
    drop(pending);
    assert_eq!(count(dir.path(), "unpack"), 0);
    let path = layer(&snapshots, 1, &[("a", "1")], None);
    assert!(snapshots.has_layer(&Digest::sha256(&[1; 32])));
    // A later one of the same name replaces it: nobody vouched for the first.
    assert_eq!(layer(&snapshots, 1, &[], None), path);
    assert!(!path.join("a").exists());
    std::mem::forget(snapshots.begin_layer(None).unwrap());
    drop(snapshots);
    let snapshots = Snapshots::open(dir.path()).unwrap();
    snapshots.empty_trash();
    assert_eq!(["unpack", "trash", "layers"].map(|name| count(dir.path(), name)), [0, 0, 1]);
    assert_eq!(std::fs::metadata(dir.path().join("layers")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn the_kernel_mounts_what_is_prepared_also_a_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let low = layer(&snapshots, 1, &[("etc/os", "low"), ("only-low", "1")], None);
    let high = layer(&snapshots, 2, &[("etc/os", "high")], Some(&low));
    std::fs::set_permissions(&high, std::fs::Permissions::from_mode(0o711)).unwrap();
    for (n, volatile) in [(7, true), (8, false)] {
        snapshots
            .prepare(&id(n), &[low.clone(), high.clone()], if volatile { &VOLATILE } else { &Lifetime::Durable })
            .unwrap();
        for round in 0..2 {
            let mounts = snapshots.mounts(&id(n), volatile).unwrap();
            assert_eq!((mounts.len(), mounts[0].kind.as_str()), (1, "overlay"));
            assert_eq!(mounts[0].options.contains(&"volatile".to_owned()), volatile);
            let at = dir.path().join("merged");
            std::fs::create_dir_all(&at).unwrap();
            let script = "mount --make-rprivate / && mount -t overlay overlay -o \"$1\" \"$2\" && cd \"$2\" && cat etc/os only-low && stat -c %a . && echo x >> new && rm -f only-low2; cat new";
            let output = Command::new("unshare")
                .args(["-m", "sh", "-c", script, "sh", &mounts[0].options.join(",")])
                .arg(&at)
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!(
                told,
                format!("high1711\n{}", "x\n".repeat(round + 1)),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        assert!(snapshots.usage(&id(n)).unwrap() >= 8192);
    }
    assert_eq!(snapshots.containers().unwrap().len(), 2);
}

#[test]
fn an_image_without_layers_can_be_mounted_too() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    snapshots.prepare(&id(1), &Vec::<PathBuf>::new(), &Lifetime::Durable).unwrap();
    let options = snapshots.mounts(&id(1), false).unwrap()[0].options.clone();
    assert_eq!(options[0], format!("lowerdir={}/skeleton", dir.path().display()));
}

/// A container's layer, as the kernel leaves it behind a volatile mount: above what it lies, and the number of its directory.
fn used_layer(snapshots: &Snapshots, root: &Path) -> (PathBuf, u64) {
    let low = layer(snapshots, 1, &[], None);
    snapshots.prepare(&id(1), std::slice::from_ref(&low), &VOLATILE).unwrap();
    let mark = marks(root, &id(1)).join("volatile");
    std::fs::create_dir_all(&mark).unwrap();
    std::fs::write(mark.join("dirty"), "").unwrap();
    (low, number(root, &id(1)))
}

fn number(root: &Path, id: &ContainerId) -> u64 {
    std::fs::metadata(root.join("rw").join(id.as_str())).unwrap().ino()
}

/// Where overlay marks a layer that is not to be mounted again.
fn marks(root: &Path, id: &ContainerId) -> PathBuf {
    ["rw", id.as_str(), "work", "work", "incompat"].iter().fold(root.to_owned(), |path, name| path.join(name))
}

#[test]
fn a_layer_that_nobody_wrote_to_is_used_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let (low, inode) = used_layer(&snapshots, dir.path());
    std::fs::set_permissions(snapshots.upper(&id(1)), std::fs::Permissions::from_mode(0o1777)).unwrap();
    snapshots.remove_unmounted(&id(1));
    assert_eq!((count(dir.path(), "rw"), count(dir.path(), "trash"), count(dir.path(), "pool")), (0, 0, 1));
    snapshots.prepare(&id(2), &[low], &Lifetime::Durable).unwrap();
    let upper = std::fs::metadata(snapshots.upper(&id(2))).unwrap();
    assert_eq!((number(dir.path(), &id(2)), upper.mode() & 0o7777), (inode, 0o755));
    assert_eq!(std::fs::read_dir(marks(dir.path(), &id(2))).unwrap().count(), 0);
}

#[test]
fn writable_layers_are_emptied_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let (low, inode) = used_layer(&snapshots, dir.path());
    let upper = snapshots.upper(&id(1));
    std::fs::create_dir_all(upper.join("deep").join("d/".repeat(500))).unwrap();
    std::fs::write(upper.join("file"), "secret of another container").unwrap();
    std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(0o777)).unwrap();
    // A container with the privilege can make a file immutable.
    let fixed = Command::new("chattr").arg("+i").arg(upper.join("file")).status().is_ok_and(|status| status.success());
    snapshots.remove_unmounted(&id(1));
    assert!(matches!(snapshots.mounts(&id(1), true), Err(SnapshotError::NotPrepared { .. })));
    assert!(matches!(snapshots.usage(&id(1)), Err(SnapshotError::NotPrepared { .. })));
    snapshots.remove(&id(1));
    snapshots.empty_trash();
    assert_eq!((count(dir.path(), "trash"), count(dir.path(), "pool")), (0, 1), "immutable file: {fixed}");
    snapshots.prepare(&id(2), &[low], &Lifetime::Durable).unwrap();
    let upper = std::fs::metadata(snapshots.upper(&id(2))).unwrap();
    assert_eq!((number(dir.path(), &id(2)), upper.mode() & 0o7777), (inode, 0o755));
    assert_eq!(std::fs::read_dir(snapshots.upper(&id(2))).unwrap().count(), 0);
    assert_eq!(count(&dir.path().join("rw").join(id(2).as_str()), "work"), 0);
    assert_eq!(count(dir.path(), "pool"), 0);
}

#[test]
fn who_has_the_old_layer_open_sees_nothing_of_the_next_container() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    for written in [false, true] {
        let (low, inode) = used_layer(&snapshots, dir.path());
        let held = rustix::fs::open(snapshots.upper(&id(1)), OFlags::DIRECTORY, Mode::empty()).unwrap();
        if written {
            std::fs::write(snapshots.upper(&id(1)).join("mine"), "").unwrap();
        }
        snapshots.remove_unmounted(&id(1));
        snapshots.empty_trash();
        snapshots.prepare(&id(2), &[low], &Lifetime::Durable).unwrap();
        assert_eq!(number(dir.path(), &id(2)), inode, "it is used again");
        std::fs::write(snapshots.upper(&id(2)).join("secret"), "").unwrap();
        assert!(rustix::fs::statat(&held, "secret", AtFlags::empty()).is_err());
        assert!(rustix::fs::openat(&held, "planted", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).is_err());
        snapshots.remove(&id(2));
        snapshots.empty_trash();
    }
}

#[test]
fn preparing_again_keeps_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let low = layer(&snapshots, 1, &[], None);
    snapshots.prepare(&id(1), std::slice::from_ref(&low), &Lifetime::Durable).unwrap();
    std::fs::write(snapshots.upper(&id(1)).join("kept"), "x").unwrap();
    // As a crash of the machine may leave it.
    std::fs::write(dir.path().join("rw").join(id(1).as_str()).join("layers"), "").unwrap();
    assert!(matches!(snapshots.mounts(&id(1), false), Err(SnapshotError::NotPrepared { .. })));
    snapshots.prepare(&id(1), &[low], &Lifetime::Durable).unwrap();
    assert!(snapshots.mounts(&id(1), false).is_ok() && snapshots.upper(&id(1)).join("kept").exists());
}

#[test]
fn an_empty_volume_gets_the_image_s_content_once() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(&dir.path().join("s")).unwrap();
    let low = layer(&snapshots, 1, &[("data/one", "1")], None);
    let high = layer(&snapshots, 2, &[("data/two", "2")], Some(&low));
    std::fs::set_permissions(high.join("data"), std::fs::Permissions::from_mode(0o750)).unwrap();
    let (layers, volume) = ([low, high], dir.path().join("volume"));
    std::fs::create_dir(&volume).unwrap();
    assert!(!snapshots.copy_up(&layers, Path::new("/nothing"), &volume).unwrap());
    assert!(snapshots.copy_up(&layers, Path::new("/data"), &volume).unwrap());
    assert_eq!((count(dir.path(), "volume"), std::fs::metadata(&volume).unwrap().mode() & 0o777), (2, 0o750));
    std::fs::remove_file(volume.join("one")).unwrap();
    assert!(!snapshots.copy_up(&layers, Path::new("/data"), &volume).unwrap(), "it has files now");
    assert_eq!(count(dir.path(), "volume"), 1);
}
