//! What the host's own rules say of a packet, found by following them.
//!
//! A packet to a published port is translated and forwarded, so it never comes to the host's input chains. Here they are followed
//! for a packet that is known only in part: a new connection, from anywhere but the host itself, to an address of the host,
//! with a certain protocol and port. What is left then says that every such packet is accepted, that none is, or which: see
//! [`residue`](super::residue). Forward chains are followed in the same way for what comes from a bridge of ours and goes there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use berth_ports::Transport;

use super::packet::{Packet, Way};
use super::residue::{Chain, Follower};
use crate::netlink::nf_tables::listing::{self, ListedElement, ListedSet, Rule, Step};
use crate::netlink::nf_tables::{self, Family, ListedChain};
use crate::netlink::{NetlinkError, Socket};

/// The numbers of the input and the forward hook in lists.
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
/// Tables of legacy iptables that are in use, for IPv4 and IPv6: their rules are not told by nf_tables. Of the thread's own network namespace.
const LEGACY: [&str; 2] = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];
/// Reading is begun anew when somebody changes the rules meanwhile, so often.
const READING_TRIES: usize = 10;

/// Whether the host accepts connections to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every one.
    Open,
    /// None; where they are dropped.
    Closed(String),
    /// That depends on more than can be asked in the host's stead; on what.
    Depends(String),
    /// Some: rules that ask who comes, and by which interface, are asked for each connection.
    Limited(Limited),
}

/// The rules that remain of the host's for a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// A packet must be accepted by each of these.
    pub(crate) stages: Vec<Stage>,
    /// Where the first condition stands.
    place: String,
}

impl std::fmt::Display for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place)
    }
}

/// What remains of a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Its family and its table: where its sets are.
    pub family: Family,
    pub table: String,
    pub chain: Arc<Chain>,
    /// Whether its policy accepts what comes out at its end.
    pub accepts: bool,
}

/// Which way packets go through a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From containers to elsewhere.
    Out,
    /// From elsewhere to containers.
    In,
}

type Key = (Family, String, String);

/// The host's rules, read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostPolicy {
    chains: Vec<ListedChain>,
    rules: BTreeMap<Key, Vec<Rule>>,
    sets: BTreeMap<Key, (Option<ListedSet>, Vec<ListedElement>)>,
    legacy: [bool; 2],
}

impl HostPolicy {
    /// Reads every rule that a packet to this host, or through it, may meet, and the number of the ruleset that they are of. Tables of
    /// this name are ours and left out.
    ///
    /// # Errors
    /// The kernel's lists cannot be read, or never stay the same for long enough.
    pub fn read(socket: &mut Socket, own: &str) -> Result<(u32, HostPolicy), NetlinkError> {
        for _ in 0..READING_TRIES {
            let generation = nf_tables::generation(socket)?;
            // What is listed in part may name what is gone by then.
            let policy = HostPolicy::read_once(socket, own);
            if nf_tables::generation(socket)? == generation {
                return Ok((generation, policy?));
            }
        }
        Err(NetlinkError::Restless { step: "listing firewall rules" })
    }

    fn read_once(socket: &mut Socket, own: &str) -> Result<HostPolicy, NetlinkError> {
        let mut chains = nf_tables::chains(socket)?;
        chains.retain(|chain| chain.table != own);
        let mut policy = HostPolicy { chains, legacy: legacy_tables(), ..HostPolicy::default() };
        let hooked = policy.base_chains(INPUT).chain(policy.base_chains(FORWARD));
        let tables: BTreeSet<_> = hooked.map(|chain| (chain.family, chain.table.clone())).collect();
        if tables.is_empty() {
            return Ok(policy);
        }
        let all = listing::all_rules(socket)?.into_iter();
        for rule in all.filter(|rule| tables.contains(&(rule.family, rule.table.clone()))) {
            for step in &rule.steps {
                if let Step::Lookup(_, set, _) = step {
                    let key = (rule.family, rule.table.clone(), set.clone());
                    if let std::collections::btree_map::Entry::Vacant(entry) = policy.sets.entry(key) {
                        let listed = listing::set(socket, rule.family, &rule.table, set)?;
                        entry.insert((listed, listing::elements(socket, rule.family, &rule.table, set)?));
                    }
                }
            }
            let key = (rule.family, rule.table.clone(), rule.chain.clone());
            policy.rules.entry(key).or_default().push(rule);
        }
        Ok(policy)
    }

    /// Whether legacy iptables is in use, whose rules cannot be followed.
    pub fn has_legacy(&self) -> bool {
        self.legacy.contains(&true)
    }

    /// Whether what was read of legacy iptables is as it is now; nobody tells of its changes.
    pub fn knows_legacy(&self) -> bool {
        self.legacy == legacy_tables()
    }

