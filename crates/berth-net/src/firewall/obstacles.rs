//! What stands in the way of our packets: chains of others in the forward hook.
//!
//! An accept in our table does not overrule a drop in somebody else's. [`admit`] finds forward chains that drop by policy and asks for passage in the
//! place that is made for it; [`barriers`] finds those whose rules drop all that comes from a bridge of ours, or goes there.

use std::net::IpAddr;

use super::host_policy::{Direction, HostPolicy};
use super::{Bridge, FIRST, device_name};
use crate::netlink::nf_tables::{self, Expression, Family, Hook, ListedChain, Meta, Policy, Transaction, Verdict};
use crate::netlink::{NetlinkError, Socket};

/// The mark of our rules in other people's chains.
const COMMENT: &str = "berth: containers";
/// The number of the forward hook in lists.
const FORWARD: u32 = Hook::Forward as u32;
/// A chain of somebody else's that drops forwarded packets unless a rule of its own lets them pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The family of the table, in nft's words.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The chain in which passage was asked for; `None` if there is no place for it.
    pub admitted_in: Option<String>,
    /// Whose packets its rules drop, and which way they go; `None` if its policy drops everybody's.
    pub barrier: Option<(String, Direction)>,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Obstacle { family, table, chain, .. } = self;
        if let Some((bridge, direction)) = &self.barrier {
            return self.write_barrier(f, bridge, *direction);
        }
        write!(f, "chain {chain} of table {family} {table} drops forwarded packets by policy")?;
        match &self.admitted_in {
            Some(place) => write!(f, "; rules that let containers pass were added to {place}"),
            None => {
                write!(f, ": containers reach nothing outside unless it accepts what comes from and goes to ")?;
                write!(f, "their bridges (nft insert rule {family} {table} {chain} iifname BRIDGE accept, and oifname)")
            }
        }
    }
}

impl Obstacle {
    fn write_barrier(&self, f: &mut std::fmt::Formatter<'_>, bridge: &str, direction: Direction) -> std::fmt::Result {
        let Obstacle { family, table, chain, .. } = self;
        let (what, word) = match direction {
            Direction::Out => ("comes from", "iifname"),
            Direction::In => ("goes to", "oifname"),
        };
        write!(f, "chain {chain} of table {family} {table} drops whatever {what} {bridge}: let it pass ")?;
        if table == "firewalld" {
            // It would write its own rules over one of ours.
            write!(f, "(firewall-cmd --permanent --zone=trusted --add-interface={bridge}, then firewall-cmd --reload)")
        } else {
            write!(f, "(nft insert rule {family} {table} {chain} {word} {bridge} accept)")
        }
    }
}

/// Finds chains whose rules drop all that comes from a bridge, or goes there. Those that drop by policy are known already.
pub(crate) fn barriers(policy: &HostPolicy, bridges: &[Bridge], known: &[Obstacle]) -> Vec<Obstacle> {
    let mut found: Vec<Obstacle> = Vec::new();
    for bridge in bridges.iter().filter(|bridge| !bridge.internal) {
        let name: [u8; 16] = device_name(&bridge.name).try_into().expect("a name is filled up to 16 bytes");
        // Behind the gateway, as most containers are.
        let ipv4 = bridge.subnet.and_then(|subnet| subnet.hosts().nth(1)).map(IpAddr::V4);
        let ipv6 = bridge.subnet_v6.and_then(|subnet| subnet.hosts().nth(1)).map(IpAddr::V6);
        for inside in ipv4.into_iter().chain(ipv6) {
            let Some((chain, direction)) = policy.barrier(name, inside) else { continue };
            let same = |other: &Obstacle| {
                (other.family, &other.table, &other.chain) == (chain.family.word(), &chain.table, &chain.name)
            };
            if !known.iter().chain(&found).any(same) {
                found.push(Obstacle {
                    family: chain.family.word(),
                    table: chain.table.clone(),
                    chain: chain.name.clone(),
                    admitted_in: None,
                    barrier: Some((bridge.name.clone(), direction)),
                });
            }
        }
    }
    found
}

/// Finds what would drop our packets after our own table let them pass, and asks for passage where Docker does: in
/// `DOCKER-USER`, else in `FORWARD`, of the tables that iptables(8) keeps. Other tables are only reported.
pub(crate) fn admit(
    socket: &mut Socket,
    own: &str,
    bridges: &[Bridge],
    ipv6: bool,
) -> Result<Vec<Obstacle>, NetlinkError> {
    let chains = nf_tables::chains(socket)?;
    let blocking = |chain: &&ListedChain| {
        chain.base == Some((FORWARD, Policy::Drop)) && chain.table != own && (ipv6 || chain.family != Family::Ip6)
    };
    let mut obstacles = Vec::new();
    for chain in chains.iter().filter(blocking) {
        let admitted_in = passage(&chains, chain);
        if let Some(place) = admitted_in {
            ask_passage(socket, chain.family, &chain.table, place, bridges)?;
        }
        obstacles.push(Obstacle {
            family: chain.family.word(),
            table: chain.table.clone(),
            chain: chain.name.clone(),
            admitted_in: admitted_in.map(str::to_owned),
            barrier: None,
        });
    }
    Ok(obstacles)
}

/// The chain of iptables' filter table that is made for rules of others.
fn passage(chains: &[ListedChain], obstacle: &ListedChain) -> Option<&'static str> {
    let iptables = obstacle.family != Family::Inet && obstacle.table == "filter" && obstacle.name == "FORWARD";
    let for_users = |chain: &ListedChain| {
        chain.family == obstacle.family && chain.table == obstacle.table && chain.name == "DOCKER-USER"
    };
    iptables.then(|| if chains.iter().any(for_users) { "DOCKER-USER" } else { "FORWARD" })
}

/// Puts our rules, and no older ones of ours, at the front of a chain. Only matches that iptables(8) can list are used.
fn ask_passage(
    socket: &mut Socket,
    family: Family,
    table: &str,
    chain: &'static str,
    bridges: &[Bridge],
) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    for old in nf_tables::rules(socket, family, table, chain)? {
        if old.comment.as_deref() == Some(COMMENT) {
            transaction.delete_rule(family, table, chain, old.handle);
        }
    }
    for name in bridges.iter().flat_map(Bridge::names) {
        for direction in [Meta::InputName, Meta::OutputName] {
            let rule = [
                Expression::Meta(direction, FIRST),
                Expression::Equal(FIRST, device_name(name)),
                Expression::Counter,
                Expression::Verdict(Verdict::Accept),
            ];
            transaction.insert_rule(family, table, chain, COMMENT, &rule);
        }
    }
    transaction.commit(socket)
}
