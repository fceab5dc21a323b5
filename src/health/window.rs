//! What the last five minutes were like: latency percentiles, and the share of attempts that failed.

use std::collections::VecDeque;
use std::time::Duration;

use super::Monotonic;

/// How far back a window looks.
pub const SPAN: Duration = Duration::from_secs(300);

/// Latencies kept at most: one a second for the whole span would be 300.
const LATENCIES_KEPT: usize = 512;

/// Attempts are counted in slices of this length; a slice is dropped whole once it is out of the span.
const SLICE: Duration = Duration::from_secs(10);

/// A share of failed attempts above this makes a dependency flaky…
const FLAKY_ABOVE: f64 = 0.2;
/// …if there were at least this many.
const FLAKY_FROM: u32 = 10;

/// A rolling window over the checks of one dependency.
#[derive(Debug, Clone, Default)]
pub struct Window {
    latencies: VecDeque<(Monotonic, Duration)>,
    slices: VecDeque<Slice>,
}

#[derive(Debug, Clone, Copy)]
struct Slice {
    began: Monotonic,
    attempts: u32,
    failed: u32,
}

/// Percentiles of the successful checks in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// How many there were.
    pub count: usize,
    /// The median.
    pub p50: Duration,
    /// Nine in ten were at most this.
    pub p90: Duration,
    /// Ninety-nine in a hundred were at most this.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Window {
    /// Counts the attempts of a check that ended now, and its latency where it succeeded.
    pub fn record(&mut self, now: Monotonic, attempts: u32, failed: u32, latency: Option<Duration>) {
        self.forget_before(now);
        match self.slices.back_mut() {
            Some(slice) if now.since(slice.began) < SLICE => {
                slice.attempts = slice.attempts.saturating_add(attempts);
                slice.failed = slice.failed.saturating_add(failed);
            }
            _ => self.slices.push_back(Slice { began: now, attempts, failed }),
        }
        if let Some(latency) = latency {
            if self.latencies.len() == LATENCIES_KEPT {
                self.latencies.pop_front();
            }
            self.latencies.push_back((now, latency));
        }
    }

    /// Forgets the attempts counted so far: a circuit that has just closed begins anew.
    pub fn forgive(&mut self) {
        self.slices.clear();
    }

    /// Whether too many attempts failed although the checks may have succeeded.
    pub fn flaky(&self, now: Monotonic) -> bool {
        let (attempts, failed) = self
            .slices
            .iter()
            .filter(|slice| now.since(slice.began) <= SPAN)
            .fold((0u32, 0u32), |(a, f), s| (a.saturating_add(s.attempts), f.saturating_add(s.failed)));
        attempts >= FLAKY_FROM && f64::from(failed) > FLAKY_ABOVE * f64::from(attempts)
    }

    /// The percentiles (nearest rank) of what is in the window; `None` where nothing is.
    pub fn latency(&self, now: Monotonic) -> Option<Latency> {
        let mut sorted: Vec<Duration> = self
            .latencies
            .iter()
            .filter(|(at, _)| now.since(*at) <= SPAN)
            .map(|(_, latency)| *latency)
            .collect();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)];
        Some(Latency { count: sorted.len(), p50: rank(50), p90: rank(90), p99: rank(99), max })
    }

    fn forget_before(&mut self, now: Monotonic) {
        while self.slices.front().is_some_and(|slice| now.since(slice.began) > SPAN) {
            self.slices.pop_front();
        }
        while self.latencies.front().is_some_and(|(at, _)| now.since(*at) > SPAN) {
            self.latencies.pop_front();
        }
    }
}
