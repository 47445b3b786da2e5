//! What of a process its own work may change for a moment: whether it is all as it was.
//!
//! A launch goes into another mount namespace for a mount that is shared, an exec sends children into another pid namespace, and a device
//! program may need more locked memory. Each is put back; who serves another container afterwards looks whether it was.

use std::fs::Metadata;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

/// Where a process is, and what it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The root and the working directory with their mounts, which no two mount namespaces share.
    places: [(u64, u64); 2],
    /// The pid namespace of its children.
    pids: (u64, u64),
    umask: Mode,
    locked_memory: Rlimit,
}

impl Surroundings {
    /// Those of the calling process, which has one thread.
    pub fn look() -> io::Result<Self> {
        let pids = std::fs::metadata("/proc/self/ns/pid_for_children")?;
        let umask = rustix::process::umask(Mode::empty());
        rustix::process::umask(umask);
        Ok(Self {
            places: [place(c"/")?, place(c".")?],
            pids: identity(&pids),
            umask,
            locked_memory: rustix::process::getrlimit(Resource::Memlock),
        })
    }
}

/// The number of a directory, and that of its mount.
fn place(path: &std::ffi::CStr) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::MNT_ID)?;
    Ok((found.stx_mnt_id, found.stx_ino))
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Whether the process has no child, not even one that is gone and not reaped.
pub fn has_no_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let any = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, any).err() == Some(Errno::CHILD)
}

/// The descriptors that are open.
pub fn descriptors() -> io::Result<Vec<i32>> {
    let mut open = Vec::new();
    each_descriptor(|number| open.push(number))?;
    Ok(open)
}

/// Whether exactly these descriptors are open.
pub fn has_only_descriptors(expected: impl Iterator<Item = i32> + Clone) -> io::Result<bool> {
    let (mut known, mut others) = (0, 0);
    each_descriptor(|number| *if expected.clone().any(|one| one == number) { &mut known } else { &mut others } += 1)?;
    Ok(known == expected.count() && others == 0)
}

/// Tells the numbers of all open descriptors. See proc_pid_fd(5).
fn each_descriptor(mut tell: impl FnMut(i32)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    let mut room = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&directory, &mut room);
    while let Some(entry) = entries.next() {
        // What is no number is the directory itself and its parent.
        let number = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number| *number != directory.as_raw_fd()) {
            tell(number);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::clone::{CloneRequest, Cloned, exit_now};
    use rustix::process::{WaitOptions, waitpid};

    /// In a child, which has one thread and may be changed. It allocates nothing: a lock of the allocator may have been held when it was made.
    fn in_a_child(test: impl FnOnce() -> io::Result<bool>) -> bool {
        let Cloned::Parent { pid, .. } = CloneRequest::default().run().unwrap() else {
            exit_now(u8::from(test().unwrap_or(false)))
        };
        waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1.exit_status() == Some(1)
    }

    #[test]
    fn what_is_changed_is_noticed_until_it_is_put_back() {
        assert!(in_a_child(|| {
            let before = Surroundings::look()?;
            let same = before == Surroundings::look()?;
            rustix::process::chdir("/proc")?;
            let moved = before != Surroundings::look()?;
            Ok(same && moved)
        }));
        assert!(in_a_child(|| {
            let before = Surroundings::look()?;
            let old = rustix::process::umask(Mode::from_raw_mode(0o123));
            let masked = before != Surroundings::look()?;
            rustix::process::umask(old);
            Ok(masked && before == Surroundings::look()?)
        }));
        assert!(in_a_child(|| {
            let before = Surroundings::look()?;
            let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Memlock);
            let less = Some(current.or(maximum).unwrap_or(1 << 20) / 2);
            rustix::process::setrlimit(Resource::Memlock, Rlimit { current: less, maximum })?;
            Ok(before != Surroundings::look()?)
        }));
    }

    #[test]
    fn children_are_seen_until_they_are_reaped() {
        assert!(in_a_child(|| {
            let none = has_no_children();
            let Cloned::Parent { pid, .. } = CloneRequest::default().run()? else { exit_now(0) };
            let one = !has_no_children();
            waitpid(Some(pid), WaitOptions::empty())?;
            Ok(none && one && has_no_children())
        }));
    }

    #[test]
    fn each_descriptor_counts() {
        assert!(in_a_child(|| {
            // Those of the tests that run beside this one are in the child too.
            let (mut open, mut count) = ([0; 256], 0);
            each_descriptor(|number| {
                open[count] = number;
                count += 1;
            })?;
            let open = &open[..count];
            let exact = has_only_descriptors(open.iter().copied())?;
            let more = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 200)?;
            let grown = !has_only_descriptors(open.iter().copied())?;
            drop(more);
            let back = has_only_descriptors(open.iter().copied())?;
            Ok(exact && grown && back && !has_only_descriptors(open[1..].iter().copied())?)
        }));
    }
}
