//! Subnets that nobody chose: pieces of pools, none of which overlaps with what the host can already reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Routes wider than this are ways of writing a default route: VPN clients split it into halves and quarters.
const WIDEST_REAL_ROUTE: u8 = 8;
/// The same for IPv6, where the whole of what is given out is an eighth: `2000::/3`.
const WIDEST_REAL_ROUTE_V6: u8 = 8;

/// A range that is cut into subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// The range.
    pub base: IpNet,
    /// The prefix length of each subnet, not shorter than that of the range.
    pub size: u8,
}

impl AddressPool {
    /// The first subnet of the pool, at or after `from`, that overlaps with nothing in `taken`.
    fn first_free(&self, taken: &[IpNet]) -> Option<IpNet> {
        let end = number(self.base.broadcast());
        let mut start = number(self.base.network());
        loop {
            let candidate = IpNet::new(self.address(start), self.size).ok()?;
            if number(candidate.broadcast()) > end {
                return None;
            }
            let Some(obstacle) = taken.iter().find(|net| overlap(net, &candidate)) else { return Some(candidate) };
            // The next subnet that begins behind the obstacle: a /8 is passed in one step.
            let behind = number(obstacle.broadcast()).max(number(candidate.broadcast())).checked_add(1)?;
            let step = 1u128.checked_shl(u32::from(self.base.max_prefix_len() - self.size))?;
            start = behind.checked_next_multiple_of(step)?;
            if start > end {
                return None;
            }
        }
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.base {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
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

/// The pools of a new installation: the default bridge's own subnet is the first. None is for IPv6: see [`local_pool`].
pub fn default_pools() -> Vec<AddressPool> {
    let pool =
        |a, b, prefix, size| AddressPool { base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix).into(), size };
    vec![
        pool(172, 17, 16, 16),
        pool(172, 18, 15, 16),
        pool(172, 20, 14, 16),
        pool(172, 24, 13, 16),
        pool(192, 168, 16, 20),
        pool(10, 0, 8, 24),
    ]
}

/// An IPv6 range of our own (RFC 4193), made of random bits that stay the same: those of the id of a network that stays.
pub fn local_pool(seed: &berth_model::HexId) -> AddressPool {
    let digits = seed.as_str().get(..10).unwrap_or_default();
    let random = u128::from_str_radix(digits, 16).unwrap_or_default();
    let base = Ipv6Addr::from((0xfd_u128 << 120) | (random << 80));
    AddressPool { base: Ipv6Net::new_assert(base, 48).into(), size: 64 }
}

/// The first subnet of the pools of one family, in their order, that overlaps with nothing in `taken`.
pub fn first_free<'a>(pools: impl IntoIterator<Item = &'a AddressPool>, ipv6: bool, taken: &[IpNet]) -> Option<IpNet> {
    let taken: Vec<_> = taken.iter().copied().filter(is_real).collect();
    pools.into_iter().filter(|pool| pool.base.addr().is_ipv6() == ipv6).find_map(|pool| pool.first_free(&taken))
}

/// Whether two subnets share an address.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// Whether a subnet shares an address with any real route in `taken`.
pub fn is_free(subnet: &IpNet, taken: &[IpNet]) -> bool {
    !taken.iter().any(|net| is_real(net) && overlap(net, subnet))
}

fn is_real(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() >= WIDEST_REAL_ROUTE,
        IpNet::V6(net) => net.prefix_len() >= WIDEST_REAL_ROUTE_V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn check(taken: &[&str], expected: Option<&str>) {
        let found = first_free(&default_pools(), false, &nets(taken)).map(|net| net.to_string());
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

    #[test]
    fn ipv6_subnets_come_from_a_range_of_our_own() {
        let seed = "19daec924f".repeat(7)[..64].parse().unwrap();
        let pool = local_pool(&seed);
        assert_eq!(pool.base.to_string(), "fd19:daec:924f::/48");
        let free = |taken: &[&str]| first_free([&pool], true, &nets(taken)).map(|net| net.to_string());
        assert_eq!(free(&[]).as_deref(), Some("fd19:daec:924f::/64"));
        assert_eq!(free(&["fd19:daec:924f::/64", "2000::/3", "10.0.0.0/8"]).as_deref(), Some("fd19:daec:924f:1::/64"));
        assert_eq!(free(&["fd19:daec:924f::/48"]), None);
        assert_eq!(first_free(&default_pools(), true, &[]), None);
    }

    proptest! {
        #[test]
        fn what_is_found_overlaps_with_nothing(taken in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..40)) {
            let private = |bits: u32| if bits & 1 == 0 { 0x0a00_0000 | bits >> 8 } else { 0xac10_0000 | bits >> 12 };
            let taken: Vec<_> = taken.into_iter().map(|(bits, prefix)| {
                IpNet::from(Ipv4Net::new(private(bits).into(), prefix).unwrap().trunc())
            }).collect();
            if let Some(net) = first_free(&default_pools(), false, &taken) {
                prop_assert!(is_free(&net, &taken));
                prop_assert_eq!(net, net.trunc());
            }
        }
    }
}
