//! How much a tree takes on disk.

use std::{collections::HashSet, io, path::Path};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Bytes in whole blocks, directories and the root included; a file with several names counts once.
///
/// The tree may change meanwhile, and may be made to trap its reader: paths are opened beneath the root, never through symbolic links, and
/// what is nested deeper than a path can be long is not counted.
pub(crate) fn of(root: &Path) -> io::Result<u64> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = blocks(rustix::fs::fstat(&root)?.st_blocks);
    let mut seen = HashSet::new();
    let mut todo = vec![b".".to_vec()];
    while let Some(path) = todo.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let directory = match rustix::fs::openat2(&root, path.as_slice(), flags, Mode::empty(), resolve) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::AGAIN | Errno::XDEV) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if entry.file_name() == c"." || entry.file_name() == c".." {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if stat.st_nlink > 1
                && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
                && !seen.insert(stat.st_ino)
            {
                continue;
            }
            bytes += blocks(stat.st_blocks);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                todo.push([path.as_slice(), b"/", entry.file_name().to_bytes()].concat());
            }
        }
    }
    Ok(bytes)
}

fn blocks(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0) * 512
}
