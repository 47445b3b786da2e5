//! A packet of which only a little is known (its way, protocol and port), as the steps of a rule see it.

use std::net::IpAddr;

use berth_ports::Transport;

use super::{NFPROTO_IPV4, NFPROTO_IPV6, TYPE_LOCAL};
use crate::netlink::nf_tables::listing::{ListedElement, Step};

/// Numbers of `meta`: see `linux/netfilter/nf_tables.h`.
const META_IIF: u32 = 4;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_PKTTYPE: u32 = 19;
/// `ct state`, and what a new connection has there.
const CT_STATE: u32 = 0;
const NEW: u32 = 8;
/// `ct status`, and what it is of connections that are led elsewhere: `IPS_DST_NAT`, and that it is decided.
const CT_STATUS: u32 = 2;
const LED_ELSEWHERE: u32 = 1 << 5;
const DECIDED: u32 = 1 << 8;
/// The same among the states of iptables' match.
const STATE_LED_ELSEWHERE: u32 = 1 << 7;
/// What an address of somebody else's is to routing.
const TYPE_UNICAST: u32 = 1;
/// The header of the transport protocol, and where its destination port is.
const TRANSPORT_HEADER: u32 = 2;
const NETWORK_HEADER: u32 = 1;

/// The first packet of a new connection, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packet {
    pub ipv6: bool,
    pub transport: Option<Transport>,
    pub port: Option<u16>,
    pub source: Option<IpAddr>,
    pub way: Way,
}

/// Where a packet comes from and where it goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Way {
    /// From elsewhere to this host.
    #[default]
    Input,
    /// From the device of this name to elsewhere.
    From([u8; 16]),
    /// From elsewhere to the device of this name; it was led there.
    To([u8; 16]),
}

impl Way {
    fn is_input(self) -> bool {
        matches!(self, Way::Input)
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Maybe,
}

impl Answer {
    pub fn of(holds: bool) -> Answer {
        if holds { Answer::Yes } else { Answer::No }
    }
}

/// What the registers hold while a rule is followed: each byte known or not.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    packet: Packet,
    bytes: [Option<u8>; 64],
    /// Where the name or number of a device is that is not loopback.
    device: Option<usize>,
}

impl Packet {
    pub fn registers(self) -> Registers {
        Registers { packet: self, bytes: [None; 64], device: None }
    }

    /// Whether an iptables match holds. Settings are read as the kernel's headers lay them out.
    fn matches(self, name: &str, info: &[u8]) -> Answer {
        let number = |at: usize| Some(u16::from_ne_bytes(*info.get(at..)?.first_chunk()?));
        let settle = |holds: Option<bool>| holds.map_or(Answer::Maybe, Answer::of);
        let (Some(transport), Some(port)) = (self.transport, self.port) else {
            return self.matches_without_port(name, &number);
        };
        match name {
            // Source ports, destination ports; only the latter are known.
            "tcp" | "udp" if name == transport.word() => settle((|| {
                let inverted = *info.get(if name == "tcp" { 11 } else { 8 })?;
                let any_source = (number(0)?, number(2)?) == (0, u16::MAX);
                let flags = name == "tcp" && (*info.get(9)? != 0 || *info.get(8)? != 0);
                let inside = (number(4)?..=number(6)?).contains(&port);
                (any_source && inverted & !2 == 0 && !flags).then_some(inside != (inverted & 2 != 0))
            })()),
            "tcp" | "udp" => Answer::No,
            "multiport" => settle((|| {
                let (flags, count) = (*info.first()?, usize::from(*info.get(1)?));
                let inverted = *info.get(47)? != 0;
                let mut inside = false;
                let mut at = 0;
                while at < count.min(15) {
                    let first = number(2 + at * 2)?;
                    let ranged = *info.get(32 + at)? != 0;
                    let last = if ranged { number(4 + at * 2)? } else { first };
                    inside |= (first..=last).contains(&port);
                    at += if ranged { 2 } else { 1 };
                }
                // 1 is for destination ports.
                (flags == 1).then_some(inside != inverted)
            })()),
            _ => self.matches_without_port(name, &number),
        }
    }

