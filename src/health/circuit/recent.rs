//! How many checks succeeded and failed in the last minutes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::health::Monotonic;

/// Checks are counted in slices of this length, which begin at its multiples after the origin.
const SLICE: Duration = Duration::from_secs(10);

/// How far back can be looked: a quarter of an hour.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// So many checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// That succeeded.
    pub successes: u64,
    /// That failed.
    pub failures: u64,
}

impl Tally {
    /// All of them.
    pub fn checks(self) -> u64 {
        self.successes + self.failures
    }

    /// The share of them that succeeded; `None` where there were none.
    pub fn success_rate(self) -> Option<f64> {
        self.share(self.successes)
    }

    /// The share of them that failed; `None` where there were none.
    pub fn failure_rate(self) -> Option<f64> {
        self.share(self.failures)
    }

    fn share(self, part: u64) -> Option<f64> {
        let all = self.checks();
        (all > 0).then(|| part as f64 / all as f64)
    }
}

/// The checks of the last quarter of an hour, oldest first. Slices in which none ended take no room.
#[derive(Debug, Clone, Default)]
pub struct Recent(VecDeque<Slice>);

#[derive(Debug, Clone, Copy)]
struct Slice {
    number: u64,
    successes: u32,
    failures: u32,
}

impl Recent {
    /// A check ended now.
    pub(super) fn record(&mut self, now: Monotonic, ok: bool) {
        let number = slice(now);
        while self.0.front().is_some_and(|oldest| number.saturating_sub(oldest.number) >= slices(LONGEST)) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|newest| newest.number < number) {
            self.0.push_back(Slice { number, successes: 0, failures: 0 });
        }
        if let Some(newest) = self.0.back_mut() {
            let count = if ok { &mut newest.successes } else { &mut newest.failures };
            *count = count.saturating_add(1);
        }
    }

    /// The checks that ended within this long before `now`, which is at most a quarter of an hour: those of the slice that is not
    /// over yet, and of as many before it as make up the span with it.
    pub fn within(&self, span: Duration, now: Monotonic) -> Tally {
        let number = slice(now);
        let slices = self.0.iter().rev().take_while(|it| number.saturating_sub(it.number) < slices(span));
        slices.fold(Tally::default(), |sum, it| Tally {
            successes: sum.successes + u64::from(it.successes),
            failures: sum.failures + u64::from(it.failures),
        })
    }
}

fn slice(at: Monotonic) -> u64 {
    at.since_origin().as_secs() / SLICE.as_secs()
}

fn slices(span: Duration) -> u64 {
    span.as_secs() / SLICE.as_secs()
}
