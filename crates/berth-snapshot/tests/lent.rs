//! Roots that one container leaves to the next, made by the kernel.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::{
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use berth_model::{ContainerId, Digest};
use berth_snapshot::{Lifetime, Snapshots};

fn id(byte: u8) -> ContainerId {
    format!("{byte:02x}").repeat(32).parse().unwrap()
}

fn of(description: u8) -> Lifetime {
    Lifetime::Volatile { description: Some(Digest::sha256(&[description; 32])) }
}

/// An engine's directories, with a layer in which `etc/os` lies.
fn engine() -> (tempfile::TempDir, Snapshots, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let pending = snapshots.begin_layer(None).unwrap();
    let low = pending.publish(&Digest::sha256(&[1; 32])).unwrap();
    std::fs::create_dir(low.join("etc")).unwrap();
    std::fs::write(low.join("etc/os"), "low").unwrap();
    (dir, snapshots, low)
}

/// Where the files of a mount are seen that is attached nowhere.
fn inside(root: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{path}", root.as_raw_fd()))
}

fn device(root: &OwnedFd) -> u64 {
    std::fs::metadata(inside(root, "")).unwrap().dev()
}

fn pool(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("pool")).unwrap().count()
}

/// Only root mounts, and only some kernels and file systems can lend: elsewhere nothing is lent, and there is nothing to test.
fn can_lend() -> bool {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return false;
    }
    let (_dir, snapshots, low) = engine();
    snapshots.prepare(&id(1), &[low], &of(1)).unwrap();
    let lends = snapshots.lent_root(&id(1)).unwrap().is_some();
    if !lends {
        eprintln!("this kernel, or the file system of the temporary directory, lends no roots");
    }
    lends
}

/// Runs a container that does `what` in its root, and gives that.
fn run(snapshots: &Snapshots, low: &Path, n: u8, description: u8, what: impl FnOnce(&OwnedFd)) -> OwnedFd {
    snapshots.prepare(&id(n), &[low.to_owned()], &of(description)).unwrap();
    let root = snapshots.lent_root(&id(n)).unwrap().expect("this kernel lends roots");
    assert_eq!(std::fs::read(inside(&root, "etc/os")).unwrap(), b"low");
    assert_eq!(std::fs::read_dir(snapshots.upper(&id(n))).unwrap().count(), 0, "nothing was left by the last one");
    assert_eq!(std::fs::metadata(inside(&root, "")).unwrap().mode() & 0o7777, 0o755);
    what(&root);
    snapshots.remove_unmounted(&id(n));
    root
}

#[test]
fn a_root_in_which_nothing_was_written_serves_the_next_of_the_same() {
    if !can_lend() {
        return;
    }
    let (dir, snapshots, low) = engine();
    let first = run(&snapshots, &low, 1, 1, |_| ());
    assert_eq!(pool(dir.path()), 1);
    let look = |root: &OwnedFd| assert!(std::fs::read_dir(inside(root, "etc")).unwrap().count() > 0);
    let second = run(&snapshots, &low, 2, 1, look);
    assert_eq!(device(&first), device(&second), "the same file system");
    // Another description has another file system, while the first one waits.
    assert_ne!(device(&run(&snapshots, &low, 3, 2, |_| ())), device(&first));
    assert_eq!(device(&run(&snapshots, &low, 4, 1, |_| ())), device(&first));
    assert_eq!(pool(dir.path()), 2);
    // Nothing shows a layer that goes; what was above it is of use still.
    snapshots.remove_layer(low.file_name().unwrap().to_str().unwrap());
    assert_eq!(pool(dir.path()), 0);
    snapshots.empty_trash();
    assert_eq!(pool(dir.path()), 2);
}

