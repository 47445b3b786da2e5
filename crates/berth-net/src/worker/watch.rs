//! Watching over the rules: whoever flushes them, or changes those of others, is heard of at once.
//!
//! The kernel tells a thread of every change; it tells the worker of those that others made, and the worker puts in order
//! what is its own. The thread ends with the worker.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::{Job, Worker};
use crate::config::FirewallMode;
use crate::error::NetError;
use crate::firewall::{self, HostPolicy};
use crate::netlink::Socket;
use crate::netlink::nf_tables::{self, News, news};

/// How long others are given to finish before chains of theirs are looked at again: programs that set up a firewall do it in many
/// steps.
const SETTLING: Duration = Duration::from_millis(300);
/// After so long they are looked at even if others change something all the time.
const LONGEST_SETTLING: Duration = Duration::from_millis(1000);

/// What somebody else did to the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// Our own table is not as it was.
    Ours,
    /// Other tables changed.
    Others,
    /// News was lost.
    Unknown,
}

/// The thread, as the worker holds it.
#[derive(Debug)]
pub(super) struct Watch {
    /// Closed when the worker ends, which ends the thread.
    _leash: PipeWriter,
}

/// What is to be done about disturbances.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// When our rules are written again, because they could not be.
    pub rules_at: Option<Instant>,
    /// When chains of others are looked at again.
    pub others_at: Option<Instant>,
    /// When others began to change what was not looked at since.
    others_since: Option<Instant>,
}

impl Repair {
    /// Others changed something, and may go on with it.
    fn look_at_others(&mut self) {
        let now = Instant::now();
        let since = *self.others_since.get_or_insert(now);
        self.others_at = Some((now + SETTLING).min(since + LONGEST_SETTLING));
    }
}

impl Watch {
    /// Begins to watch in the network namespace of the calling thread. Changes that come by the socket with the number
    /// `own` are ours.
    fn begin(table: &str, own: Arc<AtomicU32>, jobs: Sender<Job>) -> Result<Watch, NetError> {
        let failed = |source| NetError::Namespace { step: "watching over the firewall rules", source };
        let events = Socket::netfilter_events()?;
        let port = own.load(Ordering::Relaxed);
        if port != 0 {
            // Not even woken by them. Should the socket for rules be another one some day, its number is compared below.
            let _ = berth_sys::socket_filter::drop_netlink_of(events.as_fd(), port);
        }
        let (end, leash) = io::pipe().map_err(failed)?;
        let table = table.to_owned();
        let run = move || listen(events, &end, &table, &own, &jobs);
        std::thread::Builder::new().name("firewall".to_owned()).stack_size(64 * 1024).spawn(run).map_err(failed)?;
        Ok(Watch { _leash: leash })
    }
}

fn listen(mut events: Socket, end: &PipeReader, table: &str, own: &AtomicU32, jobs: &Sender<Job>) {
    let mut ours = false;
    loop {
        let mut ready = [PollFd::new(&events, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        let mut disturbance = None;
        let heard = events.hear(|message| match news(&message) {
            Some(News::Table(name)) => ours |= name == table,
            Some(News::Committed(port)) if port != own.load(Ordering::Relaxed) => {
                disturbance = match (ours, disturbance) {
                    (true, _) | (_, Some(Disturbance::Ours)) => Some(Disturbance::Ours),
                    _ => Some(Disturbance::Others),
                };
                ours = false;
            }
            Some(News::Committed(_)) => ours = false,
            None => {}
        });
        if let Err(error) = heard {
            if error.raw_os_error() != Some(rustix::io::Errno::NOBUFS.raw_os_error()) {
                return;
            }
            disturbance = Some(Disturbance::Unknown);
        }
        if let Some(disturbance) = disturbance
            && jobs.send(Job::Disturbed(disturbance)).is_err()
        {
            return;
        }
    }
}

impl Worker {
    /// Does something with the firewall, always by the same socket: by its number our changes are known.
    pub(super) fn with_firewall<T>(
        &mut self,
        work: impl FnOnce(&str, &mut Socket) -> Result<T, NetError>,
    ) -> Result<T, NetError> {
        let mut socket = match self.firewall.take() {
            Some(socket) => socket,
            None => {
                let socket = Socket::netfilter()?;
                let port = socket.port();
                let failed = |source| NetError::Namespace { step: "opening a socket for firewall rules", source };
                self.firewall_port.store(port.map_err(failed)?, Ordering::Relaxed);
                socket
            }
        };
        let before = socket.commits();
        let outcome = work(&self.config.table, &mut socket);
        self.keep_policy(socket.commits().wrapping_sub(before), outcome.is_ok());
        // After a failure an answer may still be on its way to the socket: it is not used again.
        self.firewall = outcome.is_ok().then_some(socket);
        outcome
    }

    /// The host's own rules as they are now, with the number of the ruleset. They are read again only when somebody else changed some.
    pub(super) fn host_policy(&mut self) -> Result<(u32, Arc<HostPolicy>), NetError> {
        let known = self.host_policy.take();
        let read = self.with_firewall(|table, socket| {
            if let Some((number, policy)) = known
                && policy.knows_legacy()
                && nf_tables::generation(socket)? == number
            {
                return Ok((number, policy));
            }
            let (number, policy) = HostPolicy::read(socket, table)?;
            Ok((number, Arc::new(policy)))
        })?;
        self.host_policy = Some((read.0, Arc::clone(&read.1)));
        Ok(read)
    }

    /// What is known of the host's rules stays true when all changes since were ours: whoever uses it compares the numbers.
    fn keep_policy(&mut self, own_commits: u32, went_well: bool) {
        match self.host_policy.as_mut() {
            Some((number, _)) if went_well => *number = number.wrapping_add(own_commits),
            _ => self.host_policy = None,
        }
    }

    /// Begins to watch over the rules, if that has not begun.
    pub(super) fn watch_over(&mut self) -> Result<(), NetError> {
        if self.watch.is_none() {
            self.watch = Some(Watch::begin(&self.config.table, Arc::clone(&self.firewall_port), self.jobs.clone())?);
        }
        Ok(())
    }

    /// Puts in order what somebody disturbed.
    pub(super) fn disturbed(&mut self, what: Disturbance) {
        if self.bridges.is_empty() {
            return;
        }
        match what {
            Disturbance::Ours => self.repair(),
            Disturbance::Others => self.repair.look_at_others(),
            Disturbance::Unknown => {
                let whole = self.with_firewall(|table, socket| Ok(firewall::is_whole(socket, table)?));
                if !matches!(whole, Ok(true)) {
                    self.repair();
                }
                self.repair.look_at_others();
            }
        }
    }

    /// Writes our rules again. What fails is tried again: nobody is there to be told.
    fn repair(&mut self) {
        self.repair.rules_at = self.enforce().is_err().then(|| Instant::now() + SETTLING);
    }

    /// Does what is due.
    pub(super) fn do_repairs(&mut self, now: Instant) {
        if self.repair.rules_at.is_some_and(|at| at <= now) {
            self.repair();
        }
        if self.repair.others_at.is_some_and(|at| at <= now) {
            self.repair.others_at = None;
            self.repair.others_since = None;
            match self.config.firewall {
                // What others accept decides about our ports.
                FirewallMode::Respect => self.repair(),
                FirewallMode::Docker => {
                    if let Ok(obstacles) = self.admit() {
                        self.obstacles = obstacles;
                    }
                }
            }
        }
    }
}
