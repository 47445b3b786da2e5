//! From one container to the next: a shim of which nothing is left that knows its container serves another one on the same connection.
//!
//! A [`Blank`] is what a shim is before it has heard of a container, be it newly forked or not. There are two ways to one: from a socket, and
//! from a [`Shim`] that was told to stay and found itself clean. Whatever else there is of a shim goes with the container. What cannot be
//! proven clean leaves, as every shim did before there were these. See `docs/design/zygote.md`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use berth_sys::title::Title;

use crate::connection::Resting;
use crate::origin::Origin;
use crate::shim::{Leaving, Shim};
use crate::surroundings::{self, Surroundings};

/// So many containers are served by one shim: what an inspection cannot see does not add up for ever, and a fork for each hundred costs nothing.
const MOST_CONTAINERS: u32 = 100;
/// A container whose service needed more of the heap at a time leaves it in pieces, or larger than a new one's.
const MOST_HEAP: isize = 1 << 20;
/// A shim without a container holds less.
const MOST_HELD: isize = 8 << 10;

/// What a shim has to be able to serve one container after another.
pub struct Reuse {
    title: Title,
    /// How everything was before the first.
    before: Surroundings,
    /// What was open before the first: the three that the shim uses for itself, and what it was left by others.
    descriptors: Vec<i32>,
    /// How many it has served.
    served: u32,
}

/// A shim that knows no container.
pub struct Blank {
    pub(crate) origin: Origin,
    pub(crate) connection: Resting,
}

impl Reuse {
    /// For shims that are forked from the calling process.
    pub fn of_here(title: Title) -> io::Result<Self> {
        Ok(Self { title, before: Surroundings::look()?, descriptors: surroundings::descriptors()?, served: 0 })
    }

    /// Shows whose shim this is.
    pub fn show(&self, id: &str) {
        self.title.set(["berth-shim", "-id", id]);
    }

    fn show_idle(&self) {
        self.title.set(["berth-shim", "--idle"]);
    }
}

impl Blank {
    /// One that will hear on a socket what to launch.
    pub fn new(origin: Origin, socket: OwnedFd) -> Self {
        Self { origin, connection: Resting::new(socket) }
    }

    /// Serves one container after another, each as if it were the first.
    ///
    /// What the calls for one have left on the stack is gone before the next; what they have left in the heap was wiped when it was freed, in
    /// a process that has begun to wipe.
    pub fn serve_all(self) -> io::Result<()> {
        let stack = self.origin.stack;
        let mut next = self;
        while let Some(blank) = serve(next)? {
            if !berth_sys::heap::wipe_stack(stack) {
                return Ok(());
            }
            // Last: who sees it finds nothing in its memory any more.
            if let Some(reuse) = &blank.origin.reuse {
                reuse.show_idle();
            }
            next = blank;
        }
        Ok(())
    }
}

/// Of its own, so that everything it has lies below [`Blank::serve_all`] on the stack.
#[inline(never)]
fn serve(blank: Blank) -> io::Result<Option<Blank>> {
    berth_sys::wiping::forget_peak();
    Shim::new(blank)?.run()
}

impl Shim {
    /// Gets ready for another container, if nothing is left of the one it had and `connection` is all that is left. Says whether it is.
    pub(crate) fn stay(&mut self, connection: u32) -> bool {
        self.reap_all();
        let stays = self.has_only(connection) && self.forget_task() && self.is_as_before().unwrap_or(false);
        if stays {
            self.leaving = Leaving::ForTheNext;
        }
        stays
    }

    /// What is left of a shim that stays.
    pub(crate) fn into_blank(self) -> Option<Blank> {
        let Self { poll, origin, mut connections, .. } = self;
        let connection = connections.pop()?.rest(&poll)?;
        connections.is_empty().then_some(Blank { origin, connection })
    }

    fn has_only(&self, connection: u32) -> bool {
        let alone = matches!(&self.connections[..], [only] if only.number == connection && only.has_taken_all());
        alone
            && self.clients.is_empty()
            && self.waiters.is_empty()
            && self.listener.is_none()
            && self.publisher.is_none()
    }

    /// Lets go of the container. Says whether there was one, and all of it could be removed.
    fn forget_task(&mut self) -> bool {
        self.task.take().is_some_and(|task| task.is_removed())
    }

    fn is_as_before(&mut self) -> io::Result<bool> {
        let Some(reuse) = &mut self.origin.reuse else { return Ok(false) };
        reuse.served += 1;
        let heap = berth_sys::wiping::account();
        let fits = reuse.served < MOST_CONTAINERS && heap.peak <= MOST_HEAP && heap.held <= MOST_HELD;
        let connections = self.connections.iter().map(|connection| connection.as_fd().as_raw_fd());
        let descriptors = reuse.descriptors.iter().copied().chain(connections);
        Ok(fits
            && surroundings::has_no_children()
            && reuse.before == Surroundings::look()?
            && surroundings::has_only_descriptors(descriptors)?)
    }
}
