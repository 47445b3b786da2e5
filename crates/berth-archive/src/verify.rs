//! Compares a layer's directory with the archive it was unpacked from, member by member.
//!
//! Of a directory that nobody wrote to since, everything an archive says must be true: kind, size, mode, owner, target and every byte.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, Read},
    os::fd::{AsFd, BorrowedFd},
};

use berth_model::{Algorithm, Digest};
use rustix::fs::{FileType, OFlags, Stat};

use crate::{
    error::ArchiveError,
    hash::Hasher,
    member::{Kind, Member},
    name::MemberName,
    reader::TarReader,
    view::{file_type, is_whiteout, open_beneath},
};

/// So many differences say enough.
const MOST: usize = 20;
/// How much of a file is read at a time, in bytes.
const READ: usize = 256 * 1024;

/// A path of a layer that is not what its archive says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// From the root of the layer.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What an archive says about a path in the end: the last member of a name counts.
struct Expected {
    kind: Kind,
    mode: u32,
    owner: (u64, u64),
    size: u64,
    link: Vec<u8>,
    content: Option<Digest>,
}

/// Compares the directory `root` with the archive it was unpacked from, which is not compressed. Gives the first few differences.
///
/// A path below a symbolic link is not looked at: where it went depends on the layers below.
///
/// # Errors
/// What reading the archive gives.
pub fn verify(archive: impl BufRead, root: BorrowedFd<'_>) -> Result<Vec<Difference>, ArchiveError> {
    let expected = read(archive)?;
    let mut paths: Vec<&Vec<u8>> = expected.keys().collect();
    paths.sort_unstable();
    let mut found = Vec::new();
    for path in paths {
        let reason = match compare(root, path, &expected[path]) {
            Ok(None) => continue,
            Ok(Some(reason)) => reason,
            Err(error) => error.to_string(),
        };
        found.push(Difference { path: String::from_utf8_lossy(path).into_owned(), reason });
        if found.len() == MOST {
            break;
        }
    }
    Ok(found)
}

fn read(archive: impl BufRead) -> Result<HashMap<Vec<u8>, Expected>, ArchiveError> {
    let mut archive = TarReader::new(archive);
    let mut expected: HashMap<Vec<u8>, Expected> = HashMap::new();
    while let Some(member) = archive.next_member()? {
        let name = MemberName::parse(&member.name)?;
        if name.is_root() || name.split().1.starts_with(b".wh.") {
            continue;
        }
        let entry = match member.kind {
            Kind::HardLink => {
                let target = MemberName::parse(&member.link)?;
                match expected.get(target.as_bytes()) {
                    Some(first) => Expected { link: first.link.clone(), content: first.content.clone(), ..*first },
                    // Of a file of a lower layer, which was copied.
                    None => continue,
                }
            }
            _ => of_member(&member, &mut archive)?,
        };
        if entry.kind != Kind::Directory {
            let mut beneath = name.as_bytes().to_vec();
            beneath.push(b'/');
            expected.retain(|path, _| !path.starts_with(&beneath));
        }
        expected.insert(name.as_bytes().to_vec(), entry);
    }
    Ok(expected)
}

fn of_member<R: BufRead>(member: &Member, archive: &mut TarReader<R>) -> Result<Expected, ArchiveError> {
    // Where the bytes of a file with holes belong is known to the one who writes it.
    let content = if member.kind == Kind::File && member.sparse.is_none() {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        loop {
            let chunk = archive.fill()?;
            if chunk.is_empty() {
                break;
            }
            hasher.update(chunk);
            let n = chunk.len();
            archive.consume(n);
        }
        Some(hasher.finish())
    } else {
        None
    };
    Ok(Expected {
        kind: member.kind,
        mode: member.mode & 0o7777,
        owner: (member.uid, member.gid),
        size: member.size,
        link: member.link.clone(),
        content,
    })
}

fn compare(root: BorrowedFd<'_>, path: &[u8], expected: &Expected) -> io::Result<Option<String>> {
    let found = match open_beneath(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => found,
        Err(rustix::io::Errno::LOOP) => return Ok(None),
        Err(rustix::io::Errno::NOENT) => return Ok(Some("is missing".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&found)?;
    if is_whiteout(&stat) {
        return Ok(None);
    }
    if !same_kind(expected.kind, &stat) {
        return Ok(Some("is of another kind".to_owned()));
    }
    if expected.kind == Kind::Symlink {
        let target = rustix::fs::readlinkat(&found, c"", Vec::new())?;
        return Ok((target.as_bytes() != expected.link).then(|| "leads elsewhere".to_owned()));
    }
    if stat.st_mode & 0o7777 != expected.mode {
        return Ok(Some(format!("has mode {:o} instead of {:o}", stat.st_mode & 0o7777, expected.mode)));
    }
    let owner = (u64::from(stat.st_uid), u64::from(stat.st_gid));
    if owner != expected.owner && rustix::process::geteuid().is_root() {
        let (is, should) = (owner, expected.owner);
        return Ok(Some(format!("belongs to {}:{} instead of {}:{}", is.0, is.1, should.0, should.1)));
    }
    let Some(content) = &expected.content else { return Ok(None) };
    if u64::try_from(stat.st_size).unwrap_or(0) != expected.size {
        return Ok(Some(format!("has {} bytes instead of {}", stat.st_size, expected.size)));
    }
    let file = open_beneath(root, path, OFlags::RDONLY | OFlags::NOFOLLOW)?;
    Ok((digest_file(file, Algorithm::Sha256)? != *content).then(|| "has other content".to_owned()))
}

fn same_kind(kind: Kind, stat: &Stat) -> bool {
    let is = file_type(stat);
    match kind {
        Kind::File | Kind::HardLink => is == FileType::RegularFile,
        Kind::Directory => is == FileType::Directory,
        Kind::Symlink => is == FileType::Symlink,
        Kind::CharDevice => is == FileType::CharacterDevice,
        Kind::BlockDevice => is == FileType::BlockDevice,
        Kind::Fifo => is == FileType::Fifo,
    }
}

/// The digest of an open file's bytes.
///
/// # Errors
/// What reading gives.
pub fn digest_file(file: impl AsFd, algorithm: Algorithm) -> io::Result<Digest> {
    let mut file = File::from(file.as_fd().try_clone_to_owned()?);
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; READ];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
