//! What an address tells by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::health::Task;
use crate::health::closed_set;

closed_set! {
    /// Where an address can be reached from.
    pub enum Reach {
        /// This host alone.
        Loopback = "loopback",
        /// The link alone (169.254/16, fe80::/10); ECS' metadata and the VPC's resolver have such ones, too.
        LinkLocal = "link-local",
        /// A private network (RFC 1918).
        Private = "private",
        /// A network between a provider and its customers (100.64/10, RFC 6598); some VPCs use it for their tasks.
        Shared = "shared",
        /// A private network of IPv6 (fc00::/7).
        UniqueLocal = "unique local",
        /// No host at all: unspecified, multicast, broadcast.
        NoHost = "no host's",
        /// Everywhere.
        Public = "public",
    }
}

impl Reach {
    /// Of this address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    /// Whether it is of use only inside a network, or a host.
    pub fn is_inside(self) -> bool {
        matches!(self, Self::Loopback | Self::LinkLocal | Self::Private | Self::Shared | Self::UniqueLocal)
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Self::Private,
            [100, 64..=127, ..] => Self::Shared,
            [0, ..] | [224..=239, ..] | [255, 255, 255, 255] => Self::NoHost,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match address {
            _ if address.is_loopback() => Self::Loopback,
            _ if address.is_unicast_link_local() => Self::LinkLocal,
            _ if address.is_unique_local() => Self::UniqueLocal,
            _ if address.is_unspecified() || address.is_multicast() => Self::NoHost,
            _ => Self::Public,
        }
    }
}

/// `10.0.3.7 (private)`
pub(super) fn told(address: IpAddr) -> String {
    format!("{address} ({})", Reach::of(address))
}

/// The subnet of the task, where the address is in it.
pub(super) fn subnet_of(task: &Task, address: IpAddr) -> Option<IpNet> {
    subnets(task).find(|subnet| subnet.contains(&address))
}

/// The subnets of the task.
pub(super) fn subnets(task: &Task) -> impl Iterator<Item = IpNet> {
    task.networks.iter().filter_map(|network| network.subnet.as_deref()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::task::TaskNetwork;

    #[test]
    fn each_address_is_of_its_reach() {
        for (address, reach) in [
            ("127.0.0.1", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("169.254.170.2", Reach::LinkLocal),
            ("fe80::1", Reach::LinkLocal),
            ("10.255.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.1.1", Reach::Private),
            ("192.169.1.1", Reach::Public),
            ("100.64.0.1", Reach::Shared),
            ("100.128.0.1", Reach::Public),
            ("fd00:ec2::23", Reach::UniqueLocal),
            ("::ffff:10.0.0.1", Reach::Private),
            ("0.0.0.0", Reach::NoHost),
            ("::", Reach::NoHost),
            ("224.0.0.1", Reach::NoHost),
            ("ff02::1", Reach::NoHost),
            ("203.0.113.9", Reach::Public),
            ("2001:db8::1", Reach::Public),
        ] {
            assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
        }
        assert_eq!(told("10.0.3.7".parse().unwrap()), "10.0.3.7 (private)");
    }

    #[test]
    fn an_address_is_in_the_subnet_of_the_task_or_not() {
        let network = |subnet: &str| TaskNetwork { subnet: Some(subnet.into()), ..TaskNetwork::default() };
        let networks = vec![network("not a subnet"), network("10.0.1.0/24")];
        let task = Task { networks, ..Task::default() };
        assert_eq!(subnet_of(&task, "10.0.1.9".parse().unwrap()), Some("10.0.1.0/24".parse().unwrap()));
        assert_eq!(subnet_of(&task, "10.0.2.9".parse().unwrap()), None);
    }
}
