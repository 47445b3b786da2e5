//! Which address the next container gets.
//!
//! The rows of the store hold the addresses; an [`Allocator`] is the memory of them that finds a free one quickly. It
//! goes round: the next address is the first free one after the last that was given, so that an address rests as long
//! as possible before somebody else gets it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

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
    subnet: Ipv4Net,
    range: Ipv4Net,
    /// Never given: network, broadcast, gateway, auxiliary addresses.
    set_aside: BTreeSet<u32>,
    held: BTreeSet<u32>,
    last: Option<u32>,
}

impl Allocator {
    /// A subnet of which addresses are given from `range`; those in `aside` never are.
    pub fn new(subnet: Ipv4Net, range: Option<Ipv4Net>, aside: impl IntoIterator<Item = Ipv4Addr>) -> Allocator {
        let mut set_aside: BTreeSet<u32> = aside.into_iter().map(u32::from).collect();
        // Of a point-to-point /31 or a single /32 both ends are ordinary addresses (RFC 3021).
        if subnet.prefix_len() < 31 {
            set_aside.extend([subnet.network(), subnet.broadcast()].map(u32::from));
        }
        let range = range.filter(|range| subnet.contains(range)).unwrap_or(subnet);
        Allocator { subnet, range, set_aside, held: BTreeSet::new(), last: None }
    }

    /// Gives the next free address of the range.
    pub fn take_next(&mut self) -> Option<Ipv4Addr> {
        let (first, last) = (u32::from(self.range.network()), u32::from(self.range.broadcast()));
        let after = self.last.and_then(|last| last.checked_add(1)).filter(|next| (first..=last).contains(next));
        let start = after.unwrap_or(first);
        let found = self.first_free(start, last).or_else(|| self.first_free(first, start))?;
        self.held.insert(found);
        self.last = Some(found);
        Some(found.into())
    }

    /// Gives a certain address, which may lie outside the range.
    pub fn take(&mut self, address: Ipv4Addr) -> Result<(), Refusal> {
        if !self.subnet.contains(&address) {
            return Err(Refusal::Outside);
        }
        let number = u32::from(address);
        if self.set_aside.contains(&number) || !self.held.insert(number) { Err(Refusal::Taken) } else { Ok(()) }
    }

    /// Notes an address that a record holds, the newest record last.
    pub fn note(&mut self, address: Ipv4Addr) {
        if self.subnet.contains(&address) {
            self.held.insert(address.into());
            self.last = Some(address.into());
        }
    }

    /// Takes an address back.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        self.held.remove(&address.into());
    }

    /// The subnet.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// How many addresses are held or set aside, and how many of the range are free.
    pub fn usage(&self) -> (u64, u64) {
        let (first, last) = (u32::from(self.range.network()), u32::from(self.range.broadcast()));
        let within = |set: &BTreeSet<u32>| set.range(first..=last).count() as u64;
        let size = u64::from(last) - u64::from(first) + 1;
        let used = (self.held.len() + self.set_aside.len()) as u64;
        (used, size - within(&self.held) - within(&self.set_aside))
    }

    fn first_free(&self, from: u32, to: u32) -> Option<u32> {
        let mut candidate = from;
        // Both sets are sorted: only the run of taken numbers that begins at `from` is looked at.
        let mut held = self.held.range(from..=to).peekable();
        let mut aside = self.set_aside.range(from..=to).peekable();
        loop {
            let taken = held.next_if(|number| **number == candidate).is_some()
                | aside.next_if(|number| **number == candidate).is_some();
            if !taken {
                return Some(candidate);
            }
            candidate = candidate.checked_add(1).filter(|next| *next <= to)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let aside = ["10.77.0.1", "10.77.0.130"].map(|text| text.parse::<Ipv4Addr>().unwrap());
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
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
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

    proptest! {
        /// Whatever is asked in whatever order, against a model that is only a set.
        #[test]
        fn no_address_is_given_twice(prefix in 24u8..=30, steps in proptest::collection::vec((0u8..4, any::<u8>()), 1..400)) {
            let subnet = Ipv4Net::new(Ipv4Addr::new(10, 9, 8, 0), prefix).unwrap();
            let gateway = Ipv4Addr::new(10, 9, 8, 1);
            let mut allocator = Allocator::new(subnet, None, [gateway]);
            let mut model: HashSet<Ipv4Addr> = HashSet::new();
            let room = subnet.hosts().count() - 1;
            for (action, byte) in steps {
                let address = Ipv4Addr::new(10, 9, 8, byte);
                match action {
                    0 | 1 => match allocator.take_next() {
                        Some(given) => {
                            prop_assert!(subnet.contains(&given) && given != gateway);
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
