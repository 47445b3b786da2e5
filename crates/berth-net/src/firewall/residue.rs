//! What remains of somebody's rules for a packet that is known only in part: a smaller program that asks for what only the packet can tell.
//!
//! Chains are followed for what is known (direction, protocol, port). Conditions that hold fall away, and so do rules of which one does not;
//! what remains asks for the client, its interface and the like, and can be asked in another place of the packet's way, see
//! [`super::limited`]. Conditions that cannot (rates, what programs decide) leave *doubt*: nothing is accepted because
//! of them, and what they might drop counts as dropped. So what remains never accepts more than the rules do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::conditions::{Conditions, cases};
use super::host_policy::HostPolicy;
use super::packet::{Answer, Packet};
use crate::netlink::nf_tables::ListedChain;
use crate::netlink::nf_tables::listing::{ListedSet, Lookup, Rule, Ruling, Step};

/// Deeper jumps than the kernel allows there are none.
const DEEPEST: usize = 16;
/// More rules than this are not taken along: whoever has so many for one port is told that it cannot be followed.
const MOST_RULES: usize = 1000;

/// What remains of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub rules: Vec<Rest>,
    /// Whether a packet may be accepted in it.
    pub accepts: bool,
    /// Whether one may be dropped.
    pub drops: bool,
    /// Whether none comes out at its end.
    pub ends: bool,
}

/// What remains of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Loads and comparisons.
    pub when: Vec<Step>,
    pub then: Then,
}

/// What a packet meets for which they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Accept,
    Drop,
    Return,
    /// Another chain, then the next rule.
    Jump(Arc<Chain>),
    /// Another chain, then what called this one.
    Goto(Arc<Chain>),
}

impl Chain {
    fn of(rules: Vec<Rest>, ends: bool) -> Chain {
        let any = |own: &Then, inside: fn(&Chain) -> bool| {
            rules.iter().any(|rule| match &rule.then {
                Then::Jump(chain) | Then::Goto(chain) => inside(chain),
                then => then == own,
            })
        };
        let (accepts, drops) = (any(&Then::Accept, |chain| chain.accepts), any(&Then::Drop, |chain| chain.drops));
        let returns = rules.iter().any(|rule| match &rule.then {
            Then::Return => true,
            Then::Goto(chain) => !chain.ends,
            _ => false,
        });
        Chain { rules, accepts, drops, ends: ends && !returns }
    }
}

/// Follows a base chain and what it calls.
pub(super) struct Follower<'a> {
    policy: &'a HostPolicy,
    base: &'a ListedChain,
    packet: Packet,
    /// Chains that were followed already, with and without doubt: the packet is the same each time.
    known: BTreeMap<(&'a str, Doubt), Arc<Chain>>,
    rules: usize,
    /// The first condition that could not be followed, and the first that remains.
    pub doubt: Option<String>,
    pub condition: Option<String>,
}

/// Whether packets come here of which it is not known that they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    None,
    Some,
}

impl Doubt {
    fn or(self, other: Doubt) -> Doubt {
        self.max(other)
    }
}

/// How a rule leaves those behind it.
struct Fate {
    /// No packet comes to them.
    ends: bool,
    /// Some may not come that seem to.
    doubt: Doubt,
}

const NOTHING: Fate = Fate { ends: false, doubt: Doubt::None };

