//! Reading and writing the small files of a cgroup directory.

use std::{io, path::Path};

use rustix::{
    buffer::spare_capacity,
    fs::{Mode, OFlags, open},
    io::Errno,
};

use crate::error::CgroupError;

/// Holds every file but the longest lists.
const FIRST_READ: usize = 4096;

/// Writes one value in one system call, as the kernel wants it.
pub(crate) fn write(dir: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = dir.join(file);
    let failed =
        |errno: Errno| CgroupError::Write { file: path.clone(), value: value.to_owned(), source: errno.into() };
    // Cutting the file off means nothing to the kernel's own files, but keeps a directory of ordinary files honest in tests.
    let fd = open(&path, OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    // A signal may interrupt a write that has to wait, memory limits above all.
    rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes())).map_err(failed)?;
    Ok(())
}

/// Writes several values to the same file, each in a system call of its own.
pub(crate) fn write_each(dir: &Path, file: &str, values: impl Iterator<Item = String>) -> Result<(), CgroupError> {
    let path = dir.join(file);
    let failed = |value: String| |errno: Errno| CgroupError::Write { file: path.clone(), value, source: errno.into() };
    let fd = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed(String::new()))?;
    for value in values {
        rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes())).map_err(failed(value))?;
    }
    Ok(())
}

/// Reads a whole file.
pub(crate) fn read(dir: &Path, file: &str) -> Result<String, CgroupError> {
    let path = dir.join(file);
    let text = read_path(&path).map_err(|source| CgroupError::Read { file: path.clone(), source })?;
    String::from_utf8(text).map_err(|error| CgroupError::Unexpected {
        file: path,
        text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Reads a whole file of the kernel's, whose size it does not tell: with room for most of them from the start.
pub(crate) fn read_path(path: &Path) -> io::Result<Vec<u8>> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = Vec::with_capacity(FIRST_READ);
    while rustix::io::retry_on_intr(|| rustix::io::read(&fd, spare_capacity(&mut content)))? > 0 {
        if content.capacity() - content.len() < FIRST_READ / 2 {
            content.reserve(content.capacity());
        }
    }
    Ok(content)
}

/// Reads a whole file; `None` if this kernel, or this group, does not have it.
pub(crate) fn read_if_present(dir: &Path, file: &str) -> Result<Option<String>, CgroupError> {
    match read(dir, file) {
        Ok(text) => Ok(Some(text)),
        Err(CgroupError::Read { source, .. }) if is_absent(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a number; `max` is `u64::MAX`.
pub(crate) fn read_number(dir: &Path, file: &str) -> Result<u64, CgroupError> {
    let text = read(dir, file)?;
    parse_number(text.trim_end()).ok_or_else(|| CgroupError::Unexpected { file: dir.join(file), text })
}

/// Reads a number; zero if the file is not there.
pub(crate) fn read_number_or_zero(dir: &Path, file: &str) -> Result<u64, CgroupError> {
    Ok(read_if_present(dir, file)?.and_then(|text| parse_number(text.trim_end())).unwrap_or(0))
}

/// The value of a key in a file of `key value` lines; `None` if either is missing.
pub(crate) fn read_key(dir: &Path, file: &str, key: &str) -> Result<Option<u64>, CgroupError> {
    let Some(text) = read_if_present(dir, file)? else { return Ok(None) };
    Ok(keyed(&text).find(|(name, _)| *name == key).map(|(_, value)| value))
}

/// The pairs of a file of `key value` lines.
pub(crate) fn keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, parse_number(value.trim())?))
    })
}

/// Whether the directory has the file.
pub(crate) fn exists(dir: &Path, file: &str) -> bool {
    rustix::fs::access(dir.join(file), rustix::fs::Access::EXISTS).is_ok()
}

/// Whether an error says that a file is not there, or not for this group.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::OPNOTSUPP, Errno::NODEV];
    error.raw_os_error().is_some_and(|raw| absent.iter().any(|errno| errno.raw_os_error() == raw))
}

/// A decimal number, or `max`. The kernel writes an unlimited v1 value as -1 in a few files.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    match text {
        "max" | "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}
