//! Ports that the host opens to some only: what remains of its input rules, in our table.
//!
//! A map leads from the port to a chain, before translation. What the host would accept goes on to be translated; everybody else's packet stays
//! one for this host and meets the host's own rules, which drop it in their own way. A port that is open at its container's own address has
//! the same chain once more, where packets are forwarded: what the host would accept passes, everybody else's is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_ports::Transport;

use super::host_policy::{HostPolicy, Limited, Stage, Verdict};
use super::residue::{Chain, Then};
use super::{Closed, FIRST, NFPROTO_IPV4, NFPROTO_IPV6, TYPE_LOCAL, published};
use crate::netlink::nf_tables::Verdict as NfVerdict;
use crate::netlink::nf_tables::copying::Ending;
use crate::netlink::nf_tables::listing::Step;
use crate::netlink::nf_tables::{
    Expression, Family, IPV4_ADDRESS, IPV6_ADDRESS, Meta, PORT, Payload, Register, Set, TRANSPORT, Transaction,
};
use crate::ports::{PublishedPort, Way};

/// From protocol and port to the chain that decides.
const LIMITED4: Set = Set { name: "limited4", key: &[TRANSPORT, PORT] };
const LIMITED6: Set = Set { name: "limited6", key: &[TRANSPORT, PORT] };
/// The same with the container's own address.
const EXPOSED4: Set = Set { name: "exposed4some", key: &[TRANSPORT, IPV4_ADDRESS, PORT] };
const EXPOSED6: Set = Set { name: "exposed6some", key: &[TRANSPORT, IPV6_ADDRESS, PORT] };
/// Where forwarded packets go that the host would accept, and those that it would not.
const PASSED: &str = "host_passed";
const REFUSED: &str = "host_refused";
const COMMENT: &str = "the host's own input rules, as far as they ask who comes";

/// A port as a key of sets and maps.
pub(super) fn key(transport: Transport, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![transport.number(), 0, 0, 0, high, low, 0, 0]
}

/// Adds the maps, and chains for the ports that are limited; packets that are accepted before translation go on in the chain `onward`. The sets
/// and maps of the transaction with numbers from `first_id` on are ours.
pub(super) fn add(
    transaction: &mut Transaction,
    table: &str,
    (closed, host): (&[Closed], &HostPolicy),
    (ports, onward): (&[PublishedPort], &str),
    first_id: u32,
) {
    for (chain, verdict) in [(PASSED, NfVerdict::Accept), (REFUSED, NfVerdict::Drop)] {
        transaction.add_chain(Family::Inet, table, chain, None);
        let rule = [Expression::Counter, Expression::Verdict(verdict)];
        transaction.add_rule(Family::Inet, table, chain, COMMENT, &rule);
    }
    let mut writer = Writer { transaction, table, host, sets: BTreeMap::new(), next_id: first_id + 4 };
    let mut translated = Chains { prefix: "host", onward, refused: None, written: Vec::new() };
    let mut routed = Chains { prefix: "routed", onward: PASSED, refused: Some(REFUSED), written: Vec::new() };
    let maps = [(&LIMITED4, &EXPOSED4, false, first_id), (&LIMITED6, &EXPOSED6, true, first_id + 2)];
    for (map, exposed, ipv6, id) in maps {
        let (mut destinations, mut exposures) = (Vec::new(), Vec::new());
        for port in closed.iter().filter(|port| port.ipv6 == ipv6) {
            let Verdict::Limited(limited) = &port.verdict else { continue };
            destinations.push((key(port.transport, port.port), writer.chain(limited, &mut translated)));
            for range in ports.iter().filter(|range| range.way == Way::Routed && port.is_of(range)) {
                let key = published::key(range, port.port).bytes().to_vec();
                exposures.push((key, writer.chain(limited, &mut routed)));
            }
        }
        for (map, destinations, id) in [(map, destinations, id), (exposed, exposures, id + 1)] {
            writer.transaction.add_verdict_map(Family::Inet, table, map, id);
            writer.transaction.add_destinations(Family::Inet, table, map.name, &destinations);
        }
    }
}

/// Goes where the map says if a packet is for a port that is open to some at a container's own address.
pub(super) fn exposed_to_some(ipv6: bool) -> Vec<Expression> {
    let (map, address, behind) =
        if ipv6 { (&EXPOSED6, Payload::Ipv6Destination, 5) } else { (&EXPOSED4, Payload::Ipv4Destination, 2) };
    vec![
        Expression::Meta(Meta::Transport, FIRST),
        Expression::Payload(address, Register::new(1)),
        Expression::Payload(Payload::DestinationPort, Register::new(behind)),
        Expression::VerdictOf(FIRST, map.name),
    ]
}

/// Chains of one kind, and for which of the host's rules they are.
struct Chains<'a> {
    prefix: &'static str,
    /// Where packets go on that the host would accept.
    onward: &'a str,
    /// Where the others do; if nowhere, nothing more happens to them here.
    refused: Option<&'a str>,
    written: Vec<(Limited, String)>,
}

