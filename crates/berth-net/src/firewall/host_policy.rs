//! What the host's own input rules say of a port, found by following them.
//!
//! A packet to a published port is translated and forwarded, so it never comes to the host's input chains. Here they are followed
//! for a packet that is known only in part: a new connection, from anywhere but the host itself, to an address of the host,
//! with a certain protocol and port. A condition on anything else may hold or not; then both ways are followed. So the
//! answer is one of three: every such packet is accepted, every one is dropped, or it depends.

use std::collections::{BTreeMap, BTreeSet};

use berth_ports::Transport;

use super::packet::{Answer, Packet};
use crate::netlink::nf_tables::listing::{self, ListedElement, Lookup, Rule, Ruling, Step};
use crate::netlink::nf_tables::{self, Family, ListedChain, Policy};
use crate::netlink::{NetlinkError, Socket};

/// The number of the input hook in lists.
const INPUT: u32 = 1;
/// Deeper jumps than the kernel allows there are none.
const DEEPEST: usize = 16;
/// Tables of legacy iptables that are in use: their rules are not told by nf_tables.
const LEGACY: [(&str, bool); 2] = [("/proc/net/ip_tables_names", false), ("/proc/net/ip6_tables_names", true)];

/// Whether the host accepts connections to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every one.
    Open,
    /// None; where they are dropped.
    Closed(String),
    /// That depends on more than the port; on what.
    Depends(String),
}

/// The host's input rules, read once.
#[derive(Debug, Default)]
pub(crate) struct HostPolicy {
    chains: Vec<ListedChain>,
    rules: BTreeMap<(Family, String, String), Vec<Rule>>,
    sets: BTreeMap<(Family, String, String), Vec<ListedElement>>,
    legacy: [bool; 2],
}

/// How following a chain can end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends {
    accept: bool,
    drop: bool,
    /// It comes to the chain's end, or returns.
    through: bool,
}

impl HostPolicy {
    /// Reads every rule that a packet to this host may meet. Tables of this name are ours and left out.
    pub fn read(socket: &mut Socket, own: &str) -> Result<HostPolicy, NetlinkError> {
        let mut chains = nf_tables::chains(socket)?;
        chains.retain(|chain| chain.table != own);
        let mut policy = HostPolicy { chains, ..HostPolicy::default() };
        if policy.input_chains().next().is_some() {
            let tables: BTreeSet<_> = policy.input_chains().map(|chain| (chain.family, chain.table.clone())).collect();
            let all = listing::all_rules(socket)?.into_iter();
            for rule in all.filter(|rule| tables.contains(&(rule.family, rule.table.clone()))) {
                for step in &rule.steps {
                    if let Step::Lookup(_, set, _) = step {
                        let key = (rule.family, rule.table.clone(), set.clone());
                        if let std::collections::btree_map::Entry::Vacant(entry) = policy.sets.entry(key) {
                            entry.insert(listing::elements(socket, rule.family, &rule.table, set)?);
                        }
                    }
                }
                let key = (rule.family, rule.table.clone(), rule.chain.clone());
                policy.rules.entry(key).or_default().push(rule);
            }
        }
        for (legacy, (file, _)) in policy.legacy.iter_mut().zip(LEGACY) {
            *legacy = std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == "filter"));
        }
        Ok(policy)
    }

    /// Whether legacy iptables is in use, whose rules cannot be followed.
    pub fn has_legacy(&self) -> bool {
        self.legacy.contains(&true)
    }

    fn input_chains(&self) -> impl Iterator<Item = &ListedChain> {
        self.chains.iter().filter(|chain| chain.base.is_some_and(|(hook, _)| hook == INPUT))
    }

    /// What becomes of new connections to a port.
    pub fn verdict(&self, ipv6: bool, transport: Transport, port: u16) -> Verdict {
        if self.legacy[usize::from(ipv6)] {
            let words = "legacy iptables has rules, which cannot be followed: use iptables-nft, or --firewall=docker";
            return Verdict::Depends(words.to_owned());
        }
        let family = if ipv6 { Family::Ip6 } else { Family::Ip };
        let packet = Packet { ipv6, transport, port };
        let mut depends = None;
        for chain in self.input_chains().filter(|chain| chain.family == Family::Inet || chain.family == family) {
            let mut walk = Walk { policy: self, chain, packet, known: BTreeMap::new(), reason: None };
            let mut ends = walk.follow(&chain.name, 0);
            if ends.through {
                match chain.base {
                    Some((_, Policy::Drop)) => ends.drop = true,
                    _ => ends.accept = true,
                }
            }
            let place = format!("chain {} of table {} {}", chain.name, chain.family.word(), chain.table);
            match (ends.accept, ends.drop) {
                (false, _) => return Verdict::Closed(place),
                (true, false) => {}
                (true, true) => {
                    let reason = walk.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                    depends.get_or_insert(format!("{place}{reason}"));
                }
            }
        }
        depends.map_or(Verdict::Open, Verdict::Depends)
    }
}

