//! What the tests of this crate share: small archives, and a look at what became of them.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeMap,
    os::unix::{ffi::OsStrExt as _, fs::FileTypeExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use berth_archive::{
    ApplyOptions, ArchiveError, Below, BlobHash, Kind, LayerView, Limits, Member, Owners, TarWriter, Time, Unpacked,
    unpack,
};
use berth_model::Algorithm;

/// A member with mode 0644 or 0755, the caller as its owner, and a time.
pub fn member(name: &str, kind: Kind) -> Member {
    let mut member = Member::new(name.as_bytes(), kind);
    member.mode = if kind == Kind::File { 0o644 } else { 0o755 };
    member.mtime = Time { seconds: 1_700_000_000, nanos: 0 };
    member
}

pub fn link(name: &str, kind: Kind, target: &str) -> Member {
    let mut member = member(name, kind);
    member.link = target.as_bytes().to_vec();
    member
}

/// An archive of members with their bytes.
pub fn archive(members: &[(Member, &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (member, data) in members {
        writer.append_bytes(member, data).expect("memory");
    }
    writer.finish().expect("memory")
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Unpacks into `root`, above the layers `lower`, lowest first.
pub fn apply_above(archive: &[u8], root: &Path, lower: &[PathBuf]) -> Result<Unpacked, ArchiveError> {
    let owners = if is_root() { Owners::Recorded } else { Owners::Caller };
    let options = ApplyOptions { owners, ..ApplyOptions::default() };
    let view = LayerView::open(lower).expect("lower layers");
    let root = std::fs::File::open(root).expect("root").into();
    unpack(archive, root, view, options, BlobHash::Known, Algorithm::Sha256, Limits::default())
}

/// Unpacks into `root` before anybody knows what lies below.
pub fn apply_ahead(archive: &[u8], root: &Path) -> Result<Unpacked, ArchiveError> {
    let owners = if is_root() { Owners::Recorded } else { Owners::Caller };
    let options = ApplyOptions { owners, ..ApplyOptions::default() };
    // None of the files stays in the page cache, if it can be helped.
    let limits = Limits { cached_bytes: Some(0), ..Limits::default() };
    let root = std::fs::File::open(root).expect("root").into();
    unpack(archive, root, Below::Unknown, options, BlobHash::Known, Algorithm::Sha256, limits)
}

pub fn apply(archive: &[u8], root: &Path) -> Result<Unpacked, ArchiveError> {
    apply_above(archive, root, &[])
}

/// Every path beneath `root` with a line that says what it is.
pub fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in std::fs::read_dir(&path).expect("directory") {
            let path = entry.expect("entry").path();
            let data = path.symlink_metadata().expect("metadata");
            let kind = data.file_type();
            let what = if kind.is_dir() {
                todo.push(path.clone());
                "dir".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", path.read_link().expect("link").display())
            } else if kind.is_char_device() || kind.is_block_device() {
                format!("device {}:{}", rustix::fs::major(data.rdev()), rustix::fs::minor(data.rdev()))
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else {
                String::from_utf8_lossy(&std::fs::read(&path).expect("file")).into_owned()
            };
            let name = path.strip_prefix(root).expect("beneath").as_os_str().as_bytes();
            found.insert(String::from_utf8_lossy(name).into_owned(), what);
        }
    }
    found
}
