//! Signals read from a descriptor instead of interrupting. See signalfd(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Signal;

/// A non-blocking descriptor that becomes readable when one of its signals is pending.
#[derive(Debug)]
pub struct SignalFd(Place);

/// Where its descriptor is.
#[derive(Debug)]
enum Place {
    Own(OwnedFd),
    Stdout,
}

impl SignalFd {
    /// Blocks the signals for the calling thread and collects them instead. Made before any other thread is.
    ///
    /// They stay blocked in children until those unblock them, which [`crate::exec::restore_default_signals`] does.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal; else those of signalfd(2).
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals)?;
        let (set, none) = (&raw const set, std::ptr::null_mut::<KernelSet>());
        // SAFETY: the kernel reads one set, made in local memory; the old one is not asked for.
        if unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, set, none, size_of::<KernelSet>()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        // SAFETY: the kernel reads one set.
        let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, set, size_of::<KernelSet>(), flags) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(Place::Own(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Moves it to the place of stdout, for a process that has no use for that: a descriptor is spared.
    ///
    /// # Errors
    /// Those of dup2(2).
    pub fn onto_stdout(self) -> io::Result<Self> {
        rustix::stdio::dup2_stdout(&self)?;
        Ok(Self(Place::Stdout))
    }

    /// Takes the number of one pending signal, if there is any.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn take(&self) -> io::Result<Option<i32>> {
        let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most `size` bytes into room of that size.
        let count = unsafe { libc::read(self.as_fd().as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if count == size as isize {
            // SAFETY: the kernel has filled it whole.
            return Ok(Some(unsafe { info.assume_init() }.ssi_signo as i32));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Place::Own(descriptor) => descriptor.as_fd(),
            Place::Stdout => rustix::stdio::stdout(),
        }
    }
}

/// The kernel's own set, a bit for each signal. A C library's refuses the real-time signals that it uses itself; musl's are up to 34, one that
/// programs send.
type KernelSet = u64;

fn set_of(signals: &[i32]) -> io::Result<KernelSet> {
    signals.iter().try_fold(0, |set, signal| match signal {
        1..=64 => Ok(set | 1 << (signal - 1)),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    })
}

/// The signal of a number, real-time ones included, to be sent to another process. `None` for what is no signal of Linux.
pub fn signal_to_send(number: i32) -> Option<Signal> {
    if !(1..=64).contains(&number) {
        return None;
    }
    // SAFETY: the number is a signal's, and not zero. The C library's own signals are reserved within this process only;
    // in another they are that one's matter, as with kill(1).
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// Ignores a signal. Inherited by children and kept by execve(2). See sigaction(2).
///
/// # Errors
/// `EINVAL` for a number that is no signal or cannot be ignored.
pub fn ignore(signal: i32) -> io::Result<()> {
    set_action(signal, libc::SIG_IGN)
}

/// Gives a signal its default action again. See sigaction(2).
///
/// # Errors
/// `EINVAL` for a number that is no signal.
pub fn restore(signal: i32) -> io::Result<()> {
    set_action(signal, libc::SIG_DFL)
}

/// `action` is one of the two that are no functions.
fn set_action(signal: i32, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: neither to ignore a signal nor its default action runs code of this process.
    if unsafe { libc::signal(signal, action) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_in_the_descriptor() {
        /// The first real-time signal that programs may use under glibc.
        const SIGRTMIN: i32 = 34;
        let signals = SignalFd::new(&[libc::SIGUSR2, SIGRTMIN]).unwrap();
        for signal in [libc::SIGUSR2, SIGRTMIN] {
            assert_eq!(signals.take().unwrap(), None);
            // SAFETY: sends a signal to the calling thread, which has just blocked it.
            unsafe { libc::syscall(libc::SYS_tkill, libc::gettid(), signal) };
            assert_eq!(signals.take().unwrap(), Some(signal));
        }
        assert_eq!(signals.take().unwrap(), None);
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        assert!(SignalFd::new(&[999]).is_err());
        assert!(ignore(999).is_err() && restore(999).is_err());
        assert_eq!((signal_to_send(0), signal_to_send(65)), (None, None));
        assert_eq!(signal_to_send(37).map(Signal::as_raw), Some(37));
    }
}