    fn base_chains(&self, hook: u32) -> impl Iterator<Item = &ListedChain> {
        self.chains.iter().filter(move |chain| chain.base.is_some_and(|(own, _)| own == hook))
    }

    /// The rules of a chain.
    pub(super) fn rules_of(&self, family: Family, table: &str, chain: &str) -> &[Rule] {
        let key = (family, table.to_owned(), chain.to_owned());
        self.rules.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// A set that a rule asks.
    pub(super) fn set_of(&self, rule: &Rule, set: &str) -> Option<&ListedSet> {
        self.set(rule.family, &rule.table, set).map(|(set, _)| set)
    }

    /// Its elements.
    pub(super) fn elements_of(&self, rule: &Rule, set: &str) -> &[ListedElement] {
        let key = (rule.family, rule.table.clone(), set.to_owned());
        self.sets.get(&key).map(|(_, elements)| elements.as_slice()).unwrap_or_default()
    }

    /// A set of a table, with its elements.
    pub(super) fn set(&self, family: Family, table: &str, set: &str) -> Option<(&ListedSet, &[ListedElement])> {
        let (listed, elements) = self.sets.get(&(family, table.to_owned(), set.to_owned()))?;
        Some((listed.as_ref()?, elements))
    }

    /// What becomes of new connections to a port.
    pub fn verdict(&self, ipv6: bool, transport: Transport, port: u16) -> Verdict {
        self.verdict_on(ipv6, transport, port, None)
    }

    /// What becomes of new connections to a port from this address, or from any.
    pub fn verdict_on(&self, ipv6: bool, transport: Transport, port: u16, source: Option<IpAddr>) -> Verdict {
        if self.legacy[usize::from(ipv6)] {
            let words = "legacy iptables has rules, which cannot be followed: use iptables-nft, or --firewall=docker";
            return Verdict::Depends(words.to_owned());
        }
        let packet = Packet { ipv6, transport: Some(transport), port: Some(port), source, way: Way::Input };
        self.follow(INPUT, packet)
    }

    /// The first forward chain, of those that are not ours, that drops every new connection from a bridge or every one that is led to it; and
    /// which. `inside` is an address of the bridge's subnet.
    pub fn barrier(&self, bridge: [u8; 16], inside: IpAddr) -> Option<(&ListedChain, Direction)> {
        let ipv6 = inside.is_ipv6();
        let family = if ipv6 { Family::Ip6 } else { Family::Ip };
        let ways = [(Way::From(bridge), Some(inside), Direction::Out), (Way::To(bridge), None, Direction::In)];
        let packets =
            ways.map(|(way, source, direction)| (Packet { ipv6, way, source, ..Packet::default() }, direction));
        let own = self.base_chains(FORWARD).filter(|chain| chain.family == Family::Inet || chain.family == family);
        { own }.find_map(|base| {
            let dropped = packets.iter().find(|(packet, _)| {
                let mut follower = Follower::new(self, base, *packet);
                let chain = follower.follow();
                let accepts = chain.accepts || (!chain.ends && base.drops_by_policy() == Some(false));
                !accepts && follower.doubt.is_none()
            });
            dropped.map(|(_, direction)| (base, *direction))
        })
    }

    fn follow(&self, hook: u32, packet: Packet) -> Verdict {
        let family = if packet.ipv6 { Family::Ip6 } else { Family::Ip };
        let (mut depends, mut stages, mut first) = (None, Vec::new(), None);
        for base in self.base_chains(hook).filter(|chain| chain.family == Family::Inet || chain.family == family) {
            let mut follower = Follower::new(self, base, packet);
            let chain = follower.follow();
            let accepted_at_its_end = base.drops_by_policy() == Some(false);
            let accepts = chain.accepts || (!chain.ends && accepted_at_its_end);
            let drops = chain.drops || (!chain.ends && !accepted_at_its_end);
            let place = format!("chain {} of table {} {}", base.name, base.family.word(), base.table);
            match (accepts, drops, follower.doubt) {
                (false, _, None) => return Verdict::Closed(place),
                (false, _, Some(doubt)) => _ = depends.get_or_insert(format!("{place} ({doubt})")),
                (true, false, _) => {}
                (true, true, _) => {
                    let condition = follower.condition.map(|condition| format!(" ({condition})")).unwrap_or_default();
                    first.get_or_insert(format!("{place}{condition}"));
                    let (family, table) = (base.family, base.table.clone());
                    stages.push(Stage { family, table, chain, accepts: accepted_at_its_end });
                }
            }
        }
        match (depends, first) {
            (Some(depends), _) => Verdict::Depends(depends),
            (None, Some(place)) => Verdict::Limited(Limited { stages, place }),
            (None, None) => Verdict::Open,
        }
    }
}

fn legacy_tables() -> [bool; 2] {
    LEGACY.map(|file| std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == "filter")))
}