/// One packet on its way through one base chain and what that calls.
struct Walk<'a> {
    policy: &'a HostPolicy,
    chain: &'a ListedChain,
    packet: Packet,
    /// Chains that were followed already: the packet is the same each time.
    known: BTreeMap<&'a str, Ends>,
    /// The first condition of which nobody can say whether it holds.
    reason: Option<String>,
}

impl<'a> Walk<'a> {
    fn follow(&mut self, name: &str, depth: usize) -> Ends {
        let key = (self.chain.family, self.chain.table.clone(), name.to_owned());
        let Some(((_, _, name), rules)) = self.policy.rules.get_key_value(&key) else {
            return Ends { through: true, ..Ends::default() };
        };
        if let Some(ends) = self.known.get(name.as_str()) {
            return *ends;
        }
        if depth > DEEPEST {
            return Ends { accept: true, drop: true, through: true };
        }
        let mut ends = Ends::default();
        let mut goes_on = true;
        for rule in rules {
            let (certain, ruling) = self.rule(rule, depth);
            ends.accept |= ruling.accept;
            ends.drop |= ruling.drop;
            ends.through |= ruling.through;
            if certain {
                goes_on = false;
                break;
            }
        }
        ends.through |= goes_on;
        self.known.insert(name, ends);
        ends
    }

    /// What one rule does, and whether no packet of ours comes to the next.
    fn rule(&mut self, rule: &'a Rule, depth: usize) -> (bool, Ends) {
        let mut registers = self.packet.registers();
        let mut certain = true;
        for step in &rule.steps {
            let answer = match step {
                Step::Verdict(ruling) => return self.apply(ruling, certain, depth),
                Step::Lookup(register, set, lookup) => {
                    let key = (rule.family, rule.table.clone(), set.clone());
                    let elements = self.policy.sets.get(&key).map(Vec::as_slice).unwrap_or_default();
                    match lookup {
                        Lookup::Verdict => match registers.find(*register, elements) {
                            Ok(None) => Answer::No,
                            Ok(Some(element)) => match &element.ruling {
                                Some(ruling) => return self.apply(ruling, certain, depth),
                                None => Answer::Maybe,
                            },
                            Err(()) => {
                                self.doubt(rule, "a verdict map");
                                return self.any_of(elements, depth);
                            }
                        },
                        Lookup::Value(to) => {
                            registers.forget(*to);
                            Answer::Maybe
                        }
                        Lookup::Inside | Lookup::Outside => {
                            let found = registers.find(*register, elements).map(|element| element.is_some());
                            let inside = *lookup == Lookup::Inside;
                            found.map_or(Answer::Maybe, |found| Answer::of(found == inside))
                        }
                    }
                }
                Step::Target(name) => match name.as_str() {
                    "LOG" | "NFLOG" | "MARK" | "CONNMARK" => Answer::Yes,
                    "REJECT" => return self.apply(&Ruling::Drop, certain, depth),
                    _ => return self.apply(&Ruling::Queue, certain, depth),
                },
                other => registers.step(other),
            };
            match answer {
                Answer::Yes => {}
                Answer::No => return (false, Ends::default()),
                Answer::Maybe => {
                    certain = false;
                    self.doubt(rule, &name_of(step));
                }
            }
        }
        (false, Ends::default())
    }

    fn apply(&mut self, ruling: &Ruling, certain: bool, depth: usize) -> (bool, Ends) {
        let one = |accept, drop, through| Ends { accept, drop, through };
        match ruling {
            Ruling::Accept => (certain, one(true, false, false)),
            Ruling::Drop => (certain, one(false, true, false)),
            Ruling::Return => (certain, one(false, false, true)),
            Ruling::Continue => (false, Ends::default()),
            Ruling::Queue => (certain, one(true, true, false)),
            Ruling::Goto(chain) => (certain, self.follow(chain, depth + 1)),
            Ruling::Jump(chain) => {
                let ends = self.follow(chain, depth + 1);
                // What comes back meets the next rule.
                (certain && !ends.through, Ends { through: false, ..ends })
            }
        }
    }

    /// Any of the verdicts of a map, or none.
    fn any_of(&mut self, elements: &'a [ListedElement], depth: usize) -> (bool, Ends) {
        let mut all = Ends::default();
        for ruling in elements.iter().filter_map(|element| element.ruling.as_ref()) {
            let (_, ends) = self.apply(ruling, false, depth);
            all = Ends {
                accept: all.accept | ends.accept,
                drop: all.drop | ends.drop,
                through: all.through | ends.through,
            };
        }
        (false, all)
    }

    fn doubt(&mut self, rule: &Rule, what: &str) {
        self.reason.get_or_insert_with(|| format!("rule {} of chain {} asks for {what}", rule.handle, rule.chain));
    }
}

fn name_of(step: &Step) -> String {
    match step {
        Step::Match(name, _) | Step::Unknown(name) => name.clone(),
        Step::Lookup(_, set, _) => format!("what is in {set}"),
        _ => "more than the port".to_owned(),
    }
}
