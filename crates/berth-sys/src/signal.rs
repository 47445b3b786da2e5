//! Signals by number, the real-time ones included.

use std::num::NonZeroI32;

use rustix::process::Signal;

/// The signal of a number from 1 to 64; `None` for the few numbers that C libraries keep for themselves. See signal(7).
pub fn from_number(number: i32) -> Option<Signal> {
    /// Above what glibc (32, 33) and musl (32 to 34) use inside.
    const FIRST_FREE: i32 = 35;
    const LAST: i32 = 64;
    if let Some(named) = Signal::from_named_raw(number) {
        return Some(named);
    }
    if !(FIRST_FREE..=LAST).contains(&number) && number != libc::SIGRTMIN() {
        return None;
    }
    let number = NonZeroI32::new(number)?;
    // SAFETY: a real-time signal that the kernel knows and the C library has no use of its own for.
    Some(unsafe { Signal::from_raw_nonzero_unchecked(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_signals_a_program_may_send_have_one() {
        assert_eq!(from_number(9), Some(Signal::KILL));
        assert_eq!(from_number(40).map(Signal::as_raw), Some(40));
        assert_eq!(from_number(0), None);
        assert_eq!(from_number(32), None);
        assert_eq!(from_number(65), None);
    }
}
