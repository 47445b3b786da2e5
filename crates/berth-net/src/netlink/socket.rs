//! A netlink socket and its conversation: a batch goes out in one call, what the kernel objects to comes back as words.

use std::io;
use std::ops::Range;
use std::time::Duration;

use netlink_sys::SocketAddr;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::net::sockopt;

use super::message::{Answer, Attributes, Batch, DUMP, HEADER, Message, Messages, u32_at};

/// The kernel's answer to a request: `struct nlmsgerr`.
const ERROR: u16 = 2;
/// The end of a dump.
const DONE: u16 = 3;
/// The object list changed while it was read.
const DUMP_INTERRUPTED: u16 = 0x10;
/// The answer carries attributes, among them the kernel's own words.
const ACK_TLVS: u16 = 0x200;
/// The words in an answer: `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: u16 = 1;
/// The kernel fills dumps up to 32 KiB a datagram when the reader has room for it.
const DATAGRAM: usize = 32 * 1024;
/// A dump that is interrupted this often is given up: somebody changes the list faster than it can be read.
const DUMP_TRIES: usize = 20;
/// The kernel answers within the call that asks; a longer silence means that the answer was lost.
const SILENCE: Duration = Duration::from_secs(10);
/// Requests up to this size fit the send buffer every socket is born with.
const USUAL_REQUEST: usize = 64 * 1024;
/// Room for news, in bytes: ten thousand elements that change together.
const EVENT_ROOM: usize = 4 * 1024 * 1024;
/// The group in which nf_tables tells of changes: `NFNLGRP_NFTABLES`.
const NF_TABLES_EVENTS: u32 = 7;

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// There is no socket of that protocol to be had.
    #[error("opening a netlink socket for {family}")]
    Open {
        /// The family that was asked for.
        family: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The message could not be sent, or its answer not be read.
    #[error("{step}: no answer by netlink")]
    Exchange {
        /// The step that was under way.
        step: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("{step}{}", detail.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// The step that was refused.
        step: &'static str,
        /// The kernel's own words, where it has some.
        detail: Option<String>,
        /// The error number.
        source: io::Error,
    },
    /// A list changed faster than it could be read.
    #[error("{step}: the list changed during each of {DUMP_TRIES} readings")]
    Restless {
        /// The list that was read.
        step: &'static str,
    },
}

impl NetlinkError {
    /// The error number with which the kernel refused, if it did.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            NetlinkError::Refused { source, .. } => rustix::io::Errno::from_io_error(source),
            _ => None,
        }
    }
}

impl NetlinkError {
    /// Whether a transaction was refused because somebody changed the ruleset since.
    pub fn is_outdated(&self) -> bool {
        // `ERESTART`, which no call of the C library knows.
        const RESTART: i32 = 85;
        matches!(self, NetlinkError::Refused { source, .. } if source.raw_os_error() == Some(RESTART))
    }
}

impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// A socket to the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    datagram: Vec<u8>,
    commits: u32,
}

impl Socket {
    /// Opens a socket for links, addresses and routes. See rtnetlink(7).
    pub fn route() -> Result<Socket, NetlinkError> {
        Socket::open(NETLINK_ROUTE).map_err(|source| NetlinkError::Open { family: "rtnetlink", source })
    }

    /// Opens a socket for nf_tables.
    pub fn netfilter() -> Result<Socket, NetlinkError> {
        Socket::open(NETLINK_NETFILTER).map_err(|source| NetlinkError::Open { family: "nf_tables", source })
    }

    /// Opens a socket that hears of every change of nf_tables. It has room for the news of a large change.
    pub fn netfilter_events() -> Result<Socket, NetlinkError> {
        let opened = || -> io::Result<Socket> {
            let socket = Socket::open(NETLINK_NETFILTER)?;
            // Without the privilege the usual room has to do: then news is lost sooner, which is noticed.
            let _ = sockopt::set_socket_recv_buffer_size_force(&socket.inner, EVENT_ROOM);
            socket.inner.add_membership(NF_TABLES_EVENTS)?;
            sockopt::set_socket_timeout(&socket.inner, sockopt::Timeout::Recv, None)?;
            Ok(socket)
        };
        opened().map_err(|source| NetlinkError::Open { family: "news of nf_tables", source })
    }