impl<'a> Follower<'a> {
    pub fn new(policy: &'a HostPolicy, base: &'a ListedChain, packet: Packet) -> Follower<'a> {
        Follower { policy, base, packet, known: BTreeMap::new(), rules: 0, doubt: None, condition: None }
    }

    /// What remains of the base chain, without its policy.
    pub fn follow(&mut self) -> Arc<Chain> {
        let base = self.base;
        self.chain(&base.name, Doubt::None, 0)
    }

    fn chain(&mut self, name: &'a str, doubt: Doubt, depth: usize) -> Arc<Chain> {
        if let Some(chain) = self.known.get(&(name, doubt)) {
            return Arc::clone(chain);
        }
        let policy = self.policy;
        let rules = policy.rules_of(self.base.family, &self.base.table, name);
        let (mut rest, mut ends, mut later) = (Vec::new(), false, doubt);
        for rule in rules {
            if depth > DEEPEST || self.rules > MOST_RULES {
                self.doubt.get_or_insert_with(|| "more rules than can be followed".to_owned());
                rest = vec![Rest { when: Vec::new(), then: Then::Drop }];
                ends = true;
                break;
            }
            let before = rest.len();
            let fate = self.rule(rule, later, depth, &mut rest);
            self.rules += rest.len() - before;
            later = later.or(fate.doubt);
            if fate.ends {
                ends = true;
                break;
            }
        }
        while rest.last().is_some_and(|rule| rule.then == Then::Return) {
            rest.pop();
            ends = false;
        }
        let chain = Arc::new(Chain::of(rest, ends));
        self.known.insert((name, doubt), Arc::clone(&chain));
        chain
    }

    fn rule(&mut self, rule: &'a Rule, doubt: Doubt, depth: usize, rest: &mut Vec<Rest>) -> Fate {
        let mut conditions = Conditions::of(self.packet);
        for step in &rule.steps {
            let answer = match step {
                Step::Verdict(ruling) => return self.conclude(rule, ruling, conditions, doubt, depth, rest),
                Step::Target(name) => match name.as_str() {
                    "LOG" | "NFLOG" | "MARK" | "CONNMARK" => Answer::Yes,
                    "REJECT" => return self.conclude(rule, &Ruling::Drop, conditions, doubt, depth, rest),
                    _ => return self.conclude(rule, &Ruling::Queue, conditions, doubt, depth, rest),
                },
                Step::Lookup(at, set, Lookup::Verdict) => {
                    return self.choose(rule, (*at, set), &conditions, doubt, depth, rest);
                }
                Step::Lookup(_, set, Lookup::Value(to)) => {
                    conditions.load_foreign(*to, set);
                    Answer::Yes
                }
                Step::Lookup(at, set, lookup) => {
                    let copied = self.policy.set_of(rule, set).is_some_and(ListedSet::can_be_copied);
                    let elements = self.policy.elements_of(rule, set);
                    let found = conditions.registers.find(*at, elements).map(|element| element.is_some());
                    let inside = *lookup == Lookup::Inside;
                    found.map_or_else(|()| conditions.ask(step, copied), |found| Answer::of(found == inside))
                }
                other => conditions.step(other),
            };
            if answer == Answer::No {
                return NOTHING;
            }
        }
        NOTHING
    }

    /// A verdict map: what its elements say, each on its own condition.
    fn choose(
        &mut self,
        rule: &'a Rule,
        (at, set): (usize, &'a str),
        conditions: &Conditions,
        doubt: Doubt,
        depth: usize,
        rest: &mut Vec<Rest>,
    ) -> Fate {
        let policy = self.policy;
        let elements = policy.elements_of(rule, set);
        match conditions.registers.find(at, elements) {
            Ok(None) => return NOTHING,
            Ok(Some(element)) => {
                let Some(ruling) = &element.ruling else { return NOTHING };
                return self.conclude(rule, ruling, conditions.clone(), doubt, depth, rest);
            }
            Err(()) => {}
        }
        let copied = policy.set_of(rule, set).is_some_and(ListedSet::can_be_copied);
        let mut fate = NOTHING;
        for (comparisons, ruling) in cases(at, elements) {
            let doubt = doubt.or(fate.doubt);
            let mut conditions = conditions.clone();
            match comparisons {
                Some(comparisons) if copied => {
                    if comparisons.iter().any(|step| conditions.step(step) == Answer::No) {
                        continue;
                    }
                }
                _ => conditions.doubt = Some(format!("what is in {set}")),
            }
            let one = self.conclude(rule, ruling, conditions, doubt, depth, rest);
            // Only one of the elements is met, so none ends the chain for everybody; but those with doubt leave it.
            fate.doubt = fate.doubt.or(one.doubt);
        }
        fate
    }

    /// What a rule does whose conditions were followed to its verdict.
    fn conclude(
        &mut self,
        rule: &Rule,
        ruling: &'a Ruling,
        conditions: Conditions,
        before: Doubt,
        depth: usize,
        rest: &mut Vec<Rest>,
    ) -> Fate {
        let place = || format!("rule {} of chain {}", rule.handle, rule.chain);
        let own = if conditions.doubt.is_some() { Doubt::Some } else { Doubt::None };
        let reason = conditions.doubt.as_ref().map(|what| format!("{} asks for {what}", place()));
        let when = conditions.needed();
        let always = when.is_empty();
        let doubt = before.or(own);
        let leaves = |ends, doubt| Fate { ends: ends && always, doubt };
        let mut matters = || {
            if let Some(reason) = reason.clone() {
                self.doubt.get_or_insert(reason);
            }
            if !always {
                self.condition.get_or_insert_with(place);
            }
        };
        match ruling {
            Ruling::Continue => NOTHING,
            Ruling::Accept if doubt == Doubt::Some => {
                matters();
                NOTHING
            }
            Ruling::Accept => {
                matters();
                rest.push(Rest { when, then: Then::Accept });
                leaves(true, Doubt::None)
            }
            Ruling::Queue | Ruling::Drop => {
                matters();
                if *ruling == Ruling::Queue {
                    self.doubt.get_or_insert_with(|| format!("{} leaves it to a program", place()));
                }
                rest.push(Rest { when, then: Then::Drop });
                leaves(true, Doubt::None)
            }
            // Whether it returns is not known: what is accepted behind it may not be.
            Ruling::Return if own == Doubt::Some => {
                matters();
                leaves(false, Doubt::Some)
            }
            Ruling::Return => {
                matters();
                rest.push(Rest { when, then: Then::Return });
                leaves(true, Doubt::None)
            }
            Ruling::Goto(name) if own == Doubt::None => {
                matters();
                let chain = self.chain(name, doubt, depth + 1);
                let then = if chain.rules.is_empty() { Then::Return } else { Then::Goto(chain) };
                rest.push(Rest { when, then });
                leaves(true, Doubt::None)
            }
            Ruling::Goto(name) | Ruling::Jump(name) => {
                let chain = self.chain(name, doubt, depth + 1);
                let gone = if matches!(ruling, Ruling::Goto(_)) { Doubt::Some } else { Doubt::None };
                if chain.rules.is_empty() {
                    return leaves(false, gone);
                }
                if let Some(reason) = reason {
                    self.doubt.get_or_insert(reason);
                }
                let ends = chain.ends;
                rest.push(Rest { when, then: Then::Jump(chain) });
                leaves(ends, gone)
            }
        }
    }
}
