//! The conditions of one rule, followed for a packet that is known only in part: what holds is dropped, what only the packet can tell is
//! kept with the loads that it needs, what cannot be asked elsewhere is doubted.

use super::packet::{Answer, Packet, Registers};
use crate::netlink::nf_tables::listing::{ListedElement, Ruling, Step};

/// The conditions of one rule, as far as they were followed.
#[derive(Clone)]
pub(super) struct Conditions {
    pub registers: Registers,
    kept: Vec<Step>,
    /// Registers whose contents cannot be had elsewhere.
    foreign: [bool; 20],
    /// What cannot be asked elsewhere, the first of it.
    pub doubt: Option<String>,
}

impl Conditions {
    pub fn of(packet: Packet) -> Conditions {
        Conditions { registers: packet.registers(), kept: Vec::new(), foreign: [false; 20], doubt: None }
    }

    /// Follows a step that is no verdict and no look-up. What is not known is kept, if it can be asked elsewhere.
    pub fn step(&mut self, step: &Step) -> Answer {
        let answer = self.registers.step(step);
        match step {
            Step::Compare(..) | Step::Range(..) if answer == Answer::Maybe => self.ask(step, true),
            Step::Meta(..) | Step::Payload(..) | Step::Ct(..) | Step::Fib(..) | Step::Bits(..) => {
                let (to, width) = written(step);
                let from = if let Step::Bits(from, ..) = step { self.is_foreign(*from, width) } else { false };
                let foreign = from || !is_the_same_elsewhere(step);
                self.foreign.iter_mut().skip(to).take(width).for_each(|slot| *slot = foreign);
                self.kept.push(step.clone());
                Answer::Yes
            }
            _ if answer == Answer::Maybe => {
                self.doubt.get_or_insert_with(|| name_of(step));
                Answer::Maybe
            }
            _ => answer,
        }
    }

    /// A condition that only the packet can tell.
    pub fn ask(&mut self, step: &Step, possible: bool) -> Answer {
        let (at, width) = read(step);
        if possible && !self.is_foreign(at, width) {
            self.kept.push(step.clone());
        } else {
            self.doubt.get_or_insert_with(|| name_of(step));
        }
        Answer::Maybe
    }

    pub fn load_foreign(&mut self, to: usize, set: &str) {
        self.registers.forget(to);
        self.foreign.iter_mut().skip(to).take(4).for_each(|slot| *slot = true);
        self.doubt.get_or_insert_with(|| format!("what {set} says"));
    }

    fn is_foreign(&self, at: usize, width: usize) -> bool {
        self.foreign.iter().skip(at).take(width).any(|foreign| *foreign)
    }

    /// The conditions that remain, with the loads that they need and no others.
    pub fn needed(self) -> Vec<Step> {
        let mut wanted = [false; 20];
        let mut needed = Vec::new();
        for step in self.kept.into_iter().rev() {
            let (at, width) = read(&step);
            match &step {
                Step::Compare(..) | Step::Range(..) | Step::Lookup(..) => {}
                _ => {
                    let (to, written) = written(&step);
                    if !wanted.iter().skip(to).take(written).any(|wanted| *wanted) {
                        continue;
                    }
                    wanted.iter_mut().skip(to).take(written).for_each(|slot| *slot = false);
                }
            }
            wanted.iter_mut().skip(at).take(width).for_each(|slot| *slot = true);
            needed.push(step);
        }
        needed.reverse();
        needed
    }
}

/// Whether a load gives the same just before translation as it does behind routing.
fn is_the_same_elsewhere(step: &Step) -> bool {
    match step {
        // The device it came by: number, name, type, group, kind. Its protocols, and how it was addressed.
        Step::Meta(key, _) => matches!(key, 4 | 6 | 8 | 15 | 16 | 19 | 21 | 26),
        // Headers of network and transport.
        Step::Payload(header, ..) => matches!(header, 1 | 2),
        Step::Ct(key, _) => *key == 0,
        // The kind of an address, be it the client's or its own.
        Step::Fib(flags, result, _) => matches!((flags, result), (1 | 2, 3)),
        _ => true,
    }
}

/// The registers that a step reads, in pieces of 4 bytes.
fn read(step: &Step) -> (usize, usize) {
    let words = |bytes: usize| bytes.div_ceil(4);
    match step {
        Step::Compare(at, _, value) => (*at, words(value.len())),
        Step::Range(at, _, first, _) => (*at, words(first.len())),
        // However long its keys are: they end before the last register.
        Step::Lookup(at, ..) => (*at, 20 - (*at).min(20)),
        Step::Bits(from, _, mask, _) => (*from, words(mask.len())),
        _ => (0, 0),
    }
}

