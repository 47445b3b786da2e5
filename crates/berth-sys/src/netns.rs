//! Network namespaces: made, opened and visited without losing the way home.
//!
//! A network namespace belongs to a *thread*. Either the work is done on a short-lived thread of its own ([`create`],
//! [`enter`]), or a thread that does nothing else keeps a [`Traveller`], which brings it home after each visit.
//! Nothing here is ever mounted: a namespace lives as long as a descriptor or a process holds it.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Makes a network namespace with nothing in it but a loopback device that is down. See network_namespaces(7).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOSPC` when the user namespace may have no more of them.
pub fn create() -> io::Result<OwnedFd> {
    in_own_thread(|| {
        unshare_network()?;
        current()
    })
}

/// Runs `work` on a short-lived thread inside `namespace`. The caller's thread stays where it is. See setns(2).
///
/// # Errors
/// Those of setns(2): `EINVAL` when the descriptor is no network namespace, `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    in_own_thread(|| {
        move_into(namespace)?;
        Ok(work())
    })
}

/// Opens the network namespace of the calling thread.
pub fn current() -> io::Result<OwnedFd> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Opens the network namespace of a process, or one that is mounted at a path.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Whether two descriptors hold the same namespace: the kernel gives each one inode on nsfs.
pub fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// A thread that visits network namespaces and comes home from each.
///
/// Kept by a thread made for it: between visits it is at home, so that sockets it opens belong to the host. It cannot
/// be sent to another thread, whose home would be another one.
pub struct Traveller {
    home: OwnedFd,
    // A raw pointer is not `Send`: the value is bound to the thread that made it.
    thread: PhantomData<*const ()>,
}

impl Traveller {
    /// Makes the namespace the calling thread is in its home.
    pub fn at_home() -> io::Result<Traveller> {
        Ok(Traveller { home: current()?, thread: PhantomData })
    }

    /// Makes a namespace, runs `work` inside, and comes home.
    pub fn create<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> T) -> io::Result<(OwnedFd, T)> {
        unshare_network()?;
        let _home = WayHome(self.home.as_fd());
        let namespace = current()?;
        let outcome = work(namespace.as_fd());
        Ok((namespace, outcome))
    }

    /// Goes into a namespace, runs `work` there, and comes home.
    pub fn visit<T>(&self, namespace: BorrowedFd<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
        move_into(namespace)?;
        let _home = WayHome(self.home.as_fd());
        Ok(work())
    }
}

struct WayHome<'a>(BorrowedFd<'a>);

impl Drop for WayHome<'_> {
    fn drop(&mut self) {
        // A thread lost in a container's namespace would carry out the host's business there; there is no going on.
        move_into(self.0).expect("a thread that could leave its network namespace may return to it");
    }
}

fn move_into(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Puts the calling thread into a new network namespace.
fn unshare_network() -> io::Result<()> {
    // SAFETY: the function is unsafe because of CLONE_FILES, which could close descriptors under their owners. Only
    // CLONE_NEWNET is given, which changes nothing that Rust code relies on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

fn in_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics says where")]
mod tests {
    use super::*;

    fn privileged() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn a_new_namespace_leaves_the_caller_where_it_was() {
        if !privileged() {
            return;
        }
        let before = current().unwrap();
        let made = create().unwrap();
        assert!(same(before.as_fd(), current().unwrap().as_fd()).unwrap());
        assert!(!same(before.as_fd(), made.as_fd()).unwrap());
        let devices = enter(made.as_fd(), || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
        assert_eq!(devices.lines().skip(2).filter(|line| line.trim_start().starts_with("lo:")).count(), 1, "{devices}");
    }

    #[test]
    fn a_traveller_comes_home_even_when_the_work_fails() {
        if !privileged() {
            return;
        }
        std::thread::spawn(|| {
            let before = current().unwrap();
            let traveller = Traveller::at_home().unwrap();
            let (made, outcome) = traveller.create(|_| Err::<(), _>("refused")).unwrap();
            assert_eq!(outcome, Err("refused"));
            let seen = traveller.visit(made.as_fd(), || current().unwrap()).unwrap();
            assert!(same(seen.as_fd(), made.as_fd()).unwrap());
            assert!(same(before.as_fd(), current().unwrap().as_fd()).unwrap());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let null = open(Path::new("/dev/null")).unwrap();
        assert!(enter(null.as_fd(), || ()).is_err());
    }
}
