//! The checks that are remembered. Failures outlive successes: after an hour of health, the evidence of the
//! outage before it is still there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Check;

/// Checks kept whatever they came to.
pub const RECENT_KEPT: usize = 20;
/// Failed checks kept after they left the recent ones.
pub const FAILURES_KEPT: usize = 30;

/// The remembered checks of one dependency.
#[derive(Debug, Clone, Default)]
pub struct History {
    recent: VecDeque<Arc<Check>>,
    /// Failures older than everything in `recent`.
    failures: VecDeque<Arc<Check>>,
}

impl History {
    /// Remembers a check, and forgets the oldest where there are too many.
    pub fn push(&mut self, check: Arc<Check>) {
        self.recent.push_back(check);
        if self.recent.len() <= RECENT_KEPT {
            return;
        }
        let Some(evicted) = self.recent.pop_front().filter(|check| !check.ok()) else { return };
        self.failures.push_back(evicted);
        if self.failures.len() > FAILURES_KEPT {
            self.failures.pop_front();
        }
    }

    /// The remembered checks, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Check>> {
        self.recent.iter().rev().chain(self.failures.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::health::FailureKind;
    use crate::health::test_support::{failed, millis, secs, succeeded};

    /// Check number `n`, made after as many seconds.
    fn check(n: u64, ok: bool) -> Arc<Check> {
        Arc::new(match ok {
            true => succeeded(secs(n), millis(1)),
            false => failed(secs(n), millis(1), FailureKind::ConnectRefused),
        })
    }

    fn numbers(history: &History) -> Vec<u64> {
        history.iter().map(|check| check.at.mono.since_origin().as_secs()).collect()
    }

    #[test]
    fn newest_first() {
        let mut history = History::default();
        assert!(numbers(&history).is_empty());
        for n in 0..3 {
            history.push(check(n, n != 1));
        }
        assert_eq!(numbers(&history), [2, 1, 0]);
    }

    #[test]
    fn failures_outlive_the_successes_after_them() {
        let mut history = History::default();
        for n in 0..10 {
            history.push(check(n, n != 4));
        }
        for n in 10..10_000 {
            history.push(check(n, true));
        }
        let mut expected: Vec<u64> = (9_980..10_000).rev().collect();
        expected.push(4);
        assert_eq!(numbers(&history), expected);
    }

    #[test]
    fn the_oldest_failures_go_when_there_are_too_many() {
        let mut history = History::default();
        for n in 0..1_000 {
            history.push(check(n, false));
        }
        assert_eq!(numbers(&history), (950..1_000).rev().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn is_the_newest_of_all_and_then_the_newest_failures(outcomes in vec(prop::bool::weighted(0.6), 0..200)) {
            let mut history = History::default();
            for (n, ok) in (0..).zip(&outcomes) {
                history.push(check(n, *ok));
            }
            let all: Vec<u64> = (0..outcomes.len() as u64).rev().collect();
            let split = all.len().min(RECENT_KEPT);
            let old_failures = all[split..].iter().filter(|n| !outcomes[**n as usize]).take(FAILURES_KEPT);
            let expected: Vec<u64> = all[..split].iter().chain(old_failures).copied().collect();
            prop_assert_eq!(numbers(&history), expected);
        }
    }
}
