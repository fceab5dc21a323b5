//! Spare ports.
//!
//! They come from below the range that the kernel takes for outgoing connections. A port from inside it, as
//! binding port 0 gives, could be taken by any client while a test has its server stopped; and a client that
//! knocks on such a port again and again can end up connected to itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Above the well-known servers of developers' machines.
const LOWEST: u16 = 15_000;
/// How many ports are worth having.
const ENOUGH: u16 = 1_000;

/// Ports given out by this process: one that was stopped is still its server's.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on 127.0.0.1 where nobody listens, by TCP or UDP, and which this process never gives out again.
///
/// Another process may take it before it is used: what starts a server tries again with the next one.
pub fn spare() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let range = candidates();
    // Test processes that run side by side start from different ends.
    let offset = u64::from(std::process::id()).wrapping_mul(7_919) % range.len() as u64;
    let (before, after) = (range.start..range.start + offset as u16, range.start + offset as u16..range.end);
    let port =
        after.chain(before).find(|port| !taken.contains(port) && is_free(*port)).expect("a spare port");
    taken.insert(port);
    port
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

fn candidates() -> Range<u16> {
    let lowest_ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768);
    if lowest_ephemeral >= LOWEST + ENOUGH { LOWEST..lowest_ephemeral } else { LOWEST..u16::MAX }
}
