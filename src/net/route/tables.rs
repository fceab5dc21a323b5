//! The kernel's tables as it prints them. A line that cannot be read is passed over.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::{Neighbour, RouteEntry};

/// Flags of an entry (`linux/route.h`): it goes through a router…
const GATEWAY: u32 = 0x0002;
/// …and it is there to forbid.
const REJECT: u32 = 0x0200;

/// The device that the kernel shows for a `blackhole` of IPv4, which has no flag of its own.
const NO_DEVICE: &str = "*";

/// The metric of the entry that stands for "there is no route", at the end of each IPv6 table.
const NO_ROUTE: u32 = u32::MAX;

/// The next hop answered, or its address was set by hand (`linux/if_arp.h`).
const COMPLETE: u32 = 0x02;

/// An entry and its place among those for the same network: the lowest goes first.
pub(super) struct Ranked {
    entry: RouteEntry,
    metric: u32,
}

/// The entry for an address: of those that hold it the narrowest, and of these the one with the lowest metric.
pub(super) fn best(routes: impl Iterator<Item = Ranked>, address: IpAddr) -> Option<RouteEntry> {
    routes
        .filter(|route| route.entry.network.contains(&address))
        .min_by_key(|route| (Reverse(route.entry.network.prefix_len()), route.metric))
        .map(|route| route.entry)
}

/// The entries of `/proc/net/route`: the main table of IPv4.
pub(super) fn routes_v4(table: &str) -> impl Iterator<Item = Ranked> + '_ {
    table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let interface = words.next()?.to_owned();
        let (to, gateway, flags) = (v4(words.next()?)?, v4(words.next()?)?, hex(words.next()?)?);
        let metric = words.nth(2)?.parse().ok()?;
        let network = Ipv4Net::with_netmask(to, v4(words.next()?)?).ok()?.into();
        let gateway = (flags & GATEWAY != 0).then_some(gateway.into());
        let forbids = flags & REJECT != 0 || interface == NO_DEVICE;
        Some(Ranked { entry: RouteEntry { network, gateway, interface, forbids }, metric })
    })
}

/// The entries of `/proc/net/ipv6_route`.
pub(super) fn routes_v6(table: &str) -> impl Iterator<Item = Ranked> + '_ {
    table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [to, prefix, _, _, gateway, metric, _, _, flags, interface] = words[..] else { return None };
        let (metric, flags) = (hex(metric)?, hex(flags)?);
        if metric == NO_ROUTE {
            return None;
        }
        let network = Ipv6Net::new(v6(to)?, u8::from_str_radix(prefix, 16).ok()?).ok()?.into();
        let gateway = (flags & GATEWAY != 0).then_some(v6(gateway)?.into());
        let (interface, forbids) = (interface.to_owned(), flags & REJECT != 0);
        Some(Ranked { entry: RouteEntry { network, gateway, interface, forbids }, metric })
    })
}

/// The next hops of `/proc/net/arp`.
pub(super) fn neighbours(table: &str) -> impl Iterator<Item = Neighbour> + '_ {
    table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse::<Ipv4Addr>().ok()?.into();
        let flags = hex(words.nth(1)?.strip_prefix("0x")?)?;
        Some(Neighbour { address, answers: flags & COMPLETE != 0 })
    })
}

fn hex(word: &str) -> Option<u32> {
    u32::from_str_radix(word, 16).ok()
}

/// An address as it lies in memory, printed as a number.
fn v4(word: &str) -> Option<Ipv4Addr> {
    hex(word).map(|bits| Ipv4Addr::from(bits.to_ne_bytes()))
}

