//! How fast, how late and how reliably packets of a container go: queueing disciplines on its interfaces.
//!
//! What the container sends is shaped at its own interface, what it receives at the device on the host that this is
//! joined to. A rate alone is a token bucket (`tbf`, both ways); delay and loss need the network emulator (`netem`), which
//! not every kernel has, and concern what the container sends. See tc-tbf(8), tc-netem(8).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

use crate::endpoint::EndpointRecord;
use crate::error::NetError;
use crate::netlink::message::{Batch, CREATE, Message, REPLACE};
use crate::netlink::route::link_by_name;
use crate::netlink::{NetlinkError, Socket};
use crate::networks::Networks;

const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
/// `TC_H_ROOT`.
const ROOT: u32 = u32::MAX;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
/// `TC_LINKLAYER_ETHERNET`.
const ETHERNET: u8 = 1;
/// A bucket must hold one packet of the largest size that the kernel passes on in one piece.
const LEAST_BURST: u64 = 64 << 10;
/// Packets that an emulator holds back: those of 100 ms at a gigabit.
const HELD: u32 = 10_000;

/// What is asked of a container's network; nothing is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bits a second in each direction.
    pub rate: Option<u64>,
    /// How much later than otherwise packets leave.
    pub delay: Option<Duration>,
    /// How many of a million packets that leave are lost.
    pub loss: Option<u32>,
}

impl Shape {
    /// Whether nothing is asked.
    pub fn is_none(&self) -> bool {
        *self == Shape::default()
    }

    fn emulates(&self) -> bool {
        self.delay.is_some() || self.loss.is_some()
    }
}

impl Networks {
    /// Shapes the traffic of an endpoint, in place of what was asked before.
    ///
    /// # Errors
    /// The kernel refused; for delay and loss, because it lacks the network emulator.
    pub fn shape(&self, netns: OwnedFd, record: &EndpointRecord, shape: Shape) -> Result<(), NetError> {
        self.recall(&record.container);
        let interface = record.interface.clone();
        self.inside(netns, move || outbound(&interface, &shape))??;
        if record.device.is_empty() {
            return Ok(()); // What comes in is not the host's to hold back.
        }
        let device = record.device.clone();
        self.at_home(move || limit(&device, &shape))?
    }
}

/// A queueing discipline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discipline {
    /// Lets so many bytes through in a second.
    Bucket,
    /// Behaves like a slow and lossy link.
    Emulator,
}

impl Discipline {
    fn kind(self) -> &'static str {
        match self {
            Discipline::Bucket => "tbf",
            Discipline::Emulator => "netem",
        }
    }

    fn step(self) -> &'static str {
        match self {
            Discipline::Bucket => "limiting the rate",
            Discipline::Emulator => "delaying packets",
        }
    }
}

/// Shapes what the container sends.
fn outbound(interface: &str, shape: &Shape) -> Result<(), NetError> {
    if !shape.emulates() {
        return limit(interface, shape);
    }
    set(interface, Discipline::Emulator, |options| netem(options, shape)).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => {
            let text = "the kernel has no network emulator: load its module sch_netem, or ask for a rate only";
            NetError::Namespace { step: Discipline::Emulator.step(), source: io::Error::other(text) }
        }
        _ => error.into(),
    })
}

/// Limits the rate of what leaves by a device.
fn limit(device: &str, shape: &Shape) -> Result<(), NetError> {
    match shape.rate {
        Some(rate) => set(device, Discipline::Bucket, |options| tbf(options, rate / 8))?,
        None => clear(device)?,
    }
    Ok(())
}

fn set(device: &str, discipline: Discipline, options: impl FnOnce(&mut Message<'_>)) -> Result<(), NetlinkError> {
    let mut socket = Socket::route()?;
    let Some(link) = link_by_name(&mut socket, device)? else { return Ok(()) };
    // One of another kind cannot be changed into this one: it goes first.
    clear_on(&mut socket, link.index)?;
    let mut batch = Batch::new();
    batch.push(discipline.step(), NEW_QDISC, CREATE | REPLACE, |message| {
        message.header(&header(link.index)).text(TCA_KIND, discipline.kind()).nest(TCA_OPTIONS, options);
    });
    socket.run(batch)
}

fn clear(device: &str) -> Result<(), NetlinkError> {
    let mut socket = Socket::route()?;
    match link_by_name(&mut socket, device)? {
        Some(link) => clear_on(&mut socket, link.index),
        None => Ok(()),
    }
}

fn clear_on(socket: &mut Socket, index: u32) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.push("lifting limits", DELETE_QDISC, 0, |message| _ = message.header(&header(index)));
    match socket.run(batch) {
        // There was none.
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::INVAL)) => Ok(()),
        outcome => outcome,
    }
}

/// `struct tcmsg`: the root of a device.
fn header(index: u32) -> [u8; 20] {
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    header
}

/// A token bucket for so many bytes a second.
fn tbf(options: &mut Message<'_>, rate: u64) {
    let rate = rate.max(1);
    // What comes in 10 ms at once, and what waits for 50 ms more.
    let burst = small((rate / 100).max(LEAST_BURST));
    let limit = small((rate / 20).max(LEAST_BURST)).saturating_add(burst);
    // `struct tc_tbf_qopt`: rate, peak rate, limit, bucket in ticks (given in bytes below), mtu.
    let mut parameters = [0; 36];
    parameters[1] = ETHERNET;
    parameters[8..12].copy_from_slice(&small(rate).to_ne_bytes());
    parameters[24..28].copy_from_slice(&limit.to_ne_bytes());
    options.attribute(TCA_TBF_PARMS, &parameters).number(TCA_TBF_BURST, burst);
    if rate > u64::from(u32::MAX) {
        options.attribute(TCA_TBF_RATE64, &rate.to_ne_bytes());
    }
}

/// An emulator of a slow and lossy link.
fn netem(options: &mut Message<'_>, shape: &Shape) {
    // `struct tc_netem_qopt`: latency in ticks (given in nanoseconds below), limit, loss of 2^32, gap, duplicate, jitter.
    let mut parameters = [0; 24];
    let loss = u64::from(shape.loss.unwrap_or_default().min(1_000_000)) * u64::from(u32::MAX) / 1_000_000;
    parameters[4..8].copy_from_slice(&HELD.to_ne_bytes());
    parameters[8..12].copy_from_slice(&small(loss).to_ne_bytes());
    options.header(&parameters);
    let delay = i64::try_from(shape.delay.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX);
    options.attribute(TCA_NETEM_LATENCY64, &delay.to_ne_bytes());
    if let Some(rate) = shape.rate.map(|bits| (bits / 8).max(1)) {
        let mut parameters = [0; 16];
        parameters[..4].copy_from_slice(&small(rate).to_ne_bytes());
        options.attribute(TCA_NETEM_RATE, &parameters);
        if rate > u64::from(u32::MAX) {
            options.attribute(TCA_NETEM_RATE64, &rate.to_ne_bytes());
        }
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_beyond_32_bits_have_a_field_of_their_own() {
        let written = |rate: u64| {
            let mut batch = Batch::new();
            batch.push("x", NEW_QDISC, 0, |message| tbf(message, rate));
            batch.sealed(1, 0).len()
        };
        assert_eq!(written(u64::from(u32::MAX) + 1), written(1_000) + 12);
    }

    #[test]
    fn nothing_asked_is_nothing() {
        assert!(Shape::default().is_none() && !Shape::default().emulates());
        assert!(Shape { loss: Some(1), ..Shape::default() }.emulates());
    }
}
