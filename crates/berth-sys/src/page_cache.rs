//! Writes that leave nothing in the page cache: for bytes that nobody reads again soon.
//!
//! Finding pages for gigabytes, and taking them from what is in use, can cost more than anything else that is done with the bytes.

use std::{
    io::{self, IoSlice},
    os::fd::BorrowedFd,
};

use rustix::io::{Errno, ReadWriteFlags};

/// Size of a page, in bytes, as far as this matters: one that is only partly written should not leave the cache.
const PAGE: u64 = 4096;
/// See pwritev2(2); Linux 6.14.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// At the file's own position.
const HERE: u64 = u64::MAX;

/// Whether more is to be written right behind some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Yes: the page in which they end is not whole.
    Follows,
    /// No: they end the file, or a hole follows.
    No,
}

/// Writes some of `bytes` at `offset`, past the page cache where kernel and file system can, and tells how many.
///
/// Pages that are written in parts pass through the cache: the kernel would have to read them back from the disk.
///
/// # Errors
/// As pwritev2(2).
pub fn write_past_at(file: BorrowedFd<'_>, bytes: &[u8], offset: u64, more: More) -> io::Result<usize> {
    let into_page = offset % PAGE;
    let whole = match more {
        More::Follows => bytes.len() - bytes.len() % PAGE as usize,
        More::No => bytes.len(),
    };
    if into_page == 0 && whole > 0 {
        return past(file, &bytes[..whole], offset);
    }
    let to_boundary = usize::try_from(PAGE - into_page).unwrap_or(usize::MAX);
    Ok(rustix::io::pwrite(file, &bytes[..bytes.len().min(to_boundary)], offset)?)
}

/// Writes some of `bytes` at the file's position, past the page cache where kernel and file system can, and tells how many.
///
/// # Errors
/// As pwritev2(2).
pub fn write_past(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    past(file, bytes, HERE)
}

fn past(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<usize> {
    match rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, DONTCACHE) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if offset == HERE => Ok(rustix::io::write(file, bytes)?),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(rustix::io::pwrite(file, bytes, offset)?),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Seek as _},
        os::fd::AsFd as _,
    };

    use rustix::fs::{Mode, OFlags};

    use super::*;

    fn all(mut write: impl FnMut(&[u8], u64) -> io::Result<usize>, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += write(&bytes[at..], at as u64).expect("write");
        }
    }

    #[test]
    fn what_passes_arrives_whole_and_in_order() {
        let bytes: Vec<u8> = (0..50_007_u32).map(|n| (n * 7 % 251) as u8).collect();
        let memory = || rustix::fs::memfd_create(c"past", rustix::fs::MemfdFlags::CLOEXEC).expect("file");
        let on_disk = || {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR).expect("file")
        };
        for (piece, file) in
            [1, 4095, 4096, 10_000, bytes.len()].into_iter().flat_map(|n| [(n, memory()), (n, on_disk())])
        {
            let mut file = File::from(file);
            let mut offset = 0;
            for part in bytes.chunks(piece) {
                let more = if offset + part.len() < bytes.len() { More::Follows } else { More::No };
                all(|rest, at| write_past_at(file.as_fd(), rest, offset as u64 + at, more), part);
                offset += part.len();
            }
            all(|rest, _| write_past(file.as_fd(), rest), &bytes[..100]);
            let mut found = Vec::new();
            file.rewind().expect("rewind");
            file.read_to_end(&mut found).expect("read");
            assert!(found == bytes, "{piece}");
        }
    }

    #[test]
    fn a_pipe_takes_it_too() {
        let (mut reader, writer) = io::pipe().expect("pipe");
        all(|rest, _| write_past(writer.as_fd(), rest), b"archive");
        drop(writer);
        let mut found = String::new();
        reader.read_to_string(&mut found).expect("read");
        assert_eq!(found, "archive");
    }
}
