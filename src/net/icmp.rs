//! The ICMP message behind a socket's error, and who sent it: Linux keeps both in the socket's error queue
//! (ip(7), `IP_RECVERR`). A kernel that is too old keeps nothing of a connection that failed; then only the errno is
//! known.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err, sockaddr_in6};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};

use super::route;

/// More errors than this are not read: one connection gets one or two.
const READ_MAX: usize = 8;

/// An ICMP error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmp {
    /// Type 3 code 13 of ICMP, in words: `administratively prohibited`.
    pub meaning: String,
    /// Whether a filter says so, rather than a router that does not know the way.
    pub by_filter: bool,
    /// Who sent it; our own address where the kernel gave up by itself (nobody answered on the link).
    pub from: Option<IpAddr>,
    /// Whether it is our own kernel's.
    pub own: bool,
}

/// From now on the socket keeps the messages behind its errors.
pub(super) fn keep(socket: &impl AsFd, peer: IpAddr) -> io::Result<()> {
    match peer {
        IpAddr::V4(_) => setsockopt(socket, Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(socket, Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// The first message that the socket has kept; `None` where there is none, as after an answer of TCP itself.
pub(super) fn kept(socket: &impl AsFd) -> Option<Icmp> {
    for _ in 0..READ_MAX {
        let mut room = cmsg_space!(sock_extended_err, sockaddr_in6);
        let mut packet = [0; 128];
        let mut parts = [IoSliceMut::new(&mut packet)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let socket = socket.as_fd().as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut room), flags);
        // Empty: nothing more is read.
        let message = message.ok()?;
        let icmp = message.cmsgs().ok()?.find_map(told);
        // What else is queued, such as an error of the kernel's without a message behind it, is passed over.
        if icmp.is_some() {
            return icmp;
        }
    }
    None
}

/// What the kernel tells of an error; `None` for one that comes from no ICMP message.
fn told(message: ControlMessageOwned) -> Option<Icmp> {
    let (error, from) = match message {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            (error, from.map(|from| IpAddr::from(Ipv4Addr::from_bits(u32::from_be(from.sin_addr.s_addr)))))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            (error, from.map(|from| IpAddr::from(Ipv6Addr::from(from.sin6_addr.s6_addr))))
        }
        _ => return None,
    };
    let Meaning { words, by_filter } = match error.ee_origin {
        SO_EE_ORIGIN_ICMP => meaning_v4(error.ee_type, error.ee_code),
        SO_EE_ORIGIN_ICMP6 => meaning_v6(error.ee_type, error.ee_code),
        _ => return None,
    };
    let from = from.map(|from| from.to_canonical()).filter(|from| !from.is_unspecified());
    Some(Icmp { meaning: words, by_filter, from, own: from.is_some_and(is_ours) })
}

/// Whether this host has the address: only then the kernel would go there from this very address. That a socket can be
/// bound to it would not tell: with `ip_nonlocal_bind` it can be to any.
fn is_ours(address: IpAddr) -> bool {
    address.is_loopback() || route::source((address, 9).into()).is_ok_and(|source| source == address)
}

struct Meaning {
    words: String,
    by_filter: bool,
}

/// The types and codes of RFC 792, RFC 1122 (3.2.2.1) and RFC 1812 (5.2.7.1).
fn meaning_v4(kind: u8, code: u8) -> Meaning {
    let words = match (kind, code) {
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "packet too big",
        (3, 5) => "source route failed",
        (3, 6) => "network unknown",
        (3, 7) => "host unknown",
        (3, 8) => "source host isolated",
        (3, 9) => "network administratively prohibited",
        (3, 10) => "host administratively prohibited",
        (3, 11) => "network unreachable for this type of service",
        (3, 12) => "host unreachable for this type of service",
        (3, 13) => "administratively prohibited",
        (11, _) => "time to live exceeded",
        _ => return unnamed(kind, code),
    };
    Meaning { words: words.to_owned(), by_filter: kind == 3 && matches!(code, 9 | 10 | 13) }
}

/// The types and codes of RFC 4443 (3) and its registry.
fn meaning_v6(kind: u8, code: u8) -> Meaning {
    let words = match (kind, code) {
        (1, 0) => "no route",
        (1, 1) => "administratively prohibited",
        (1, 2) => "beyond the scope of the source address",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source address failed policy",
        (1, 6) => "route rejected",
        (2, _) => "packet too big",
        (3, _) => "hop limit exceeded",
        _ => return unnamed(kind, code),
    };
    Meaning { words: words.to_owned(), by_filter: kind == 1 && matches!(code, 1 | 5 | 6) }
}

fn unnamed(kind: u8, code: u8) -> Meaning {
    Meaning { words: format!("type {kind} code {code}"), by_filter: false }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use super::*;

    /// A datagram to a port that nobody has: the kernel answers with an ICMP message, which is kept.
    fn refused(localhost: IpAddr) -> Option<Icmp> {
        let free = UdpSocket::bind((localhost, 0)).unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind(SocketAddr::new(localhost, 0)).unwrap();
        keep(&socket, localhost).unwrap();
        socket.connect(free).unwrap();
        assert_eq!(kept(&socket), None, "nothing happened yet");
        socket.send(b"anybody?").unwrap();
        let refused = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        kept(&socket)
    }

    #[test]
    fn a_closed_port_is_told_with_who_said_so() {
        for localhost in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            if UdpSocket::bind((localhost, 0)).is_err() {
                continue;
            }
            let icmp = refused(localhost).expect("a message");
            let meaning = "port unreachable".to_owned();
            assert_eq!(icmp, Icmp { meaning, by_filter: false, from: Some(localhost), own: true });
        }
    }

    #[test]
    fn filters_are_told_from_routers_that_do_not_know_the_way() {
        let by_filter = |meaning: fn(u8, u8) -> Meaning, kind| {
            (0..=20).filter(|code| meaning(kind, *code).by_filter).collect::<Vec<u8>>()
        };
        assert_eq!(by_filter(meaning_v4, 3), [9, 10, 13]);
        assert_eq!(by_filter(meaning_v6, 1), [1, 5, 6]);
        assert!(by_filter(meaning_v4, 11).is_empty() && by_filter(meaning_v6, 3).is_empty());
        assert_eq!(meaning_v4(3, 99).words, "type 3 code 99");
    }

    #[test]
    fn an_address_of_somebody_else_is_not_ours() {
        assert!(!is_ours("240.0.0.1".parse().unwrap()), "nobody's");
    }
}