    /// The number by which changes made on this socket are known to those who hear of them.
    pub fn port(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.inner.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// How many firewall transactions were committed by it.
    pub fn commits(&self) -> u32 {
        self.commits
    }

    pub(super) fn count_commit(&mut self) {
        self.commits = self.commits.wrapping_add(1);
    }

    /// Reads the next news; waits for it.
    ///
    /// # Errors
    /// `ENOBUFS` when some was lost.
    pub fn hear(&mut self, news: impl FnMut(Answer<'_>)) -> io::Result<()> {
        self.receive()?;
        Messages::of(&self.datagram).for_each(news);
        Ok(())
    }

    fn open(protocol: isize) -> io::Result<Socket> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        inner.bind_auto()?;
        // Errors then come with the kernel's words, and without an echo of the whole request.
        inner.set_ext_ack(true)?;
        inner.set_cap_ack(true)?;
        sockopt::set_socket_timeout(&inner, sockopt::Timeout::Recv, Some(SILENCE))?;
        Ok(Socket { inner, sequence: 0, datagram: Vec::new(), commits: 0 })
    }

    /// Sends the batch and waits for its end. Each message is carried out on its own: those after a refused one too.
    ///
    /// # Errors
    /// The first refusal, with the label of the message and the kernel's words.
    pub fn run(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        let last = batch.len().saturating_sub(1);
        self.exchange(batch, last, |_| false)
    }

    /// Sends a batch of which message `acked` is acknowledged, and reads until that acknowledgement, or until a refusal
    /// for which `fatal` tells, by the position of its message, that nothing will follow.
    pub(super) fn exchange(
        &mut self,
        mut batch: Batch,
        acked: usize,
        fatal: impl Fn(usize) -> bool,
    ) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let step = batch.label(0);
        let sequences = self.reserve(batch.len());
        self.send(batch.sealed(sequences.start, acked), step)?;
        let mut refusal: Option<NetlinkError> = None;
        loop {
            if let Err(source) = self.receive() {
                // Refusals can come faster than they are read; the first one tells the story.
                return Err(refusal.unwrap_or(NetlinkError::Exchange { step, source }));
            }
            for answer in Messages::of(&self.datagram).filter(|answer| answer.kind == ERROR) {
                let Some(position) = place(&sequences, answer.sequence) else { continue };
                if let Err(error) = verdict(&answer, batch.label(position)) {
                    let ends = fatal(position);
                    refusal.get_or_insert(error);
                    if !ends && position != acked {
                        continue;
                    }
                } else if position != acked {
                    continue;
                }
                return refusal.map_or(Ok(()), Err);
            }
        }
    }

