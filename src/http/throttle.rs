//! Who sends bad tokens again and again is told to wait, and is not told of in the log each time.
//!
//! A good token is never looked up here: whoever has one is let in, whatever others at the same address do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::health::Monotonic;

/// Bad tokens from one address in one [`WINDOW`] that are answered as such.
pub(super) const BAD_MAX: u32 = 10;

/// Refused attempts from one address in one [`WINDOW`] of which each has a line in the log. A log is paid for by the
/// line, and everybody who reaches the port can be refused as often as they like.
pub(super) const TOLD_MAX: u32 = 20;

/// From the first of them on.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are told apart. All that come when there are so many are taken for one.
const SOURCES_MAX: usize = 1024;

/// Addresses, and what they did lately.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    windows: Mutex<HashMap<Source, Window>>,
    untold: AtomicU64,
}

/// Who is taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// An IPv4 address, or a network of IPv6: whoever has one address of a /64 has all of them.
    Address(IpAddr),
    /// All for which there was no room.
    Others,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Monotonic,
    bad: u32,
    told: u32,
}

impl Window {
    fn is_over(&self, now: Monotonic) -> bool {
        now.since(self.began) >= WINDOW
    }
}

impl Throttle {
    /// Counts a bad token. Beyond [`BAD_MAX`]: how long whoever sent it has to wait.
    pub(super) fn bad(&self, client: IpAddr, now: Monotonic) -> Option<Duration> {
        self.count(client, now, |window| {
            window.bad = window.bad.saturating_add(1);
            (window.bad > BAD_MAX).then(|| WINDOW.saturating_sub(now.since(window.began)))
        })
    }

    /// Whether the log is told of one more refused attempt; if not, it is counted.
    pub(super) fn tells(&self, client: IpAddr, now: Monotonic) -> bool {
        let tells = self.count(client, now, |window| {
            window.told = window.told.saturating_add(1);
            window.told <= TOLD_MAX
        });
        if !tells {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
        tells
    }

    /// How many attempts the log was not told of since this was last asked.
    pub(super) fn untold(&self) -> u64 {
        self.untold.swap(0, Ordering::Relaxed)
    }

    fn count<T>(&self, client: IpAddr, now: Monotonic, count: impl FnOnce(&mut Window) -> T) -> T {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut source = Source::of(client);
        if !windows.contains_key(&source) && windows.len() >= SOURCES_MAX {
            windows.retain(|_, window| !window.is_over(now));
            if windows.len() >= SOURCES_MAX {
                source = Source::Others;
            }
        }
        let fresh = Window { began: now, bad: 0, told: 0 };
        let window = windows.entry(source).or_insert(fresh);
        if window.is_over(now) {
            *window = fresh;
        }
        count(window)
    }
}

impl Source {
    fn of(client: IpAddr) -> Self {
        Self::Address(match client.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::test_support::{mono, secs};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_a_minute_and_then_the_rest_of_the_minute() {
        let throttle = Throttle::default();
        let one = ip("192.0.2.1");
        for n in 0..10 {
            assert_eq!(throttle.bad(one, mono(secs(n))), None);
        }
        assert_eq!(throttle.bad(one, mono(secs(10))), Some(secs(50)));
        assert_eq!(throttle.bad(one, mono(secs(59))), Some(secs(1)));
        assert_eq!(throttle.bad(ip("192.0.2.2"), mono(secs(59))), None, "another address");
        assert_eq!(throttle.bad(one, mono(secs(60))), None, "the next minute");
    }

    #[test]
    fn an_address_is_its_network_and_whatever_it_is_written_as() {
        let throttle = Throttle::default();
        for n in 1..=10 {
            assert_eq!(throttle.bad(ip(&format!("2001:db8::{n}")), mono(secs(0))), None);
            assert_eq!(throttle.bad(ip(&format!("192.0.2.{}", 1)), mono(secs(0))), None);
        }
        assert!(throttle.bad(ip("2001:db8::ffff:0:0:1"), mono(secs(0))).is_some());
        assert!(throttle.bad(ip("::ffff:192.0.2.1"), mono(secs(0))).is_some());
        assert_eq!(throttle.bad(ip("2001:db8:0:1::1"), mono(secs(0))), None);
    }

    #[test]
    fn addresses_are_bounded_and_those_beyond_are_one_until_there_is_room() {
        let throttle = Throttle::default();
        let nth = |n: u32| IpAddr::from(n.to_be_bytes());
        let all = SOURCES_MAX as u32;
        for n in 0..all {
            assert_eq!(throttle.bad(nth(n), mono(secs(0))), None);
        }
        for n in 0..10 {
            assert_eq!(throttle.bad(nth(all + n), mono(secs(1))), None);
        }
        assert!(throttle.bad(nth(all + 10), mono(secs(1))).is_some(), "one that never came before");
        assert_eq!(throttle.windows.lock().unwrap().len(), SOURCES_MAX + 1);
        assert_eq!(throttle.bad(nth(all + 10), mono(secs(60))), None);
        assert_eq!(throttle.windows.lock().unwrap().len(), 2, "what is over is forgotten");
    }

    #[test]
    fn what_is_not_told_is_counted() {
        let throttle = Throttle::default();
        let told = (0..25).filter(|_| throttle.tells(ip("192.0.2.1"), mono(secs(0)))).count();
        assert_eq!((told, throttle.untold(), throttle.untold()), (20, 5, 0));
        assert!(throttle.tells(ip("192.0.2.1"), mono(secs(60))));
    }
}
