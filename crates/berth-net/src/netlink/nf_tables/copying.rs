//! Rules and sets of others written once more, in a table of ours: what [`listing`](super::listing) reads goes back as it came.

use super::listing::{ListedElement, ListedSet, Lookup, Step};
use super::{
    APPEND, CREATE, ELEMENT_ROOM, Family, NEW_ELEMENTS, NEW_RULE, NEW_SET, Register, Set, Transaction, comment_data,
    joined_bytes, joined_number,
};
use crate::netlink::message::Message;

/// `NFT_SET_ANONYMOUS`, `NFT_SET_CONSTANT`: of sets that belong to one rule.
const OF_ONE_RULE: u32 = 1 | 2;
/// `NFT_SET_MAP`, `NFT_SET_CONCAT`, and the type of a verdict.
const MAP: u32 = 0x8;
const CONCATENATED: u32 = 0x80;
const VERDICT: u32 = 0xffff_ff00;

/// How a copied rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// The packet has passed this base chain.
    Accept,
    /// What called this chain goes on.
    Return,
    /// Another chain, then the next rule.
    Jump(&'a str),
    /// Another chain, then what called this one.
    Goto(&'a str),
}

impl Transaction {
    /// Makes a map from keys to chains. `id` tells the sets and maps of one transaction apart.
    pub fn add_verdict_map(&mut self, family: Family, table: &str, map: &Set, id: u32) {
        self.push("making a firewall map", NEW_SET, CREATE, family, |message| {
            message.text(1, table).text(2, map.name).number_be(3, MAP | CONCATENATED);
            message.number_be(4, joined_number(map.key)).number_be(5, joined_bytes(map.key)).number_be(6, VERDICT);
            message.nest(9, |description| {
                description.nest(2, |fields| {
                    for field in map.key {
                        fields.nest(1, |length| _ = length.number_be(1, field.bytes));
                    }
                });
            });
            message.number_be(10, id);
        });
    }

    /// Adds keys to such a map, each with the chain that comes next for it.
    pub fn add_destinations(&mut self, family: Family, table: &str, map: &str, keys: &[(Vec<u8>, String)]) {
        self.in_pieces((family, table, map), keys, |list, (key, chain)| {
            list.nest(1, |item| {
                item.nest(1, |data| _ = data.attribute(1, key));
                item.nest(2, |data| write_ending(data, Ending::Goto(chain)));
            });
        });
    }

    /// Makes a set like another one, with the same elements.
    pub fn add_copy(
        &mut self,
        family: Family,
        table: &str,
        name: &str,
        (set, elements): (&ListedSet, &[ListedElement]),
        id: u32,
    ) {
        self.push("copying a firewall set", NEW_SET, CREATE, family, |message| {
            message.text(1, table).text(2, name).number_be(3, set.flags & !OF_ONE_RULE);
            message.number_be(4, set.key_type).number_be(5, set.key_length);
            if let Some(description) = &set.description {
                message.attribute(9 | 1 << 15, description);
            }
            message.number_be(10, id);
            if let Some(data) = &set.user_data {
                message.attribute(13, data);
            }
        });
        self.in_pieces((family, table, name), elements, |list, element| {
            list.nest(1, |item| {
                if !element.catch_all {
                    item.nest(1, |data| _ = data.attribute(1, &element.key));
                }
                if let Some(last) = &element.last {
                    item.nest(10, |data| _ = data.attribute(1, last));
                }
                let flags = u32::from(element.ends) | u32::from(element.catch_all) << 1;
                if flags != 0 {
                    item.number_be(3, flags);
                }
            });
        });
    }

    fn in_pieces<T>(
        &mut self,
        (family, table, set): (Family, &str, &str),
        elements: &[T],
        write: impl Fn(&mut Message<'_>, &T),
    ) {
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            self.push("adding firewall elements", NEW_ELEMENTS, CREATE, family, |message| {
                message.text(1, table).text(2, set);
                message.nest(3, |list| {
                    let start = list.position();
                    while list.room_left(start) > ELEMENT_ROOM {
                        let Some(element) = rest.next() else { break };
                        write(list, element);
                    }
                });
            });
        }
    }

    /// Adds a rule of these conditions at the end of a chain. `named` says how their sets are called here.
    pub fn add_copied_rule(
        &mut self,
        (family, table, chain): (Family, &str, &str),
        conditions: &[Step],
        named: &dyn Fn(&str) -> String,
        ending: Ending<'_>,
        comment: &str,
    ) {
        self.push("copying a firewall rule", NEW_RULE, CREATE | APPEND, family, |message| {
            message.text(1, table).text(2, chain);
            message.nest(4, |list| {
                for step in conditions {
                    write_step(list, step, named);
                }
                list.nest(1, |item| {
                    // Register 0 is the verdict.
                    item.text(1, "immediate").nest(2, |data| {
                        data.number_be(1, 0).nest(2, |value| write_ending(value, ending));
                    });
                });
            });
            message.attribute(7, &comment_data(comment));
        });
    }
}

fn write_ending(data: &mut Message<'_>, ending: Ending<'_>) {
    let (code, chain) = match ending {
        Ending::Accept => (1i32, None),
        Ending::Jump(chain) => (-3, Some(chain)),
        Ending::Goto(chain) => (-4, Some(chain)),
        Ending::Return => (-5, None),
    };
    data.nest(2, |verdict| {
        verdict.number_be(1, code.cast_unsigned());
        if let Some(chain) = chain {
            verdict.text(2, chain);
        }
    });
}

/// Writes a step that loads or compares; others are no conditions.
fn write_step(list: &mut Message<'_>, step: &Step, named: &dyn Fn(&str) -> String) {
    let name = match step {
        Step::Meta(..) => "meta",
        Step::Payload(..) => "payload",
        Step::Ct(..) => "ct",
        Step::Fib(..) => "fib",
        Step::Bits(..) => "bitwise",
        Step::Compare(..) => "cmp",
        Step::Range(..) => "range",
        Step::Lookup(..) => "lookup",
        Step::Verdict(_) | Step::Match(..) | Step::Target(_) | Step::Nothing | Step::Unknown(_) => return,
    };
    list.nest(1, |item| {
        item.text(1, name);
        item.nest(2, |data| write_body(data, step, named));
    });
}

fn write_body(data: &mut Message<'_>, step: &Step, named: &dyn Fn(&str) -> String) {
    let register = |at: &usize| u8::try_from(*at).map_or(u32::MAX, |at| u32::from(at) + Register::new(0).number());
    match step {
        Step::Meta(key, to) | Step::Ct(key, to) => _ = data.number_be(1, register(to)).number_be(2, *key),
        Step::Payload(header, offset, length, to) => {
            data.number_be(1, register(to)).number_be(2, *header).number_be(3, *offset).number_be(4, *length);
        }
        Step::Fib(flags, result, to) => {
            data.number_be(1, register(to)).number_be(2, *result).number_be(3, *flags);
        }
        Step::Bits(from, to, mask, turn) => {
            data.number_be(1, register(from)).number_be(2, register(to));
            data.number_be(3, u32::try_from(mask.len()).unwrap_or(0));
            data.nest(4, |value| _ = value.attribute(1, mask)).nest(5, |value| _ = value.attribute(1, turn));
        }
        Step::Compare(at, operator, value) => {
            data.number_be(1, register(at)).number_be(2, *operator).nest(3, |right| _ = right.attribute(1, value));
        }
        Step::Range(at, outside, first, last) => {
            data.number_be(1, register(at)).number_be(2, u32::from(*outside));
            data.nest(3, |value| _ = value.attribute(1, first)).nest(4, |value| _ = value.attribute(1, last));
        }
        Step::Lookup(at, set, lookup) => {
            data.text(1, &named(set)).number_be(2, register(at));
            if *lookup == Lookup::Outside {
                data.number_be(5, 1);
            }
        }
        Step::Verdict(_) | Step::Match(..) | Step::Target(_) | Step::Nothing | Step::Unknown(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing;
    use super::*;
    use crate::netlink::message::{Answer, Messages};
    use proptest::prelude::*;

    fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 1..=longest)
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = || 0usize..16;
        prop_oneof![
            (any::<u32>(), at()).prop_map(|(key, to)| Step::Meta(key, to)),
            (any::<u32>(), any::<u32>(), any::<u32>(), at()).prop_map(|(a, b, c, to)| Step::Payload(a, b, c, to)),
            (any::<u32>(), at()).prop_map(|(key, to)| Step::Ct(key, to)),
            (any::<u32>(), any::<u32>(), at()).prop_map(|(a, b, to)| Step::Fib(a, b, to)),
            (at(), at(), bytes(16)).prop_map(|(from, to, mask)| Step::Bits(from, to, mask.clone(), mask)),
            (at(), any::<u32>(), bytes(16)).prop_map(|(at, operator, value)| Step::Compare(at, operator, value)),
            (at(), any::<bool>(), bytes(16)).prop_map(|(at, out, key)| Step::Range(at, out, key.clone(), key)),
            (at(), any::<bool>()).prop_map(|(at, out)| {
                Step::Lookup(at, "clients".to_owned(), if out { Lookup::Outside } else { Lookup::Inside })
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(steps in proptest::collection::vec(step(), 0..8)) {
            let mut transaction = Transaction::new();
            let place = (Family::Inet, "t", "c");
            transaction.add_copied_rule(place, &steps, &|name| name.to_owned(), Ending::Goto("next"), "copy");
            let bytes = transaction.batch.sealed(1, 0).to_vec();
            let message: Answer<'_> = Messages::of(&bytes).nth(1).unwrap();
            let read = listing::steps(&message);
            let (last, read) = read.split_last().unwrap();
            prop_assert_eq!(last, &Step::Verdict(listing::Ruling::Goto("next".to_owned())));
            prop_assert_eq!(read, steps);
        }
    }
}
