//! A call that stays with its process: passes signals on, shows its terminal, takes its exit status.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::pty;
use berth_sys::signalfd::{SignalFd, signal_to_send};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
use rustix::termios::{OptionalActions, Termios};

use crate::error::{RuntimeError, Step};

/// Signals that are about us, not about the process: a child ended, a pipe broke, the terminal stops us or tells its size.
const OWN: [i32; 9] = [4, 7, 8, 9, 11, 13, 17, 19, 23];
const SIGWINCH: i32 = 28;
const LAST: i32 = 31;

/// The signals, collected from before the process is made, so that none is lost.
#[derive(Debug)]
pub(super) struct Session {
    signals: SignalFd,
}

impl Session {
    /// Begins to collect.
    pub(super) fn begin() -> Result<Session, RuntimeError> {
        let forwarded: Vec<i32> = (1..=LAST).filter(|number| !OWN.contains(number)).collect();
        Ok(Session { signals: SignalFd::new(&forwarded).step("collecting signals", "")? })
    }

    /// Stays until the process ends; gives the status that a shell would.
    pub(super) fn attend(&self, pidfd: BorrowedFd<'_>, terminal: Option<&OwnedFd>) -> Result<u8, RuntimeError> {
        let _raw = terminal.map(|_| RawInput::set());
        if let Some(master) = terminal {
            copy_size(master);
        }
        let mut relay = terminal.map(Relay::new);
        loop {
            match self.wait_once(pidfd, relay.as_mut()) {
                Ok(true) => break,
                Ok(false) => {}
                result => return result.step("waiting for the container", "").map(|_| 0),
            }
        }
        let status = reap(pidfd);
        if let Some(relay) = &mut relay {
            relay.drain();
        }
        Ok(status.map_or(0, |status| exit_code(&status)))
    }

    /// Waits for whatever comes next; `true` when the process has ended.
    fn wait_once(&self, pidfd: BorrowedFd<'_>, mut relay: Option<&mut Relay<'_>>) -> io::Result<bool> {
        let (input, output) = relay.as_ref().map_or((None, None), |relay| relay.sources());
        let mut polls = vec![
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
        ];
        polls.extend(output.map(|output| PollFd::from_borrowed_fd(output, PollFlags::IN)));
        polls.extend(input.map(|input| PollFd::from_borrowed_fd(input, PollFlags::IN)));
        match rustix::event::poll(&mut polls, None) {
            Err(Errno::INTR) => return Ok(false),
            result => result?,
        };
        let ready: Vec<bool> = polls.iter().map(|poll| !poll.revents().is_empty()).collect();
        drop(polls);
        if ready[1] {
            self.forward(pidfd, relay.as_deref())?;
        }
        if let Some(relay) = &mut relay {
            if ready.get(2) == Some(&true) {
                relay.copy_output();
            }
            if ready.get(3) == Some(&true) {
                relay.copy_input();
            }
        }
        Ok(ready[0])
    }

    fn forward(&self, pidfd: BorrowedFd<'_>, relay: Option<&Relay<'_>>) -> io::Result<()> {
        while let Some(number) = self.signals.take()? {
            match (number, relay) {
                (SIGWINCH, Some(relay)) => copy_size(relay.master),
                _ => {
                    if let Some(signal) = signal_to_send(number) {
                        let _ = rustix::process::pidfd_send_signal(pidfd, signal); // It may be gone just now.
                    }
                }
            }
        }
        Ok(())
    }
}

/// Takes the status of an ended child.
pub(super) fn reap(pidfd: BorrowedFd<'_>) -> Option<WaitIdStatus> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            result => return result.ok().flatten(),
        }
    }
}

fn exit_code(status: &WaitIdStatus) -> u8 {
    const SIGNALLED: i32 = 128;
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code & 0xff).ok()).unwrap_or(u8::MAX)
}

/// Our own terminal, copied to and from the container's.
struct Relay<'a> {
    master: &'a OwnedFd,
    input_open: bool,
    output_open: bool,
}

impl<'a> Relay<'a> {
    fn new(master: &'a OwnedFd) -> Relay<'a> {
        Relay { master, input_open: true, output_open: true }
    }

    /// What to wait for: our input, the container's output.
    fn sources(&self) -> (Option<BorrowedFd<'a>>, Option<BorrowedFd<'a>>) {
        let master = self.output_open.then(|| self.master.as_fd());
        // Without output there is nobody left to type for.
        (self.input_open.then(rustix::stdio::stdin).filter(|_| self.output_open), master)
    }

    fn copy_output(&mut self) {
        self.output_open = copy(self.master.as_fd(), rustix::stdio::stdout());
    }

    fn copy_input(&mut self) {
        self.input_open = copy(rustix::stdio::stdin(), self.master.as_fd());
    }

    /// Shows what the process wrote last; a terminal that all have left gives an error, not a wait.
    fn drain(&mut self) {
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        while self.output_open {
            let mut polls = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::IN)];
            if rustix::event::poll(&mut polls, Some(&now)).is_ok_and(|ready| ready == 0) {
                return;
            }
            self.copy_output();
        }
    }
}

/// Copies once; `false` at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0_u8; 8192];
    let count = match rustix::io::read(from, &mut buffer) {
        Err(Errno::INTR | Errno::AGAIN) => return true,
        Ok(0) | Err(_) => return false,
        Ok(count) => count,
    };
    let mut rest = &buffer[..count];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(count) => rest = &rest[count..],
        }
    }
    true
}

fn copy_size(master: &OwnedFd) {
    if let Ok(size) = pty::size(rustix::stdio::stdout()) {
        let _ = pty::resize(master.as_fd(), size);
    }
}

/// Our input passed on key by key; as before when dropped.
struct RawInput(Option<Termios>);

impl RawInput {
    fn set() -> RawInput {
        let Ok(before) = rustix::termios::tcgetattr(rustix::stdio::stdin()) else { return RawInput(None) };
        let mut raw = before.clone();
        raw.make_raw();
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw);
        RawInput(Some(before))
    }
}

impl Drop for RawInput {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}
