//! The bytes of files, from the archive's buffer onto the disk.

use std::{
    io::BufRead,
    os::fd::{AsFd as _, OwnedFd},
};

use berth_sys::page_cache::{More, write_past_at};
use rustix::io::Errno;

use crate::{error::ArchiveError, member::Member, reader::TarReader};

/// From this size on, in bytes, files may pass the page cache by. What is smaller costs less there than as a write of its own.
const LARGE: u64 = 32 * 1024;

/// Writes a member's bytes to its file, from the archive's buffer without a copy. Gives how many were written, holes left out.
///
/// Of `cacheable` bytes, those are taken away that may stay in the page cache; a large file passes it by once none are left.
pub(super) fn write_data<R: BufRead>(
    member: &Member,
    path: &[u8],
    file: &OwnedFd,
    archive: &mut TarReader<R>,
    cacheable: &mut Option<u64>,
) -> Result<u64, ArchiveError> {
    let failed = |error: std::io::Error| ArchiveError::write("writing", path, error);
    let mut written = 0;
    let whole = [(0, member.size)];
    let pieces = match &member.sparse {
        Some(map) => {
            rustix::fs::ftruncate(file, member.size).map_err(|error: Errno| failed(error.into()))?;
            map.pieces.as_slice()
        }
        None => &whole,
    };
    for (start, length) in pieces {
        let (mut at, end) = (*start, start + length);
        while at < end {
            let chunk = archive.fill()?;
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(chunk.len());
            if len == 0 {
                return Err(ArchiveError::Truncated(String::from_utf8_lossy(path).into_owned()));
            }
            let more = if at + (len as u64) < end { More::Follows } else { More::No };
            let n = if member.size >= LARGE && *cacheable == Some(0) {
                write_past_at(file.as_fd(), &chunk[..len], at, more).map_err(failed)?
            } else {
                rustix::io::pwrite(file, &chunk[..len], at).map_err(|error| failed(error.into()))?
            };
            archive.consume(n);
            at += n as u64;
            written += n as u64;
        }
    }
    *cacheable = cacheable.map(|left| left.saturating_sub(written));
    Ok(written)
}
