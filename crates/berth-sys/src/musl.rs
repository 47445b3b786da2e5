//! Functions of the C library in which musl's own would not do, linked in their stead.

use crate::clone::exit_now;

/// Ends this process by `SIGABRT`. See abort(3).
///
/// Musl's sends the signal to the number that the C library remembers of its thread. A process made by clone3(2) still has its parent's there,
/// so a panic in a shim would end the process that all shims are forked from.
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    let unblocked: u64 = !(1 << (libc::SIGABRT - 1));
    // SAFETY: the kernel reads one set; the default action runs no code of this process, and the signal goes to the calling thread.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const unblocked, none, size_of::<u64>());
        let thread = libc::syscall(libc::SYS_gettid); // gettid(3) tells the remembered number, too.
        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGABRT);
    }
    // The first process of a pid namespace outlives the default action.
    exit_now(128 + 6)
}

#[cfg(test)]
mod tests {
    use crate::clone::{CloneRequest, Cloned};
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn a_child_that_aborts_ends_itself_and_nobody_else() {
        let Cloned::Parent { pidfd, .. } = CloneRequest::default().run().unwrap() else { std::process::abort() };
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(libc::SIGABRT));
    }
}
