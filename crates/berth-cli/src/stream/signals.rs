//! Signals of an attached client: forwarded to the process, or the end of the client with its terminal put right.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use berth_sys::signalfd::SignalFd;

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const TERM: i32 = 15;
const WINCH: i32 = 28;

/// After so many signals that ask for the end, the client ends whatever the process does (B009).
const PATIENCE: u32 = 3;

/// What the signals of an attached client are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// They are forwarded to the process (B046).
    Forward,
    /// They end the client; the process gets its control characters by its terminal.
    End,
}

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// The terminal has a new size.
    Resized,
    /// Send it to the process.
    Forward(i32),
    /// End with this exit code.
    End(u8),
    /// The user has lost patience.
    ForceEnd,
}

/// Signals as a descriptor. They are blocked from its making to the end of the client.
pub(crate) struct Signals {
    descriptor: SignalFd,
    purpose: Purpose,
    asked_to_end: u32,
}

impl Signals {
    pub fn catch(purpose: Purpose) -> io::Result<Signals> {
        let numbers: Vec<i32> = match purpose {
            Purpose::Forward => forwarded().collect(),
            Purpose::End => vec![HUP, INT, QUIT, TERM, WINCH],
        };
        Ok(Signals { descriptor: SignalFd::new(&numbers)?, purpose, asked_to_end: 0 })
    }

    /// The next signal that has come.
    pub fn take(&mut self) -> io::Result<Option<Happened>> {
        let Some(number) = self.descriptor.take()? else { return Ok(None) };
        if matches!(number, INT | TERM) {
            self.asked_to_end += 1;
        }
        Ok(Some(match (number, self.purpose) {
            (WINCH, _) => Happened::Resized,
            _ if self.asked_to_end >= PATIENCE => Happened::ForceEnd,
            (number, Purpose::Forward) => Happened::Forward(number),
            (number, Purpose::End) => Happened::End(128 + u8::try_from(number).unwrap_or_default()),
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Every signal that a process can be sent and that does not speak of ourselves: faults, children, broken pipes and job control stay ours.
fn forwarded() -> impl Iterator<Item = i32> {
    const OURS: [i32; 13] = [4, 5, 7, 8, 9, 11, 13, 17, 19, 21, 22, 23, 31];
    (1..=31).chain(34..=64).filter(|number| !OURS.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_of_ourselves_is_not_forwarded() {
        let all: Vec<_> = forwarded().collect();
        for (number, forward) in [
            (INT, true),
            (TERM, true),
            (QUIT, true),
            (10, true),
            (20, true),
            (9, false),
            (13, false),
            (17, false),
            (23, false),
        ] {
            assert_eq!(all.contains(&number), forward, "signal {number}");
        }
    }
}
