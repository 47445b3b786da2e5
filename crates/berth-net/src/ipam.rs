//! Which address the next container gets.
//!
//! The rows of the store hold the addresses; an [`Allocator`] is the memory of them that finds a free one quickly. It
//! goes round: the next address is the first free one after the last that was given, so that an address rests as long
//! as possible before somebody else gets it. Addresses that wait for a container are passed over, but whoever asks for
//! one by number has it: a container that is made anew with the address of its predecessor must be able to start.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why an address cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is held, or stands for the network itself.
    Taken,
    /// It is in another subnet.
    Outside,
}

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub struct Allocator {
    subnet: IpNet,
    range: IpNet,
    /// Never given: network, broadcast, gateway, auxiliary addresses.
    set_aside: BTreeSet<u128>,
    held: BTreeSet<u128>,
    /// Given to those who ask for them by number only.
    reserved: BTreeSet<u128>,
    last: Option<u128>,
}

impl Allocator {
    /// A subnet of which addresses are given from `range`; those in `aside` never are.
    pub fn new(subnet: IpNet, range: Option<IpNet>, aside: impl IntoIterator<Item = IpAddr>) -> Allocator {
        let mut set_aside: BTreeSet<u128> = aside.into_iter().map(number).collect();
        // Of a point-to-point subnet of two addresses, or one of a single address, all are ordinary (RFC 3021, RFC 6164).
        if subnet.prefix_len() + 1 < subnet.max_prefix_len() {
            set_aside.insert(number(subnet.network()));
            if subnet.addr().is_ipv4() {
                set_aside.insert(number(subnet.broadcast()));
            }
        }
        let range = range.filter(|range| subnet.contains(range)).unwrap_or(subnet);
        Allocator { subnet, range, set_aside, held: BTreeSet::new(), reserved: BTreeSet::new(), last: None }
    }

    /// Gives the next free address of the range.
    pub fn take_next(&mut self) -> Option<IpAddr> {
        let (first, last) = self.bounds();
        let after = self.last.and_then(|last| last.checked_add(1)).filter(|next| (first..=last).contains(next));
        let start = after.unwrap_or(first);
        let found = self.first_free(start, last).or_else(|| self.first_free(first, start))?;
        self.held.insert(found);
        self.last = Some(found);
        Some(self.address(found))
    }

    /// Gives a certain address, which may lie outside the range.
    pub fn take(&mut self, address: IpAddr) -> Result<(), Refusal> {
        if !self.subnet.contains(&address) {
            return Err(Refusal::Outside);
        }
        let number = number(address);
        if self.set_aside.contains(&number) || !self.held.insert(number) { Err(Refusal::Taken) } else { Ok(()) }
    }

    /// Notes an address that a record holds, the newest record last.
    pub fn note(&mut self, address: IpAddr) {
        if self.subnet.contains(&address) {
            self.held.insert(number(address));
            self.last = Some(number(address));
        }
    }

    /// Takes an address back.
    pub fn give_back(&mut self, address: IpAddr) {
        self.held.remove(&number(address));
    }

    /// Has an address wait for whoever asks for it by number, or no longer.
    pub fn reserve(&mut self, address: IpAddr, whether: bool) {
        if whether && self.subnet.contains(&address) {
            self.reserved.insert(number(address));
        } else {
            self.reserved.remove(&number(address));
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// How many addresses are held or set aside, and how many of the range are free.
    pub fn usage(&self) -> (u64, u64) {
        let (first, last) = self.bounds();
        let within = |set: &BTreeSet<u128>| set.range(first..=last).count() as u128;
        let used = (self.held.len() + self.set_aside.len()) as u64;
        // The whole of IPv6 is the one subnet whose size does not fit.
        let size = (last - first).saturating_add(1);
        let free = size - within(&self.held) - within(&self.set_aside);
        (used, u64::try_from(free).unwrap_or(u64::MAX))
    }

    fn bounds(&self) -> (u128, u128) {
        (number(self.range.network()), number(self.range.broadcast()))
    }

    fn first_free(&self, from: u128, to: u128) -> Option<u128> {
        let mut candidate = from;
        // The sets are sorted: only the run of taken numbers that begins at `from` is looked at.
        let mut sets = [&self.held, &self.set_aside, &self.reserved].map(|set| set.range(from..=to).peekable());
        loop {
            let taken = sets.iter_mut().map(|set| set.next_if(|number| **number == candidate).is_some());
            if !taken.fold(false, |any, one| any | one) {
                return Some(candidate);
            }
            candidate = candidate.checked_add(1).filter(|next| *next <= to)?;
        }
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).expect("it lies in an IPv4 subnet"))),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::Ipv4Net;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn bridge() -> Allocator {
        Allocator::new("172.17.0.0/16".parse().unwrap(), None, ["172.17.0.1".parse().unwrap()])
    }

    #[test]
    fn addresses_go_round() {
        let mut allocator = bridge();
        let mut next = || allocator.take_next().unwrap().to_string();
        assert_eq!([next(), next(), next()], ["172.17.0.2", "172.17.0.3", "172.17.0.4"]);
        allocator.give_back("172.17.0.2".parse().unwrap());
        assert_eq!(allocator.take_next(), Some("172.17.0.5".parse().unwrap()));
        allocator.note("172.17.255.254".parse().unwrap());
        assert_eq!(allocator.take_next(), Some("172.17.0.2".parse().unwrap()));
        assert_eq!(allocator.take_next(), Some("172.17.0.6".parse().unwrap()));
    }

