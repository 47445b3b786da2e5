//! Rules and sets of anybody, read as far as they can be understood.
//!
//! What is not understood stays visible as [`Step::Unknown`]: whoever draws conclusions must know that something is there.

use super::{Attributes, FAMILY_HEADER, Family, GET_RULE, Message, NetlinkError, SUBSYSTEM, Socket};
use crate::netlink::message::Answer;

const GET_SET: u16 = SUBSYSTEM | 10;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
/// `NFT_SET_ELEM_INTERVAL_END`, `NFT_SET_ELEM_CATCHALL`.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its table's family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Its number in its table.
    pub handle: u64,
    /// What it does, step by step.
    pub steps: Vec<Step>,
}

/// A step of a rule. Registers are counted in pieces of 4 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Loads a property of the packet (`meta`), by the kernel's number.
    Meta(u32, usize),
    /// Loads bytes: the header's number, offset and length.
    Payload(u32, u32, u32, usize),
    /// Loads what connection tracking knows, by the kernel's number.
    Ct(u32, usize),
    /// Loads what routing says of an address: flags and result, by the kernel's numbers.
    Fib(u32, u32, usize),
    /// Keeps the bits of a mask and turns those of another.
    Bits(usize, usize, Vec<u8>, Vec<u8>),
    /// Goes on if the register compares with the bytes: eq, neq, lt, lte, gt, gte.
    Compare(usize, u32, Vec<u8>),
    /// Goes on if the register is in the range, or out of it.
    Range(usize, bool, Vec<u8>, Vec<u8>),
    /// Goes on if the register is in a set, or not; the verdict of a map's element ends the rule.
    Lookup(usize, String, Lookup),
    /// Ends the rule.
    Verdict(Ruling),
    /// A match of iptables(8): its name and its settings.
    Match(String, Vec<u8>),
    /// A target of iptables(8).
    Target(String),
    /// Changes nothing that matters to whether the packet passes.
    Nothing,
    /// Not understood; the kernel's name of it.
    Unknown(String),
}

/// What a look-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// To be in the set.
    Inside,
    /// Not to be in it.
    Outside,
    /// To do what the element says.
    Verdict,
    /// To load a value that is not looked at here.
    Value(usize),
}

/// How a rule ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// This base chain lets the packet pass.
    Accept,
    /// The packet is dropped.
    Drop,
    /// Another chain, then the next rule.
    Jump(String),
    /// Another chain, then what called this one.
    Goto(String),
    /// What called this chain.
    Return,
    /// The next rule.
    Continue,
    /// A program decides.
    Queue,
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedElement {
    /// The key, or the first of a range; empty for the element that stands for every other key.
    pub key: Vec<u8>,
    /// The last key of a range, in sets that keep both together.
    pub last: Option<Vec<u8>>,
    /// Whether a range ends before this key.
    pub ends: bool,
    /// Whether it stands for every key that is not there.
    pub catch_all: bool,
    /// What a verdict map says.
    pub ruling: Option<Ruling>,
}

/// A set of somebody's, as far as another like it can be made of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSet {
    /// The kernel's bits: ranges, elements that end by themselves, ...
    pub flags: u32,
    /// The type of its keys, which nft(8) shows.
    pub key_type: u32,
    /// The length of its keys, in bytes.
    pub key_length: u32,
    /// The fields of its keys, as the kernel writes them.
    pub description: Option<Vec<u8>>,
    /// What nft(8) keeps with it.
    pub user_data: Option<Vec<u8>>,
}

/// `NFT_SET_TIMEOUT`, `NFT_SET_EVAL`, `NFT_SET_OBJECT`, `NFT_SET_EXPR`.
const CHANGES: u32 = 0x10 | 0x20 | 0x40 | 0x100;

impl ListedSet {
    /// Whether another one says the same: elements do not come and go by themselves, which nobody is told of.
    pub fn can_be_copied(&self) -> bool {
        self.flags & CHANGES == 0
    }
}

/// A set.
pub fn set(socket: &mut Socket, family: Family, table: &str, set: &str) -> Result<Option<ListedSet>, NetlinkError> {
    let request = |message: &mut Message<'_>| {
        message.header(&[family.number(), 0, 0, 0]).text(1, table).text(2, set);
    };
    socket.ask("listing a firewall set", GET_SET, request, listed_set)
}

fn listed_set(answer: &Answer<'_>) -> Option<ListedSet> {
    let attributes = Attributes::after(FAMILY_HEADER, answer.body);
    Some(ListedSet {
        flags: attributes.number_be(3).unwrap_or(0),
        key_type: attributes.number_be(4)?,
        key_length: attributes.number_be(5)?,
        description: attributes.get(9).map(<[u8]>::to_vec),
        user_data: attributes.get(13).map(<[u8]>::to_vec),
    })
}

/// Every rule of the IPv4, IPv6 and common tables, in order.
pub fn all_rules(socket: &mut Socket) -> Result<Vec<Rule>, NetlinkError> {
    socket.dump("listing firewall rules", GET_RULE, |message| _ = message.header(&[0; FAMILY_HEADER]), rule)
}