/// The registers that a step writes.
fn written(step: &Step) -> (usize, usize) {
    match step {
        // Names of devices and of their kinds.
        Step::Meta(6 | 7 | 26 | 27, to) => (*to, 4),
        Step::Meta(_, to) | Step::Ct(_, to) | Step::Fib(_, _, to) => (*to, 1),
        Step::Payload(_, _, length, to) => (*to, length.div_ceil(4) as usize),
        Step::Bits(_, to, mask, _) => (*to, mask.len().div_ceil(4)),
        _ => (0, 0),
    }
}

/// The elements of a verdict map as comparisons of a register, where they can be made; the one that stands for all others comes last.
pub(super) fn cases(at: usize, elements: &[ListedElement]) -> Vec<(Option<Vec<Step>>, &Ruling)> {
    let mut sorted: Vec<_> = elements.iter().filter(|element| !element.catch_all).collect();
    sorted.sort_by(|one, other| (&one.key, !one.ends).cmp(&(&other.key, !other.ends)));
    let ranges = elements.iter().any(|element| element.ends);
    let mut cases = Vec::new();
    for (position, element) in sorted.iter().enumerate() {
        let Some(ruling) = &element.ruling else { continue };
        let comparisons = match (&element.last, ranges) {
            // Ranges of several fields.
            (Some(_), _) => None,
            (None, true) => Some(match sorted.get(position + 1) {
                Some(next) => vec![Step::Range(at, false, element.key.clone(), before(&next.key))],
                None => vec![Step::Compare(at, 5, element.key.clone())],
            }),
            // A comparison takes 16 bytes at most.
            (None, false) => {
                let piece = |(number, key): (usize, &[u8])| Step::Compare(at + number * 4, 0, key.to_vec());
                Some(element.key.chunks(16).enumerate().map(piece).collect())
            }
        };
        cases.push((comparisons, ruling));
    }
    // Whoever comes back from another element's chain would meet this one, too.
    let come_back = |ruling: &Ruling| matches!(ruling, Ruling::Jump(_) | Ruling::Continue);
    let others = (!cases.iter().any(|(_, ruling)| come_back(ruling))).then(Vec::new);
    let catch_all = elements.iter().filter(|element| element.catch_all);
    cases.extend(catch_all.filter_map(|element| Some((others.clone(), element.ruling.as_ref()?))));
    cases
}

/// The key just below this one.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    key
}

fn name_of(step: &Step) -> String {
    match step {
        Step::Match(name, _) | Step::Unknown(name) => name.clone(),
        Step::Lookup(_, set, _) => format!("what is in {set}"),
        _ => "more than the packet's headers".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_below_borrows_from_the_byte_before() {
        assert_eq!(before(&[10, 1, 0, 0]), [10, 0, 255, 255]);
        assert_eq!(before(&[10, 0, 0, 9]), [10, 0, 0, 8]);
    }

    #[test]
    fn only_loads_that_are_asked_for_remain() {
        let device = vec![b'e', b't', b'h', b'0', 0];
        let tcp = Packet { transport: Some(berth_ports::Transport::Tcp), ..Packet::default() };
        let mut conditions = Conditions::of(tcp);
        for step in [
            Step::Meta(16, 0),
            Step::Compare(0, 0, vec![6]),
            Step::Meta(6, 0),
            Step::Compare(0, 0, device.clone()),
            Step::Payload(1, 12, 4, 0),
            Step::Bits(0, 0, vec![255, 0, 0, 0], vec![0; 4]),
            Step::Compare(0, 0, vec![10, 0, 0, 0]),
            Step::Payload(2, 2, 2, 0),
        ] {
            assert_ne!(conditions.step(&step), Answer::No, "{step:?}");
        }
        assert_eq!(conditions.doubt, None);
        let needed = [
            Step::Meta(6, 0),
            Step::Compare(0, 0, device),
            Step::Payload(1, 12, 4, 0),
            Step::Bits(0, 0, vec![255, 0, 0, 0], vec![0; 4]),
            Step::Compare(0, 0, vec![10, 0, 0, 0]),
        ];
        assert_eq!(conditions.needed(), needed);
    }

    #[test]
    fn what_is_not_the_same_elsewhere_is_doubted() {
        let mut conditions = Conditions::of(Packet::default());
        conditions.step(&Step::Meta(3, 0));
        assert_eq!(conditions.step(&Step::Compare(0, 0, vec![1, 0, 0, 0])), Answer::Maybe);
        assert!(conditions.doubt.is_some());
    }
}