#[test]
fn whatever_was_done_to_a_root_ends_the_loan() {
    if !can_lend() {
        return;
    }
    let (_dir, snapshots, low) = engine();
    let deeds: [(&str, fn(&OwnedFd)); 6] = [
        ("a file that came and went", |root| {
            std::fs::write(inside(root, "x"), "").unwrap();
            std::fs::remove_file(inside(root, "x")).unwrap();
        }),
        ("a directory that came and went", |root| {
            std::fs::create_dir(inside(root, "d")).unwrap();
            std::fs::remove_dir(inside(root, "d")).unwrap();
        }),
        ("a mode that was changed back", |root| {
            std::fs::set_permissions(inside(root, "."), std::fs::Permissions::from_mode(0o700)).unwrap();
            std::fs::set_permissions(inside(root, "."), std::fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("a file of the image that was opened to be written", |root| {
            drop(std::fs::File::options().append(true).open(inside(root, "etc/os")).unwrap());
        }),
        ("a file of the image that was removed", |root| std::fs::remove_file(inside(root, "etc/os")).unwrap()),
        ("a file that was left", |root| std::fs::write(inside(root, "left"), "secret").unwrap()),
    ];
    for (deed, what) in deeds {
        let quiet = run(&snapshots, &low, 1, 1, |_| ());
        let changed = run(&snapshots, &low, 2, 1, what);
        assert_eq!(device(&quiet), device(&changed), "{deed}");
        // The number of a file system that is still open is nobody else's.
        assert_ne!(device(&changed), device(&run(&snapshots, &low, 3, 1, |_| ())), "{deed}");
        drop((quiet, changed));
        snapshots.empty_trash();
    }
}

#[test]
fn what_is_copied_into_a_container_before_its_start_is_there() {
    if !can_lend() {
        return;
    }
    let (_dir, snapshots, low) = engine();
    let first = run(&snapshots, &low, 1, 1, |_| ());
    snapshots.prepare(&id(2), std::slice::from_ref(&low), &of(1)).unwrap();
    std::fs::write(snapshots.upper(&id(2)).join("copied"), "x").unwrap();
    // A root with content is lent to nobody: the runtime makes it.
    assert!(snapshots.lent_root(&id(2)).unwrap().is_none());
    assert!(snapshots.mounts(&id(2), true).unwrap()[0].options.contains(&"volatile".to_owned()));
    drop(first);
    snapshots.remove_unmounted(&id(2));
    snapshots.empty_trash();
    run(&snapshots, &low, 3, 1, |_| ());
}

#[test]
fn what_a_first_run_did_is_not_passed_on_by_a_second() {
    if !can_lend() {
        return;
    }
    let (_dir, snapshots, low) = engine();
    snapshots.prepare(&id(1), std::slice::from_ref(&low), &of(1)).unwrap();
    let first = snapshots.lent_root(&id(1)).unwrap().unwrap();
    // Started again unchanged it has the same root; changed, none that is lent.
    assert_eq!(device(&snapshots.lent_root(&id(1)).unwrap().unwrap()), device(&first));
    std::fs::set_permissions(inside(&first, "."), std::fs::Permissions::from_mode(0o777)).unwrap();
    for _ in 0..2 {
        assert!(snapshots.lent_root(&id(1)).unwrap().is_none());
        assert_eq!(snapshots.mounts(&id(1), true).unwrap().len(), 1);
    }
    snapshots.remove_unmounted(&id(1));
    assert_ne!(device(&run(&snapshots, &low, 2, 1, |_| ())), device(&first));
}

#[test]
fn an_overlay_above_a_layer_that_has_gone_is_lent_to_nobody() {
    if !can_lend() {
        return;
    }
    let (_dir, snapshots, low) = engine();
    let name = low.file_name().unwrap().to_str().unwrap().to_owned();
    let aside = low.with_file_name("aside");
    let first = run(&snapshots, &low, 1, 1, |_| {
        // In the end of a container its layers are nobody's already, while its root is still there.
        std::fs::rename(&low, &aside).unwrap();
        snapshots.remove_layer(&name);
        std::fs::rename(&aside, &low).unwrap();
    });
    assert_ne!(device(&run(&snapshots, &low, 2, 1, |_| ())), device(&first));
}

#[test]
fn company_ends_the_loan() {
    if !can_lend() {
        return;
    }
    let (_dir, snapshots, low) = engine();
    let first = run(&snapshots, &low, 1, 1, |_| snapshots.share(&id(1)));
    assert_ne!(device(&first), device(&run(&snapshots, &low, 2, 1, |_| ())));
    // Who is let in before the start too.
    snapshots.prepare(&id(3), std::slice::from_ref(&low), &of(1)).unwrap();
    snapshots.share(&id(3));
    assert!(snapshots.lent_root(&id(3)).unwrap().is_none());
}
