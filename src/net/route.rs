//! The way that the kernel would take: the source address it would go with, the entry of the routing table that
//! fits best, and whether the next hop answers. It is what Linux shows to everybody; what cannot be read is left
//! out.

mod tables;

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::IpNet;

use super::connect::errno_text;

/// A host has a handful of routes and neighbours; of a router's tables no more than this is read.
const TABLE_MAX: u64 = 1024 * 1024;

/// The way that the kernel would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// The source address that it would go with; an errno's name where it has no way.
    pub source: Option<Result<IpAddr, String>>,
    /// The entry of the main routing table that fits best.
    pub entry: Option<RouteEntry>,
    /// What is known of the next hop's hardware address, after the connections were tried. IPv4 only.
    pub neighbour: Option<Neighbour>,
}

/// An entry of the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// For addresses in here.
    pub network: IpNet,
    /// Through this router; `None`: directly.
    pub gateway: Option<IpAddr>,
    /// Out of this interface.
    pub interface: String,
    /// An entry that forbids: `unreachable`, `prohibit`, `blackhole`.
    pub forbids: bool,
}

/// The next hop as the neighbour table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The router, or the address itself.
    pub address: IpAddr,
    /// Whether it answered to its address being looked for. One that answered a moment ago and is gone since is
    /// still taken to answer, for some seconds.
    pub answers: bool,
}

impl Route {
    /// The way to an address, as the kernel has it now. The next hop is not looked at: it is only looked for where
    /// something is sent.
    pub fn to(address: SocketAddr) -> Self {
        let source = source(address);
        let entry = match &source {
            // The kernel's table for its own addresses is another one than the one that can be read.
            Ok(source) if *source == address.ip() || address.ip().is_loopback() => Some(own(address.ip())),
            _ => entry(address.ip()),
        };
        Self { source: Some(source.map_err(|error| errno_text(&error))), entry, neighbour: None }
    }

    /// What became of looking for the next hop, once something was sent to `address`.
    pub fn look_at_neighbour(&mut self, address: IpAddr) {
        let next = self.entry.as_ref().and_then(|entry| entry.gateway).unwrap_or(address);
        self.neighbour = match next {
            IpAddr::V4(next) => {
                tables::neighbours(&read("/proc/net/arp")).find(|known| known.address == next)
            }
            // What the kernel knows of IPv6's neighbours stands in no file.
            IpAddr::V6(_) => None,
        };
    }
}

/// The address that the kernel would send from. Nothing is sent: a UDP socket is connected by looking up the route.
pub(super) fn source(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

fn own(address: IpAddr) -> RouteEntry {
    RouteEntry { network: address.into(), gateway: None, interface: "lo".to_owned(), forbids: false }
}

fn entry(address: IpAddr) -> Option<RouteEntry> {
    match address {
        IpAddr::V4(_) => tables::best(tables::routes_v4(&read("/proc/net/route")), address),
        IpAddr::V6(_) => tables::best(tables::routes_v6(&read("/proc/net/ipv6_route")), address),
    }
}

/// A file of the kernel's; empty where it cannot be read.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TABLE_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_reached_from_itself_and_over_no_router() {
        let route = Route::to("127.0.0.2:5432".parse().unwrap());
        assert_eq!(route.source, Some(Ok("127.0.0.1".parse().unwrap())));
        let entry = route.entry.unwrap();
        assert_eq!((entry.network.to_string().as_str(), entry.gateway), ("127.0.0.2/32", None));
        assert!(entry.interface == "lo" && !entry.forbids);
    }

    #[test]
    fn where_there_is_no_way_the_errno_is_told() {
        // 240.0.0.0/4 is reserved; the last of it is a broadcast, for which a socket needs permission.
        let route = Route::to("255.255.255.255:9".parse().unwrap());
        let told = route.source.unwrap().unwrap_err();
        assert!(["EACCES", "ENETUNREACH"].contains(&told.as_str()), "{told}");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(read("/proc/net/no such file"), "");
        let mut route = Route::default();
        route.look_at_neighbour("240.0.0.1".parse().unwrap());
        assert_eq!(route, Route::default());
    }
}