/// The elements of a set.
pub fn elements(
    socket: &mut Socket,
    family: Family,
    table: &str,
    set: &str,
) -> Result<Vec<ListedElement>, NetlinkError> {
    let request = |message: &mut Message<'_>| {
        message.header(&[family.number(), 0, 0, 0]).text(1, table).text(2, set);
    };
    let lists = socket.dump("listing a firewall set", GET_ELEMENTS, request, |answer| {
        let list = Attributes::after(FAMILY_HEADER, answer.body).nested(3);
        Some(list.filter_map(|(_, value)| element(Attributes::after(0, value))).collect::<Vec<_>>())
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn element(attributes: Attributes<'_>) -> Option<ListedElement> {
    let flags = attributes.number_be(3).unwrap_or(0);
    let key = attributes.nested(1).get(1).map(<[u8]>::to_vec);
    Some(ListedElement {
        catch_all: flags & CATCH_ALL != 0,
        key: if flags & CATCH_ALL != 0 { Vec::new() } else { key? },
        last: attributes.nested(10).get(1).map(<[u8]>::to_vec),
        ends: flags & INTERVAL_END != 0,
        ruling: attributes.nested(2).get(2).and_then(|verdict| ruling(Attributes::after(0, verdict))),
    })
}

/// Reads what a rule does.
pub(super) fn steps(answer: &Answer<'_>) -> Vec<Step> {
    let attributes = Attributes::after(FAMILY_HEADER, answer.body);
    let steps = attributes.nested(4).map(|(_, item)| {
        let item = Attributes::after(0, item);
        let name = item.text(1).unwrap_or_default();
        step(name, item.nested(2)).unwrap_or_else(|| Step::Unknown(name.to_owned()))
    });
    steps.collect()
}

fn rule(answer: &Answer<'_>) -> Option<Rule> {
    let attributes = Attributes::after(FAMILY_HEADER, answer.body);
    Some(Rule {
        family: Family::of(*answer.body.first()?)?,
        table: attributes.text(1)?.to_owned(),
        chain: attributes.text(2)?.to_owned(),
        handle: attributes.long_be(3)?,
        steps: steps(answer),
    })
}

fn step(name: &str, data: Attributes<'_>) -> Option<Step> {
    let at = |kind: u16| register(data.number_be(kind)?);
    let bytes = |kind: u16| Some(data.nested(kind).get(1)?.to_vec());
    Some(match name {
        "counter" | "log" | "comment" | "last" => Step::Nothing,
        // Marks are set, and asked for by nobody here.
        "meta" if data.get(1).is_none() && data.get(3).is_some() => Step::Nothing,
        "ct" if data.get(1).is_none() && data.get(4).is_some() => Step::Nothing,
        "meta" => Step::Meta(data.number_be(2)?, at(1)?),
        "payload" => Step::Payload(data.number_be(2)?, data.number_be(3)?, data.number_be(4)?, at(1)?),
        "ct" => Step::Ct(data.number_be(2)?, at(1)?),
        "fib" => Step::Fib(data.number_be(3)?, data.number_be(2)?, at(1)?),
        // Other operations than mask and xor have a number.
        "bitwise" if data.number_be(6).unwrap_or(0) == 0 => Step::Bits(at(1)?, at(2)?, bytes(4)?, bytes(5)?),
        "cmp" => Step::Compare(at(1)?, data.number_be(2)?, bytes(3)?),
        "range" => Step::Range(at(1)?, data.number_be(2)? == 1, bytes(3)?, bytes(4)?),
        "lookup" => {
            let kind = match (data.number_be(3), data.number_be(5).unwrap_or(0) & 1) {
                (None, 0) => Lookup::Inside,
                (None, _) => Lookup::Outside,
                (Some(0), _) => Lookup::Verdict,
                (Some(to), _) => Lookup::Value(register(to)?),
            };
            Step::Lookup(at(2)?, data.text(1)?.to_owned(), kind)
        }
        "immediate" if data.number_be(1)? == 0 => Step::Verdict(ruling(data.nested(2).nested(2))?),
        "reject" => Step::Verdict(Ruling::Drop),
        "match" => Step::Match(data.text(1)?.to_owned(), data.get(3)?.to_vec()),
        "target" => Step::Target(data.text(1)?.to_owned()),
        _ => return None,
    })
}

fn ruling(verdict: Attributes<'_>) -> Option<Ruling> {
    let chain = || Some(verdict.text(2)?.to_owned());
    Some(match verdict.number_be(1)?.cast_signed() {
        0 => Ruling::Drop,
        1 => Ruling::Accept,
        -1 => Ruling::Continue,
        -3 => Ruling::Jump(chain()?),
        -4 => Ruling::Goto(chain()?),
        -5 => Ruling::Return,
        _ => Ruling::Queue,
    })
}

/// The first four bytes of a register: old numbers name 16 bytes each, newer ones 4.
fn register(number: u32) -> Option<usize> {
    match number {
        1..=4 => Some((number as usize - 1) * 4),
        8..=23 => Some(number as usize - 8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = rule(&Answer { kind: GET_RULE, flags: 0, sequence: 1, port: 0, body: &body });
            let _ = element(Attributes::after(0, &body));
            let _ = listed_set(&Answer { kind: GET_SET, flags: 0, sequence: 1, port: 0, body: &body });
            for name in ["meta", "payload", "bitwise", "cmp", "range", "lookup", "immediate", "match", "fib", "x"] {
                let _ = step(name, Attributes::after(0, &body));
            }
        }
    }
}
