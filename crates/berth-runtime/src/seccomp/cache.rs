//! Compiled filters on disk, by what they were compiled from.
//!
//! A cache may vanish or be damaged at any time: whatever is not exactly as written here counts as absent. It is only believed if it
//! belongs to the user the runtime runs as and nobody else can write it.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use berth_oci::runtime::SeccompText;
use berth_sys::seccomp::{FilterFlags, MAX_INSTRUCTIONS, SockFilter};
use sha2::{Digest, Sha256};

use super::{Filter, Machine, SeccompError, compile_for};

/// Changes whenever the compiler would make something else of the same profile, or the file looks different.
const MAGIC: &[u8; 8] = b"berthsc1";
const HASH: usize = 32;
const HEADER: usize = MAGIC.len() + HASH + 4;
const INSTRUCTION: usize = 8;

/// Compiles a profile for this machine, or finds what was compiled before in a directory, which is made if it is missing.
///
/// A cache that cannot be read or written costs time, never the filter.
///
/// # Errors
/// As [`compile`](super::compile).
pub fn compile_cached(profile: &SeccompText, dir: Option<&Path>) -> Result<Filter, SeccompError> {
    let machine = Machine::native().ok_or(SeccompError::Machine)?;
    let compile =
        || compile_for(&profile.read().map_err(|error| SeccompError::Unreadable(error.to_string()))?, machine);
    let Some(dir) = dir else { return compile() };
    let key = key(profile, machine);
    let file = dir.join(hex(&key));
    if let Some(filter) = read(&file, &key) {
        return Ok(filter);
    }
    let filter = compile()?;
    // Nobody waits for the cache: the next start tries again.
    let _ = write(dir, &file, &key, &filter);
    Ok(filter)
}

/// The hash of everything that decides about the filter.
fn key(profile: &SeccompText, machine: Machine) -> [u8; HASH] {
    let compiler = format!("{} {machine:?} ", env!("CARGO_PKG_VERSION"));
    Sha256::new().chain_update(MAGIC).chain_update(compiler).chain_update(profile.text()).finalize().into()
}

/// Reads a filter whose file is whole, ours, and for this very profile.
fn read(path: &Path, key: &[u8; HASH]) -> Option<Filter> {
    let mut file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path).ok()?;
    let status = file.metadata().ok()?;
    let ours = status.uid() == rustix::process::geteuid().as_raw() && status.mode() & 0o022 == 0;
    let longest = HEADER + MAX_INSTRUCTIONS * INSTRUCTION + HASH;
    if !status.is_file() || !ours || status.len() > longest as u64 {
        return None;
    }
    let mut bytes = Vec::with_capacity(longest.min(8 << 10));
    file.read_to_end(&mut bytes).ok()?;
    decode(&bytes, key)
}

/// Writes a filter under a name of its own and then gives it the right one, so that no reader sees a part.
fn write(dir: &Path, path: &Path, key: &[u8; HASH], filter: &Filter) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let unfinished = path.with_extension(format!("new.{}", std::process::id()));
    let written = create(&unfinished).and_then(|mut file| file.write_all(&encode(key, filter)));
    let done = written.and_then(|()| fs::rename(&unfinished, path));
    if done.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    done
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(no_follow()).open(path)
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

/// Magic, key, flags, instructions, hash of all before.
fn encode(key: &[u8; HASH], filter: &Filter) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + filter.program.len() * INSTRUCTION + HASH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&filter.flags.bits().to_le_bytes());
    for instruction in &filter.program {
        bytes.extend_from_slice(&instruction.code.to_le_bytes());
        bytes.extend_from_slice(&[instruction.jump_true, instruction.jump_false]);
        bytes.extend_from_slice(&instruction.constant.to_le_bytes());
    }
    let hash: [u8; HASH] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&hash);
    bytes
}

fn decode(bytes: &[u8], key: &[u8; HASH]) -> Option<Filter> {
    let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    let (header, instructions) = content.split_at_checked(HEADER)?;
    let (magic, rest) = header.split_at(MAGIC.len());
    let (found, flags) = rest.split_at(HASH);
    let intact = Sha256::digest(content).as_slice() == hash;
    if magic != MAGIC || found != key || !intact || instructions.is_empty() || instructions.len() % INSTRUCTION != 0 {
        return None;
    }
    let flags = FilterFlags::from_bits(u32::from_le_bytes(flags.try_into().ok()?))?;
    let program = instructions.chunks_exact(INSTRUCTION).map(|word| SockFilter {
        code: u16::from_le_bytes([word[0], word[1]]),
        jump_true: word[2],
        jump_false: word[3],
        constant: u32::from_le_bytes([word[4], word[5], word[6], word[7]]),
    });
    Some(Filter { program: program.collect(), flags, unknown_names: Vec::new() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use berth_oci::runtime::{SeccompAction, SeccompSyscall};

    use super::*;
    use crate::seccomp::proof;

    fn profile(action: SeccompAction, rules: Vec<SeccompSyscall>) -> SeccompText {
        SeccompText::of(&proof::profile(action, rules))
    }

    fn only_file(dir: &Path) -> std::path::PathBuf {
        let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn a_second_start_takes_the_filter_from_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("made/when/needed");
        let profile = profile(SeccompAction::Errno, vec![]);
        let first = compile_cached(&profile, Some(&cache)).unwrap();
        let file = only_file(&cache);
        let (inode, bytes) = (fs::metadata(&file).unwrap().ino(), fs::read(&file).unwrap());
        assert_eq!(read(&file, bytes[8..40].try_into().unwrap()).unwrap(), first);
        assert_eq!(compile_cached(&profile, Some(&cache)).unwrap(), first);
        assert_eq!(fs::metadata(only_file(&cache)).unwrap().ino(), inode);
    }

    #[test]
    fn another_profile_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        compile_cached(&profile(SeccompAction::Errno, vec![]), Some(dir.path())).unwrap();
        compile_cached(&profile(SeccompAction::Allow, vec![]), Some(dir.path())).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_damaged_file_counts_as_absent_wherever_the_damage_is() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(SeccompAction::Errno, vec![]);
        let good = compile_cached(&profile, Some(dir.path())).unwrap();
        let file = only_file(dir.path());
        let bytes = fs::read(&file).unwrap();
        let key: [u8; HASH] = bytes[8..40].try_into().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged, &key), None, "byte {at}");
            assert_eq!(decode(&bytes[..at], &key), None, "cut at {at}");
        }
        fs::write(&file, b"nonsense").unwrap();
        assert_eq!(compile_cached(&profile, Some(dir.path())).unwrap(), good);
        assert_eq!(fs::read(&file).unwrap(), bytes, "it is written anew");
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(SeccompAction::Errno, vec![]);
        compile_cached(&profile, Some(dir.path())).unwrap();
        let file = only_file(dir.path());
        let key: [u8; HASH] = fs::read(&file).unwrap()[8..40].try_into().unwrap();
        assert!(read(&file, &key).is_some());
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(read(&link, &key).is_none());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(&file, &key).is_none());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if std::os::unix::fs::chown(&file, Some(65534), None).is_ok() {
            assert!(read(&file, &key).is_none());
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_costs_nothing_but_time() {
        let profile = profile(SeccompAction::Errno, vec![]);
        assert!(compile_cached(&profile, Some(Path::new("/proc/none"))).is_ok());
    }
}
