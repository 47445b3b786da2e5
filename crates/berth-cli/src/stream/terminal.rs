//! The client's terminal: raw while a container's terminal is shown on it, and as it was before on every way out.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Stdin without line editing, echo and signals, until dropped.
pub(crate) struct RawTerminal {
    before: Arc<Termios>,
}

impl RawTerminal {
    /// Makes the terminal on stdin raw.
    pub fn enter() -> io::Result<RawTerminal> {
        let before = Arc::new(tcgetattr(io::stdin())?);
        let mut raw = (*before).clone();
        raw.make_raw();
        // At once and without a flush: what was typed ahead is for the container.
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        // A panic ends the process without running destructors.
        let (saved, usual) = (before.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            restore(&saved);
            usual(panic);
        }));
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn restore(before: &Termios) {
    // What was typed and not read stays for the shell.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
}

/// Whether stdin is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Height and width in characters of the terminal on stdout, if there is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
