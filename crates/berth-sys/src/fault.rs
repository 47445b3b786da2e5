//! Points at which a debug build can be told to die, so that tests can kill the daemon at every step of every operation.
//!
//! A point is one line between two steps. Release builds know none.

/// Ends this process by SIGKILL if `BERTH_DIE_AT` is the name of the point.
///
/// Read at the point itself, unlike every other setting: no layer above is to carry what only tests use.
#[inline]
pub fn point(name: &str) {
    if cfg!(debug_assertions) && std::env::var_os("BERTH_DIE_AT").is_some_and(|wanted| wanted == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal is for the whole process; this thread must not get any further meanwhile.
        loop {
            std::thread::park();
        }
    }
}
