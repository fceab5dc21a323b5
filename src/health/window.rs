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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::health::test_support::{millis, mono, secs};

    /// A window into which these attempts fell, a check a minute: (attempts, failed).
    fn counted(checks: &[(u32, u32)]) -> (Window, Monotonic) {
        let mut window = Window::default();
        let mut at = Monotonic::ZERO;
        for (attempts, failed) in checks {
            at = at + secs(60);
            window.record(at, *attempts, *failed, None);
        }
        (window, at)
    }

    #[test]
    fn an_empty_window_tells_nothing() {
        assert_eq!(Window::default().latency(mono(secs(1))), None);
        assert!(!Window::default().flaky(mono(secs(1))));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut window = Window::default();
        for n in (1..=100).rev() {
            window.record(mono(secs(1)), 1, 0, Some(millis(n)));
        }
        let seen = window.latency(mono(secs(1))).expect("some");
        assert_eq!((seen.count, seen.p50, seen.p90, seen.p99), (100, millis(50), millis(90), millis(99)));
        assert_eq!(seen.max, millis(100));
    }

    #[test]
    fn one_latency_is_every_percentile() {
        let mut window = Window::default();
        window.record(mono(secs(1)), 1, 0, Some(millis(7)));
        let seven = millis(7);
        let expected = Latency { count: 1, p50: seven, p90: seven, p99: seven, max: seven };
        assert_eq!(window.latency(mono(secs(1))), Some(expected));
    }

    #[test]
    fn a_failed_check_has_no_latency() {
        let mut window = Window::default();
        window.record(mono(secs(1)), 3, 3, None);
        assert_eq!(window.latency(mono(secs(1))), None);
    }

    #[test]
    fn latencies_leave_after_exactly_the_span() {
        let mut window = Window::default();
        window.record(mono(secs(1)), 1, 0, Some(millis(7)));
        assert!(window.latency(mono(secs(301))).is_some());
        assert!(window.latency(mono(secs(301) + Duration::from_nanos(1))).is_none());
    }

    #[test]
    fn failed_attempts_leave_with_the_span() {
        let (window, at) = counted(&[(10, 10)]);
        assert!(window.flaky(at + SPAN));
        assert!(!window.flaky(at + SPAN + Duration::from_nanos(1)));
    }

    #[test]
    fn flaky_is_more_than_a_fifth_of_at_least_ten() {
        for (attempts, failed, flaky) in [
            (10, 2, false),
            (10, 3, true),
            (9, 9, false),
            (10, 10, true),
            (11, 2, false),
            (14, 3, true),
            (15, 3, false),
            (1000, 200, false),
            (1000, 201, true),
        ] {
            let (window, at) = counted(&[(attempts, failed)]);
            assert_eq!(window.flaky(at), flaky, "{failed} of {attempts}");
        }
    }

    #[test]
    fn the_tenth_attempt_decides() {
        let mut window = Window::default();
        for n in 1..=10u64 {
            window.record(mono(secs(n * 10)), 1, u32::from(n % 2 == 0), None);
            assert_eq!(window.flaky(mono(secs(n * 10))), n == 10, "attempt {n}");
        }
    }

    #[test]
    fn what_is_forgiven_does_not_count_and_the_latencies_stay() {
        let mut window = Window::default();
        window.record(mono(secs(1)), 30, 29, Some(millis(5)));
        assert!(window.flaky(mono(secs(1))));
        window.forgive();
        assert!(!window.flaky(mono(secs(1))));
        assert_eq!(window.latency(mono(secs(1))).map(|l| l.count), Some(1));
        window.record(mono(secs(2)), 9, 9, None);
        assert!(!window.flaky(mono(secs(2))), "nine since then");
        window.record(mono(secs(3)), 1, 0, None);
        assert!(window.flaky(mono(secs(3))), "ten since then");
    }

    #[test]
    fn memory_is_bounded_whatever_the_rate() {
        let mut window = Window::default();
        for n in 0..100_000 {
            window.record(mono(millis(n * 20)), 3, 1, Some(millis(n % 50)));
        }
        assert_eq!(window.latencies.len(), LATENCIES_KEPT);
        assert!(
            window.slices.len() as u64 <= SPAN.as_secs() / SLICE.as_secs() + 1,
            "{}",
            window.slices.len()
        );
        let seen = window.latency(mono(millis(99_999 * 20))).expect("some");
        assert_eq!(seen.count, LATENCIES_KEPT);
    }

    #[test]
    fn standing_time_and_endless_counts_do_no_harm() {
        let mut window = Window::default();
        for _ in 0..10 {
            window.record(mono(Duration::MAX), u32::MAX, u32::MAX, Some(Duration::MAX));
        }
        assert!(window.flaky(mono(Duration::MAX)));
        assert_eq!(window.slices.len(), 1);
        assert_eq!(window.latency(mono(Duration::MAX)).map(|l| l.max), Some(Duration::MAX));
        assert!(window.flaky(Monotonic::ZERO), "read with an older time than it was written");
    }

    proptest! {
        /// All that was ever recorded, sorted anew for each question.
        #[test]
        fn percentiles_are_those_of_a_naive_sort(
            checks in vec((0u64..20_000, prop::option::of(0u64..3_000)), 1..700), later in 0u64..400,
        ) {
            let mut window = Window::default();
            let mut all = Vec::new();
            let mut at = Monotonic::ZERO;
            for (gap, latency) in checks {
                // Most come in a row, so that the bound of 512 is met as well as the span.
                at = at + millis(gap.saturating_sub(19_000) * 20);
                window.record(at, 1, u32::from(latency.is_none()), latency.map(millis));
                all.extend(latency.map(|latency| (at, millis(latency))));
            }
            let reader = at + secs(later);
            let newest = all.len().saturating_sub(512);
            let mut left: Vec<Duration> =
                all[newest..].iter().filter(|(at, _)| reader.since(*at) <= SPAN).map(|(_, l)| *l).collect();
            left.sort();
            let rank = |share: f64| left[(share * left.len() as f64).ceil() as usize - 1];
            let expected = (!left.is_empty()).then(|| Latency {
                count: left.len(), p50: rank(0.5), p90: rank(0.9), p99: rank(0.99), max: rank(1.0),
            });
            prop_assert_eq!(window.latency(reader), expected);
        }

        #[test]
        fn flaky_counts_the_last_five_minutes(
            checks in vec((10u64..100, 1u32..5, 0u32..5), 1..60), later in 0u64..320,
        ) {
            let mut window = Window::default();
            let mut all = Vec::new();
            let mut at = Monotonic::ZERO;
            for (gap, attempts, failed) in checks {
                at = at + secs(gap);
                let failed = failed.min(attempts);
                window.record(at, attempts, failed, None);
                all.push((at, attempts, failed));
            }
            let reader = at + secs(later);
            let (attempts, failed) = all
                .iter()
                .filter(|(at, ..)| reader.since(*at) <= SPAN)
                .fold((0, 0), |(a, f), (_, attempts, failed)| (a + attempts, f + failed));
            prop_assert_eq!(window.flaky(reader), attempts >= 10 && failed * 5 > attempts);
        }
    }
}