/// Adds the rules that ask the maps for packets to this host.
pub(super) fn add_questions(transaction: &mut Transaction, table: &str, chain: &str) {
    for (map, protocol) in [(&LIMITED4, NFPROTO_IPV4), (&LIMITED6, NFPROTO_IPV6)] {
        let rule = [
            Expression::Meta(Meta::Protocol, FIRST),
            Expression::Equal(FIRST, vec![protocol]),
            Expression::DestinationType(FIRST),
            Expression::Equal(FIRST, TYPE_LOCAL.to_ne_bytes().to_vec()),
            Expression::Meta(Meta::Transport, FIRST),
            Expression::Payload(Payload::DestinationPort, Register::new(1)),
            Expression::VerdictOf(FIRST, map.name),
        ];
        transaction.add_rule(Family::Inet, table, chain, "open to some", &rule);
    }
}

struct Writer<'a, 'b> {
    transaction: &'a mut Transaction,
    table: &'b str,
    host: &'b HostPolicy,
    /// The copies of the host's sets, by family, table and name.
    sets: BTreeMap<(Family, String, String), String>,
    next_id: u32,
}

impl Writer<'_, '_> {
    /// The chain for the host's rules of a port, which many ports may have in common.
    fn chain(&mut self, limited: &Limited, chains: &mut Chains<'_>) -> String {
        if let Some((_, chain)) = chains.written.iter().find(|(other, _)| other == limited) {
            return chain.clone();
        }
        let chain = format!("{}{}", chains.prefix, chains.written.len());
        self.add(limited, &chain, chains);
        chains.written.push((limited.clone(), chain.clone()));
        chain
    }

    /// Writes the stages one behind the other.
    fn add(&mut self, limited: &Limited, first: &str, Chains { onward, refused, .. }: &Chains<'_>) {
        let refusal = refused.map_or(Ending::Accept, Ending::Goto);
        let entry = |number: usize| if number == 0 { first.to_owned() } else { format!("{first}_then{number}") };
        for number in 0..limited.stages.len() {
            self.transaction.add_chain(Family::Inet, self.table, &entry(number), None);
        }
        for (number, stage) in limited.stages.iter().enumerate() {
            let next = if number + 1 < limited.stages.len() { entry(number + 1) } else { (*onward).to_owned() };
            let mut chains = Vec::new();
            let prefix = format!("{}_", entry(number));
            self.make_chains(stage, &stage.chain, &prefix, &mut chains);
            self.fill(stage, &chains, &next, refusal);
            // What returns from the chain that the kernel calls meets its policy.
            self.end(&entry(number), &[], Ending::Jump(&chains[chains.len() - 1].1));
            let policy = if stage.accepts { Ending::Goto(&next) } else { refusal };
            self.end(&entry(number), &[], policy);
        }
    }

    /// Makes the chains, those that are called before those that call, and copies of the sets that they ask.
    fn make_chains(&mut self, stage: &Stage, chain: &Arc<Chain>, prefix: &str, made: &mut Vec<(Arc<Chain>, String)>) {
        if made.iter().any(|(other, _)| Arc::ptr_eq(other, chain)) {
            return;
        }
        for rule in &chain.rules {
            for step in &rule.when {
                if let Step::Lookup(_, set, _) = step {
                    self.copy_set(stage, set);
                }
            }
            if let Then::Jump(called) | Then::Goto(called) = &rule.then {
                self.make_chains(stage, called, prefix, made);
            }
        }
        let name = format!("{prefix}{}", made.len());
        self.transaction.add_chain(Family::Inet, self.table, &name, None);
        made.push((Arc::clone(chain), name));
    }

    fn copy_set(&mut self, stage: &Stage, set: &str) {
        let key = (stage.family, stage.table.clone(), set.to_owned());
        if self.sets.contains_key(&key) {
            return;
        }
        let name = format!("copy{}", self.sets.len());
        if let Some(original) = self.host.set(stage.family, &stage.table, set) {
            self.transaction.add_copy(Family::Inet, self.table, &name, original, self.next_id);
            self.next_id += 1;
            self.sets.insert(key, name);
        }
    }

    fn fill(&mut self, stage: &Stage, chains: &[(Arc<Chain>, String)], next: &str, refusal: Ending<'_>) {
        let named = |chain: &Arc<Chain>| {
            let found = chains.iter().find(|(other, _)| Arc::ptr_eq(other, chain));
            found.map_or(String::new(), |(_, name)| name.clone())
        };
        let sets = self.sets.clone();
        let set_name = |set: &str| {
            let key = (stage.family, stage.table.clone(), set.to_owned());
            sets.get(&key).cloned().unwrap_or_default()
        };
        for (chain, name) in chains {
            for rule in &chain.rules {
                let called =
                    if let Then::Jump(chain) | Then::Goto(chain) = &rule.then { named(chain) } else { String::new() };
                let ending = match &rule.then {
                    Then::Accept => Ending::Goto(next),
                    Then::Drop => refusal,
                    Then::Return => Ending::Return,
                    Then::Jump(_) => Ending::Jump(&called),
                    Then::Goto(_) => Ending::Goto(&called),
                };
                let place = (Family::Inet, self.table, name.as_str());
                self.transaction.add_copied_rule(place, &rule.when, &set_name, ending, COMMENT);
            }
        }
    }

    fn end(&mut self, chain: &str, when: &[Step], ending: Ending<'_>) {
        let place = (Family::Inet, self.table, chain);
        self.transaction.add_copied_rule(place, when, &|_| String::new(), ending, COMMENT);
    }
}

/// Whether a port is neither open nor limited.
pub(super) fn is_shut(closed: &Closed) -> bool {
    !matches!(closed.verdict, Verdict::Limited(_))
}
