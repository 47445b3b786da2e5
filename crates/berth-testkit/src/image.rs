//! The `busybox` image: Debian's static busybox, its links, and the files that make a small system.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const BUSYBOX: &str = "/bin/busybox";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\naudio:x:29:www-data\nusers:x:100:\nnogroup:x:65534:\n";

/// The image's file system as a tar.
///
/// # Panics
/// If Debian's `busybox-static` is not installed.
#[must_use]
pub fn busybox_tar() -> Vec<u8> {
    let applets = Command::new(BUSYBOX).arg("--list").output().expect("Debian's busybox-static is installed");
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin/", "etc/", "home/", "root/", "tmp/", "usr/", "usr/bin/", "var/", "var/www/"] {
        let mode = if directory == "tmp/" { 0o1777 } else { 0o755 };
        append(&mut tar, directory, tar::EntryType::Directory, mode, b"");
    }
    append(&mut tar, "bin/busybox", tar::EntryType::Regular, 0o755, &std::fs::read(BUSYBOX).expect("readable"));
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("memory");
    }
    append(&mut tar, "etc/passwd", tar::EntryType::Regular, 0o644, PASSWD.as_bytes());
    append(&mut tar, "etc/group", tar::EntryType::Regular, 0o644, GROUP.as_bytes());
    tar.into_inner().expect("memory")
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, content).expect("memory");
}

/// The image's file system as a file in `directory`; its bytes are made once for all tests of a process.
pub(crate) fn busybox_archive(directory: &Path) -> PathBuf {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let path = directory.join("busybox.tar");
    std::fs::write(&path, BYTES.get_or_init(busybox_tar)).expect("room for 3 MB");
    path
}

/// The image's file system as a directory, for bundles of the runtime.
///
/// # Panics
/// If it cannot be written.
#[must_use]
pub fn busybox_tree(directory: &Path) -> PathBuf {
    let root = directory.join("rootfs");
    tar::Archive::new(&busybox_tar()[..]).unpack(&root).expect("room for 3 MB");
    root
}