    /// Asks for one object: a request whose answer is the object itself. `None` when `parse` does not know the answer.
    pub fn ask<T>(
        &mut self,
        step: &'static str,
        kind: u16,
        body: impl FnOnce(&mut Message<'_>),
        parse: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let mut batch = Batch::new();
        batch.push(step, kind, 0, body);
        let sequences = self.reserve(1);
        // Without the acknowledgement the object, or the refusal, is all that comes.
        self.send(batch.sealed(sequences.start, usize::MAX), step)?;
        loop {
            self.receive().map_err(|source| NetlinkError::Exchange { step, source })?;
            match Messages::of(&self.datagram).find(|answer| answer.sequence == sequences.start) {
                None => {}
                Some(answer) if answer.kind == ERROR => return verdict(&answer, step).map(|()| None),
                Some(answer) => return Ok(parse(&answer)),
            }
        }
    }

    /// Lists objects: every message of the answer goes through `parse`, which skips what it does not want by `None`.
    pub fn dump<T>(
        &mut self,
        step: &'static str,
        kind: u16,
        body: impl Fn(&mut Message<'_>),
        parse: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            if let Some(list) = self.dump_once(step, kind, &body, &parse)? {
                return Ok(list);
            }
        }
        Err(NetlinkError::Restless { step })
    }

    /// Lists once; `None` when the list changed meanwhile.
    fn dump_once<T>(
        &mut self,
        step: &'static str,
        kind: u16,
        body: &impl Fn(&mut Message<'_>),
        parse: &impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        let mut batch = Batch::new();
        batch.push(step, kind, DUMP, body);
        let sequences = self.reserve(1);
        self.send(batch.sealed(sequences.start, usize::MAX), step)?;
        let (mut list, mut whole) = (Vec::new(), true);
        loop {
            self.receive().map_err(|source| NetlinkError::Exchange { step, source })?;
            for answer in Messages::of(&self.datagram).filter(|answer| answer.sequence == sequences.start) {
                whole &= answer.flags & DUMP_INTERRUPTED == 0;
                match answer.kind {
                    DONE | ERROR => {
                        verdict(&answer, step)?;
                        return Ok(whole.then_some(list));
                    }
                    _ => list.extend(parse(&answer)),
                }
            }
        }
    }

    fn reserve(&mut self, messages: usize) -> Range<u32> {
        let count = u32::try_from(messages).expect("a batch has fewer messages than bytes");
        // Zero is left out: it is what the kernel puts on messages that answer nobody.
        if self.sequence.checked_add(count + 1).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first..first + count
    }

    fn send(&self, bytes: &[u8], step: &'static str) -> Result<(), NetlinkError> {
        let sent = || -> io::Result<()> {
            if bytes.len() > USUAL_REQUEST {
                // The kernel counts its own bookkeeping too, so twice the size; without the privilege the request is
                // tried all the same.
                let _ = sockopt::set_socket_send_buffer_size_force(&self.inner, bytes.len() * 2);
            }
            retry(|| self.inner.send_to(bytes, &SocketAddr::new(0, 0), 0)).map(|_| ())
        };
        sent().map_err(|source| NetlinkError::Exchange { step, source })
    }

    /// Reads one datagram of the kernel; those of other processes are dropped.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.datagram.clear();
            self.datagram.reserve(DATAGRAM);
            let (inner, datagram) = (&self.inner, &mut self.datagram);
            let (_, sender) = retry(|| inner.recv_from(datagram, 0))?;
            if sender.port_number() == 0 {
                return Ok(());
            }
        }
    }
}

fn place(sequences: &Range<u32>, sequence: u32) -> Option<usize> {
    sequences.contains(&sequence).then(|| (sequence - sequences.start) as usize)
}

/// Reads the error number and the words of an acknowledgement, a refusal or the end of a dump.
fn verdict(answer: &Answer<'_>, step: &'static str) -> Result<(), NetlinkError> {
    let code = u32_at(answer.body, 0).map_or(0, u32::cast_signed);
    if code >= 0 {
        return Ok(());
    }
    // The end of a dump has only the number before its attributes, a refusal also the header of the request.
    let fixed = if answer.kind == DONE { 4 } else { 4 + HEADER };
    let words = if answer.flags & ACK_TLVS != 0 { answer.body } else { &[] };
    let detail = Attributes::after(fixed, words).text(ERROR_TEXT).filter(|text| !text.is_empty()).map(str::to_owned);
    Err(NetlinkError::Refused { step, detail, source: io::Error::from_raw_os_error(code.saturating_neg()) })
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(kind: u16, flags: u16, body: &[u8]) -> Answer<'_> {
        Answer { kind, flags, sequence: 1, port: 0, body }
    }

    #[test]
    fn a_refusal_names_the_step_and_the_kernels_words() {
        let mut body = (-17i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; HEADER]);
        body.extend_from_slice(&[13, 0, 1, 0]);
        body.extend_from_slice(b"in use!\0\0\0\0\0");
        let error = verdict(&answer(ERROR, ACK_TLVS, &body), "adding an address").unwrap_err();
        assert_eq!(error.errno(), Some(rustix::io::Errno::EXIST));
        assert_eq!(error.to_string(), "adding an address (in use!)");
        let plain = verdict(&answer(ERROR, 0, &body), "adding an address").unwrap_err();
        assert_eq!(plain.to_string(), "adding an address");
    }

    #[test]
    fn the_kernel_lists_the_loopback_device() {
        let mut socket = Socket::route().unwrap();
        let links = socket.dump(
            "listing links",
            18,
            |message| _ = message.header(&[0; 16]),
            |answer| Attributes::after(16, answer.body).text(3).map(str::to_owned),
        );
        assert!(links.unwrap().contains(&"lo".to_owned()));
    }

    proptest! {
        #[test]
        fn any_answer_has_a_verdict(kind in 0u16..20, flags: u16, body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = verdict(&answer(kind, flags, &body), "x").map_err(|error| error.to_string());
        }
    }
}