fn v6(word: &str) -> Option<Ipv6Addr> {
    u128::from_str_radix(word, 16).ok().map(Ipv6Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a namespace with a route of each kind (Linux 6.18, x86-64).
    const ROUTES_V4: &str = "\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
v0	00000000	FE004D0A	0003	0	0	0	00000000	0	0	0
v0	00004D0A	00000000	0001	0	0	0	00FFFFFF	0	0	0
v0	0000580A	09004D0A	0003	0	0	100	0000FFFF	0	0	0
v0	0000580A	08004D0A	0003	0	0	50	0000FFFF	0	0	0
*	0000590A	00000000	0201	0	0	0	0000FFFF	0	0	0
*	00005B0A	00000000	0001	0	0	0	0000FFFF	0	0	0
";

    const ROUTES_V6: &str = "\
fd770000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001       v0
fd890000000000000000000000000000 10 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000002 00000000 00200200       lo
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd7700000000000000000000000000fe 00000400 00000001 00000000 00000003       v0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

    const NEIGHBOURS: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.7        0x1         0x6         02:00:00:00:00:07     *        v0
10.77.0.8        0x1         0x2         02:00:00:00:00:08     *        v0
10.77.0.254      0x1         0x0         00:00:00:00:00:00     *        v0
";

    /// Network, router, interface; and whether it forbids.
    fn found(entry: Option<RouteEntry>) -> Option<(String, Option<String>, String, bool)> {
        let RouteEntry { network, gateway, interface, forbids } = entry?;
        Some((network.to_string(), gateway.map(|gateway| gateway.to_string()), interface, forbids))
    }

    fn expected(
        network: &str,
        gateway: &str,
        interface: &str,
        forbids: bool,
    ) -> Option<(String, Option<String>, String, bool)> {
        let gateway = (!gateway.is_empty()).then(|| gateway.to_owned());
        Some((network.to_owned(), gateway, interface.to_owned(), forbids))
    }

    #[test]
    fn the_narrowest_entry_counts_and_then_the_lowest_metric() {
        let best = |to: &str| found(best(routes_v4(ROUTES_V4), to.parse().unwrap()));
        assert_eq!(best("192.0.2.1"), expected("0.0.0.0/0", "10.77.0.254", "v0", false));
        assert_eq!(best("10.77.0.200"), expected("10.77.0.0/24", "", "v0", false));
        assert_eq!(best("10.88.1.2"), expected("10.88.0.0/16", "10.77.0.8", "v0", false));
        let best = |to: &str| found(super::best(routes_v6(ROUTES_V6), to.parse().unwrap()));
        assert_eq!(best("2001:db8::1"), expected("::/0", "fd77::fe", "v0", false));
        assert_eq!(best("fd77::200"), expected("fd77::/64", "", "v0", false));
    }

    #[test]
    fn what_forbids_is_told() {
        let forbids = |to: &str| best(routes_v4(ROUTES_V4), to.parse().unwrap()).unwrap().forbids;
        assert!(forbids("10.89.0.1"), "unreachable");
        assert!(forbids("10.91.0.1"), "blackhole");
        assert!(best(routes_v6(ROUTES_V6), "fd89::1".parse().unwrap()).unwrap().forbids);
    }

    #[test]
    fn the_end_of_the_table_is_no_route() {
        let end = ROUTES_V6.lines().last().unwrap();
        assert!(best(routes_v6(end), "2001:db8::1".parse().unwrap()).is_none());
        assert!(best(routes_v4(ROUTES_V4), "2001:db8::1".parse().unwrap()).is_none(), "another family");
    }

    #[test]
    fn a_neighbour_answers_or_not() {
        let known: Vec<(String, bool)> =
            neighbours(NEIGHBOURS).map(|known| (known.address.to_string(), known.answers)).collect();
        let expected = [("10.77.0.7", true), ("10.77.0.8", true), ("10.77.0.254", false)];
        assert_eq!(known, expected.map(|(address, answers)| (address.to_owned(), answers)));
    }

    #[test]
    fn lines_that_nobody_can_read_are_passed_over() {
        let odd = "v0 zz\nv0\n\n\0\u{fffd}\nv0 00000000 00000000 0001 0 0 x 00000000\n\
                   v0 00000000 00000000 0001 0 0 0 00FF00FF 0 0 0\n1.2.3.4 0x1 2 x\n1.2.3.4 0x1 0xzz x\n";
        assert_eq!(routes_v4(odd).count() + routes_v6(odd).count() + neighbours(odd).count(), 0);
        let good = ROUTES_V4.lines().last().unwrap();
        assert_eq!(routes_v4(&format!("{odd}{good}")).count(), 1);
    }
}
