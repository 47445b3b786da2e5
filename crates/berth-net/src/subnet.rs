//! Subnets that nobody chose: pieces of pools, none of which overlaps with what the host can already reach.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Routes wider than this are ways of writing a default route: VPN clients split it into halves and quarters.
const WIDEST_REAL_ROUTE: u8 = 8;

/// A range that is cut into subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// The range.
    pub base: Ipv4Net,
    /// The prefix length of each subnet, not shorter than that of the range.
    pub size: u8,
}

impl AddressPool {
    /// The first subnet of the pool, at or after `from`, that overlaps with nothing in `taken`.
    fn first_free(&self, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
        let end = u32::from(self.base.broadcast());
        let mut start = u32::from(self.base.network());
        loop {
            let candidate = Ipv4Net::new(Ipv4Addr::from(start), self.size).ok()?;
            if u32::from(candidate.broadcast()) > end {
                return None;
            }
            let Some(obstacle) = taken.iter().find(|net| overlap(net, &candidate)) else { return Some(candidate) };
            // The next subnet that begins behind the obstacle: a /8 is passed in one step.
            let behind = u32::from(obstacle.broadcast()).max(u32::from(candidate.broadcast())).checked_add(1)?;
            let step = 1u64 << (32 - u32::from(self.size));
            start = u32::try_from(u64::from(behind).next_multiple_of(step)).ok()?;
            if start > end {
                return None;
            }
        }
    }
}

/// The pools of a new installation: the default bridge's own subnet is the first.
pub fn default_pools() -> Vec<AddressPool> {
    let pool = |a, b, prefix, size| AddressPool { base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix), size };
    vec![
        pool(172, 17, 16, 16),
        pool(172, 18, 15, 16),
        pool(172, 20, 14, 16),
        pool(172, 24, 13, 16),
        pool(192, 168, 16, 20),
        pool(10, 0, 8, 24),
    ]
}

/// The first subnet of the pools, in their order, that overlaps with nothing in `taken`.
pub fn first_free(pools: &[AddressPool], taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let taken: Vec<_> = taken.iter().copied().filter(|net| net.prefix_len() >= WIDEST_REAL_ROUTE).collect();
    pools.iter().find_map(|pool| pool.first_free(&taken))
}

/// Whether two subnets share an address.
pub fn overlap(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// Whether a subnet shares an address with any real route in `taken`.
pub fn is_free(subnet: &Ipv4Net, taken: &[Ipv4Net]) -> bool {
    !taken.iter().any(|net| net.prefix_len() >= WIDEST_REAL_ROUTE && overlap(net, subnet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn check(taken: &[&str], expected: Option<&str>) {
        let found = first_free(&default_pools(), &nets(taken)).map(|net| net.to_string());
        assert_eq!(found.as_deref(), expected, "{taken:?}");
    }

    #[test]
    fn the_pools_are_used_in_their_order() {
        check(&[], Some("172.17.0.0/16"));
        check(&["192.0.2.0/24"], Some("172.17.0.0/16"));
        check(&["172.17.0.0/16"], Some("172.18.0.0/16"));
        check(&["172.17.5.0/24", "172.18.255.4/30"], Some("172.19.0.0/16"));
        check(&["172.16.0.0/12"], Some("192.168.0.0/20"));
        check(&["172.16.0.0/12", "192.168.1.0/24"], Some("192.168.16.0/20"));
        check(&["172.16.0.0/12", "192.168.0.0/16"], Some("10.0.0.0/24"));
        check(&["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/9"], Some("10.128.0.0/24"));
        check(&["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"], None);
    }

    #[test]
    fn a_default_route_in_two_halves_takes_nothing() {
        check(&["0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/0"], Some("172.17.0.0/16"));
    }

    proptest! {
        #[test]
        fn what_is_found_overlaps_with_nothing(taken in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..40)) {
            let private = |bits: u32| if bits & 1 == 0 { 0x0a00_0000 | bits >> 8 } else { 0xac10_0000 | bits >> 12 };
            let taken: Vec<_> = taken.into_iter().map(|(bits, prefix)| {
                Ipv4Net::new(private(bits).into(), prefix).unwrap().trunc()
            }).collect();
            if let Some(net) = first_free(&default_pools(), &taken) {
                prop_assert!(is_free(&net, &taken));
                prop_assert_eq!(net, net.trunc());
            }
        }
    }
}