    fn matches_without_port(self, name: &str, number: &dyn Fn(usize) -> Option<u16>) -> Answer {
        let settle = |holds: Option<bool>| holds.map_or(Answer::Maybe, Answer::of);
        match name {
            "comment" => Answer::Yes,
            // Behind eight addresses, two times and five numbers.
            "conntrack" => settle((|| {
                let (asked, inverted, states) = (number(146)?, number(148)?, number(150)?);
                let own = if matches!(self.way, Way::To(_)) { NEW | STATE_LED_ELSEWHERE } else { NEW };
                (asked == 1).then_some((u32::from(states) & own != 0) != (inverted & 1 != 0))
            })()),
            "addrtype" => settle((|| {
                let (source, destination, flags) = (number(0)?, number(2)?, number(4)?);
                let own = 1 << self.destination_type();
                (source == 0 && flags & !2 == 0).then_some((destination & own != 0) != (flags & 2 != 0))
            })()),
            _ => Answer::Maybe,
        }
    }

    /// What the destination's address is to this host.
    fn destination_type(self) -> u32 {
        if self.way.is_input() { TYPE_LOCAL } else { TYPE_UNICAST }
    }
}

impl Registers {
    /// Follows a step that ends no rule.
    pub fn step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Meta(key, to) => self.load_meta(*key, *to),
            Step::Payload(header, offset, length, to) => self.load_payload(*header, *offset, *length, *to),
            Step::Ct(CT_STATE, to) => self.write(*to, &NEW.to_ne_bytes()),
            Step::Ct(CT_STATUS, to) => {
                let led = if matches!(self.packet.way, Way::To(_)) { LED_ELSEWHERE } else { 0 };
                self.write(*to, &(led | DECIDED).to_ne_bytes());
            }
            Step::Ct(_, to) => self.forget(*to),
            // The kind of the destination's address.
            Step::Fib(2, 3, to) => self.write(*to, &self.packet.destination_type().to_ne_bytes()),
            Step::Fib(_, _, to) => self.forget(*to),
            Step::Bits(from, to, mask, turn) => self.bits(*from, *to, mask, turn),
            Step::Compare(at, operator, value) => return self.compare(*at, *operator, value),
            Step::Range(at, outside, first, last) => {
                let Some(known) = self.read(*at, first.len()) else { return Answer::Maybe };
                return Answer::of((*first <= known && known <= *last) != *outside);
            }
            Step::Match(name, info) => return self.packet.matches(name, info),
            Step::Nothing => {}
            _ => return Answer::Maybe,
        }
        Answer::Yes
    }

    /// Finds the element of a key; an error when the key is not known.
    pub fn find<'a>(&self, at: usize, elements: &'a [ListedElement]) -> Result<Option<&'a ListedElement>, ()> {
        let other = elements.iter().find(|element| element.catch_all);
        let Some(length) = elements.iter().map(|element| element.key.len()).max().filter(|length| *length > 0) else {
            return Ok(other);
        };
        if self.device == Some(at) && length >= 4 {
            // A set of devices in which only loopback is: ours is not.
            let only_loopback = elements.iter().filter(|element| !element.catch_all).all(|one| is_loopback(&one.key));
            return if only_loopback { Ok(other) } else { Err(()) };
        }
        let key = self.read(at, length).ok_or(())?;
        if elements.iter().any(|element| element.last.is_some()) {
            // Ranges of several fields are compared field by field, whose lengths are not known here.
            let exact = elements.iter().find(|one| one.key == key && one.last.as_ref().is_none_or(|last| *last == key));
            return exact.map(Some).ok_or(());
        }
        if elements.iter().any(|element| element.ends) {
            // A key is in a range if the nearest element at or before it begins one.
            let before = elements.iter().filter(|one| !one.catch_all && one.key <= key);
            let nearest = before.max_by(|one, other| (&one.key, !one.ends).cmp(&(&other.key, !other.ends)));
            return Ok(nearest.filter(|element| !element.ends).or(other));
        }
        Ok(elements.iter().find(|element| !element.catch_all && element.key == key).or(other))
    }

    /// What is loaded is not known.
    pub fn forget(&mut self, at: usize) {
        let start = (at * 4).min(64);
        let end = (start + 16).min(64);
        self.bytes[start..end].fill(None);
        if self.device == Some(at) {
            self.device = None;
        }
    }

    fn load_meta(&mut self, key: u32, to: usize) {
        self.forget(to);
        match (key, self.packet.way) {
            (META_IIFNAME, Way::From(name)) | (META_OIFNAME, Way::To(name)) => return self.write(to, &name),
            _ => {}
        }
        match key {
            META_IIF | META_IIFNAME => self.device = Some(to),
            META_NFPROTO => self.write(to, &[if self.packet.ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }]),
            META_L4PROTO => {
                if let Some(transport) = self.packet.transport {
                    self.write(to, &[transport.number()]);
                }
            }
            // To this host, and to no other.
            META_PKTTYPE => self.write(to, &[0]),
            _ => {}
        }
    }

    fn load_payload(&mut self, header: u32, offset: u32, length: u32, to: usize) {
        self.forget(to);
        let Packet { ipv6, transport, port, source, .. } = self.packet;
        match (header, offset, length, port, transport, source) {
            (TRANSPORT_HEADER, 2, 2, Some(port), ..) => self.write(to, &port.to_be_bytes()),
            // Both ports in one: the first is not known.
            (TRANSPORT_HEADER, 0, 4, Some(port), ..) if to < 16 => {
                let [high, low] = port.to_be_bytes();
                self.bytes[to * 4 + 2] = Some(high);
                self.bytes[to * 4 + 3] = Some(low);
            }
            (NETWORK_HEADER, 9, 1, _, Some(transport), _) if !ipv6 => self.write(to, &[transport.number()]),
            (NETWORK_HEADER, 12, 4, _, _, Some(IpAddr::V4(source))) if !ipv6 => self.write(to, &source.octets()),
            (NETWORK_HEADER, 8, 16, _, _, Some(IpAddr::V6(source))) if ipv6 => self.write(to, &source.octets()),
            _ => {}
        }
    }

    fn bits(&mut self, from: usize, to: usize, mask: &[u8], turn: &[u8]) {
        let source: Vec<_> = (0..mask.len()).map(|at| self.bytes.get(from * 4 + at).copied().flatten()).collect();
        self.forget(to);
        for (at, ((byte, mask), turn)) in source.into_iter().zip(mask).zip(turn).enumerate() {
            let kept = if *mask == 0 { Some(0) } else { byte.map(|byte| byte & mask) };
            if let Some(slot) = self.bytes.get_mut(to * 4 + at) {
                *slot = kept.map(|byte| byte ^ turn);
            }
        }
    }

    fn compare(&self, at: usize, operator: u32, value: &[u8]) -> Answer {
        if self.device == Some(at) {
            return match (is_loopback(value), operator) {
                (true, 0) => Answer::No,
                (true, 1) => Answer::Yes,
                _ => Answer::Maybe,
            };
        }
        let Some(known) = self.read(at, value.len()) else {
            // One byte that differs is enough to know that they are not equal.
            let known = self.bytes.iter().skip(at * 4).zip(value);
            let differs = { known }.any(|(own, other)| own.is_some_and(|own| own != *other));
            return match (differs, operator) {
                (true, 0) => Answer::No,
                (true, 1) => Answer::Yes,
                _ => Answer::Maybe,
            };
        };
        let order = known.as_slice().cmp(value);
        Answer::of(match operator {
            0 => order.is_eq(),
            1 => order.is_ne(),
            2 => order.is_lt(),
            3 => order.is_le(),
            4 => order.is_gt(),
            5 => order.is_ge(),
            _ => return Answer::Maybe,
        })
    }

    fn write(&mut self, at: usize, value: &[u8]) {
        self.forget(at);
        // Shorter values are filled up with zeros to a whole register.
        for (offset, slot) in self.bytes.iter_mut().skip(at * 4).take(value.len().next_multiple_of(4)).enumerate() {
            *slot = Some(value.get(offset).copied().unwrap_or(0));
        }
    }

    fn read(&self, at: usize, length: usize) -> Option<Vec<u8>> {
        self.bytes.get(at * 4..at * 4 + length)?.iter().copied().collect()
    }
}

/// Whether a device's name, or its number, is that of loopback.
fn is_loopback(value: &[u8]) -> bool {
    value == 1u32.to_ne_bytes() || value.starts_with(b"lo\0")
}
