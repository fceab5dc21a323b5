//! Where a name leads: what counts as a move, and what is only a name whose answers take turns.
//!
//! After a failover a name leads elsewhere, once. A name that stands for several servers may give another one
//! each time that it is asked (ElastiCache's reader endpoint does); were each of these a move, the real one would
//! be lost among them.

use std::collections::VecDeque;
use std::net::IpAddr;

/// Answers remembered.
const ANSWERS: usize = 10;

/// A name whose answers changed so often among those remembered takes turns.
const TURNS: usize = 3;

/// Addresses kept of an answer, and known of a name; the rest of a longer answer is passed over. Most names have
/// a handful.
pub const ADDRESSES: usize = 1024;

/// An address that took the place of another, or came, or went.
pub type Change = (Option<IpAddr>, Option<IpAddr>);

/// What a name resolved to lately.
#[derive(Debug, Clone, Default)]
pub struct Whereabouts {
    /// The newest last; each is sorted.
    answers: VecDeque<Vec<IpAddr>>,
    /// Every address that it led to when it was last [settled](Self::settle), the newest last.
    known: VecDeque<IpAddr>,
}

impl Whereabouts {
    /// The name resolved to these.
    pub fn note(&mut self, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        let mut answer = addresses.to_vec();
        answer.sort_unstable();
        answer.dedup();
        answer.truncate(ADDRESSES);
        if self.answers.len() == ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
    }

    /// What it leads to now is nothing new from now on.
    pub fn settle(&mut self) {
        for address in self.answers.back().into_iter().flatten() {
            self.known.retain(|known| known != address);
            if self.known.len() == ADDRESSES {
                self.known.pop_front();
            }
            self.known.push_back(*address);
        }
    }

    /// Whether it has been resolved at all.
    pub fn is_known(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Whether the name may still lead to this address: by its newest answer or, where it takes turns, by any
    /// that is remembered.
    pub fn leads_to(&self, address: IpAddr) -> bool {
        let newest = if self.takes_turns() { self.answers.len() } else { 1 };
        self.answers.iter().rev().take(newest).any(|answer| answer.contains(&address))
    }

    /// Whether who was at `from` and is at `to` now has followed a name that moved; not, where it has both of
    /// them, or takes turns among addresses that are known.
    pub fn moved(&self, from: IpAddr, to: IpAddr) -> bool {
        from != to
            && self.is_known()
            && if self.takes_turns() { self.is_new(to) } else { !self.leads_to(from) }
    }

    /// How the newest answer differs from the one before: each address that went with one that came. Where the
    /// name takes turns, only those that never came before.
    pub fn changes(&self) -> Vec<Change> {
        let mut newest_first = self.answers.iter().rev();
        let (Some(now), Some(before)) = (newest_first.next(), newest_first.next()) else { return Vec::new() };
        let takes_turns = self.takes_turns();
        let mut gone = before.iter().filter(|address| !takes_turns && !now.contains(address)).copied();
        let mut come = now
            .iter()
            .filter(|address| !before.contains(address) && (!takes_turns || self.is_new(**address)));
        let mut changes = Vec::new();
        loop {
            match (gone.next(), come.next().copied()) {
                (None, None) => return changes,
                change => changes.push(change),
            }
        }
    }

    fn is_new(&self, address: IpAddr) -> bool {
        !self.known.contains(&address)
    }

    fn takes_turns(&self) -> bool {
        let (newer, older) = (self.answers.iter().skip(1), self.answers.iter());
        newer.zip(older).filter(|(newer, older)| newer != older).count() >= TURNS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().copied().map(ip).collect()
    }

    /// After these answers, each of them settled.
    fn after(answers: &[&[u8]]) -> Whereabouts {
        let mut name = Whereabouts::default();
        for answer in answers {
            name.note(&ips(answer));
            name.settle();
        }
        name
    }

    /// The same, and one more that is not settled yet.
    fn now(answers: &[&[u8]], newest: &[u8]) -> Whereabouts {
        let mut name = after(answers);
        name.note(&ips(newest));
        name
    }

    #[test]
    fn a_name_that_leads_elsewhere_has_moved_and_so_it_has_when_it_comes_back() {
        let name = now(&[&[1], &[1]], &[2]);
        assert!(name.moved(ip(1), ip(2)) && !name.leads_to(ip(1)) && name.leads_to(ip(2)));
        assert_eq!(name.changes(), [(Some(ip(1)), Some(ip(2)))]);
        let back = now(&[&[1], &[2], &[2], &[2]], &[1]);
        assert!(back.moved(ip(2), ip(1)));
    }

    #[test]
    fn several_addresses_in_any_order_are_one_place() {
        let name = now(&[&[1, 2], &[2, 1]], &[1, 2]);
        assert!(!name.moved(ip(1), ip(2)) && name.changes().is_empty());
        let one_less = now(&[&[1, 2]], &[2]);
        assert!(one_less.moved(ip(1), ip(2)));
        assert_eq!(one_less.changes(), [(Some(ip(1)), None)]);
        assert_eq!(now(&[&[1]], &[1, 3]).changes(), [(None, Some(ip(3)))]);
        assert_eq!(now(&[&[1, 2]], &[1, 3, 4]).changes(), [(Some(ip(2)), Some(ip(3))), (None, Some(ip(4)))]);
    }

    #[test]
    fn a_name_that_takes_turns_moves_only_to_what_was_never_seen() {
        let turns: &[&[u8]] = &[&[1], &[2], &[3], &[1], &[3], &[2]];
        let same = now(turns, &[1]);
        assert!(!same.moved(ip(2), ip(1)) && same.changes().is_empty());
        assert!(same.leads_to(ip(3)), "a kept connection may stay where it is");
        let new = now(turns, &[7]);
        assert!(new.moved(ip(2), ip(7)));
        assert_eq!(new.changes(), [(None, Some(ip(7)))]);
    }

    #[test]
    fn however_long_a_name_takes_turns_each_address_is_new_once() {
        let mut name = Whereabouts::default();
        let mut changes = 0;
        for turn in 0..1_000u32 {
            let address = ip((turn.wrapping_mul(7) % 5) as u8);
            name.note(&[address]);
            changes += name.changes().len();
            name.settle();
        }
        assert!(changes <= 5 + TURNS, "{changes}");
    }

    #[test]
    fn once_it_has_stood_still_for_a_while_a_name_no_longer_takes_turns() {
        let mut answers: Vec<&[u8]> = vec![&[1], &[2], &[1], &[2]];
        answers.extend([&[2u8][..]; 9]);
        assert!(now(&answers, &[1]).moved(ip(2), ip(1)));
    }

    #[test]
    fn nothing_is_told_before_there_is_something_to_compare() {
        let mut name = Whereabouts::default();
        assert!(!name.moved(ip(1), ip(2)) && !name.is_known());
        name.note(&[]);
        assert!(!name.is_known());
        name.note(&ips(&[1]));
        assert!(name.is_known() && name.changes().is_empty());
    }

    #[test]
    fn of_thousands_of_addresses_a_bounded_number_is_kept() {
        let many: Vec<IpAddr> = (0..4_000u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
        let mut name = Whereabouts::default();
        name.note(&many);
        assert!(!many[1..].iter().any(|address| name.moved(many[0], *address)));
        for part in many.chunks(100) {
            name.note(part);
            name.settle();
        }
        assert!(name.known.len() <= ADDRESSES && name.answers.iter().all(|answer| answer.len() <= ADDRESSES));
        assert!(name.answers.len() <= ANSWERS);
    }
}