    #[test]
    fn usage_counts_what_is_set_aside() {
        assert_eq!(bridge().usage(), (3, 65533));
        let aside = ["10.77.0.1", "10.77.0.130"].map(|text| text.parse::<IpAddr>().unwrap());
        let range = Some("10.77.0.128/25".parse().unwrap());
        let mut ranged = Allocator::new("10.77.0.0/24".parse().unwrap(), range, aside);
        assert_eq!(ranged.usage(), (4, 126));
        assert_eq!(ranged.take_next(), Some("10.77.0.128".parse().unwrap()));
        assert_eq!(ranged.take_next(), Some("10.77.0.129".parse().unwrap()));
        assert_eq!(ranged.take_next(), Some("10.77.0.131".parse().unwrap()));
        // By number an address outside the range may be had.
        assert_eq!(ranged.take("10.77.0.9".parse().unwrap()), Ok(()));
    }

    #[test]
    fn a_certain_address_is_given_once() {
        let mut allocator = bridge();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(allocator.take(address("172.17.0.9")), Ok(()));
        assert_eq!(allocator.take(address("172.17.0.9")), Err(Refusal::Taken));
        for own in ["172.17.0.0", "172.17.0.1", "172.17.255.255"] {
            assert_eq!(allocator.take(address(own)), Err(Refusal::Taken), "{own}");
        }
        assert_eq!(allocator.take(address("172.18.0.9")), Err(Refusal::Outside));
    }

    #[test]
    fn a_full_subnet_gives_nothing() {
        let mut small = Allocator::new("10.0.0.0/30".parse().unwrap(), None, ["10.0.0.1".parse().unwrap()]);
        assert_eq!(small.take_next(), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(small.take_next(), None);
        small.give_back("10.0.0.2".parse().unwrap());
        assert_eq!(small.take_next(), Some("10.0.0.2".parse().unwrap()));
        let mut all = Allocator::new("255.255.255.254/31".parse().unwrap(), None, []);
        assert_eq!((all.take_next().is_some(), all.take_next().is_some(), all.take_next()), (true, true, None));
    }

    #[test]
    fn ipv6_has_no_broadcast_and_more_addresses_than_can_be_counted() {
        let gateway: IpAddr = "fd00:77::1".parse().unwrap();
        let mut wide = Allocator::new("fd00:77::/64".parse().unwrap(), None, [gateway]);
        assert_eq!(wide.usage(), (2, u64::MAX - 1));
        assert_eq!(wide.take_next(), Some("fd00:77::2".parse().unwrap()));
        assert_eq!(Allocator::new("fd00::/48".parse().unwrap(), None, []).usage().1, u64::MAX);
        let mut pair = Allocator::new("fd00::/127".parse().unwrap(), None, []);
        assert_eq!((pair.take_next().is_some(), pair.take_next().is_some(), pair.take_next()), (true, true, None));
    }

    #[test]
    fn a_reserved_address_is_only_for_those_who_name_it() {
        let mut allocator = bridge();
        let reserved: IpAddr = "172.17.0.2".parse().unwrap();
        allocator.reserve(reserved, true);
        assert_eq!(allocator.take_next(), Some("172.17.0.3".parse().unwrap()));
        assert_eq!(allocator.take(reserved), Ok(()));
        assert_eq!(allocator.take(reserved), Err(Refusal::Taken));
        allocator.give_back(reserved);
        allocator.reserve(reserved, false);
        allocator.note("172.17.255.254".parse().unwrap());
        assert_eq!(allocator.take_next(), Some(reserved));
    }

    proptest! {
        /// Whatever is asked in whatever order, against a model that is only a set.
        #[test]
        fn no_address_is_given_twice(prefix in 24u8..=30, steps in proptest::collection::vec((0u8..4, any::<u8>()), 1..400)) {
            let subnet = Ipv4Net::new(Ipv4Addr::new(10, 9, 8, 0), prefix).unwrap();
            let gateway = IpAddr::from([10, 9, 8, 1]);
            let mut allocator = Allocator::new(subnet.into(), None, [gateway]);
            let mut model: HashSet<IpAddr> = HashSet::new();
            let room = subnet.hosts().count() - 1;
            for (action, byte) in steps {
                let address = IpAddr::from([10, 9, 8, byte]);
                match action {
                    0 | 1 => match allocator.take_next() {
                        Some(given) => {
                            prop_assert!(IpNet::from(subnet).contains(&given) && given != gateway);
                            prop_assert!(given != subnet.network() && given != subnet.broadcast());
                            prop_assert!(model.insert(given), "{given} twice");
                        }
                        None => prop_assert_eq!(model.len(), room),
                    },
                    2 => {
                        if allocator.take(address).is_ok() {
                            prop_assert!(model.insert(address));
                        }
                    }
                    _ => {
                        prop_assert!(model.remove(&address) || !model.contains(&address));
                        allocator.give_back(address);
                    }
                }
                prop_assert_eq!(allocator.usage().1 as usize, room - model.len());
            }
        }
    }
}
