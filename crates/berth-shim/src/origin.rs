//! What a process has to be, and to know of its machine, before it can become a shim. Everything in it survives a fork.

use std::io;

use berth_cgroup::Layout;
use berth_sys::heap::Stack;
use rustix::process::{DumpableBehavior, Signal};

use crate::placement::{self, PlacementError};
use crate::reuse::Reuse;

/// Made once in a process; each shim that is forked from it has a copy.
pub struct Origin {
    /// The control groups of the machine.
    pub layout: Layout,
    /// The stack of its one thread.
    pub stack: Stack,
    /// Where it may serve more than one container.
    pub reuse: Option<Reuse>,
    /// The cgroup it has entered.
    cgroup: Option<String>,
}

impl Origin {
    /// Makes the calling process fit to be a shim.
    pub fn find() -> io::Result<Self> {
        rustix::thread::set_name(c"berth-shim")?;
        // Nobody inside looks into a process on its way in, nor into its memory (CVE-2016-9962).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        // A client or logger that is gone is an error like any other.
        berth_sys::signalfd::ignore(Signal::PIPE.as_raw())?;
        // Meant for the daemon's terminal, if for anybody.
        berth_sys::signalfd::ignore(Signal::HUP.as_raw())?;
        berth_sys::signalfd::ignore(Signal::INT.as_raw())?;
        let layout = Layout::probe().map_err(io::Error::other)?;
        Ok(Self { layout, stack: Stack::find(), reuse: None, cgroup: None })
    }

    /// Enters a cgroup, if it is not there yet; the empty path is where one is.
    pub fn enter(&mut self, path: &str) -> Result<(), PlacementError> {
        if path.is_empty() || self.cgroup.as_deref() == Some(path) {
            return Ok(());
        }
        placement::enter(&self.layout, path)?;
        self.cgroup = Some(path.to_owned());
        Ok(())
    }
}
