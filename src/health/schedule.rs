//! When the next check is due.
//!
//! Checks lie on a grid: the next one is due one interval after the last one was *due*, not after it ended,
//! so that the rate does not drift with the latency. Each is pushed a little off its grid point, by chance,
//! so that many dependencies and many tasks do not knock in step. A check that outlasts its interval is
//! followed by the next one at once; those that were missed are skipped, so that a stall of the machine
//! ends in one check, not in a burst.

use std::time::Duration;

use super::{Fraction, Monotonic};

/// First checks are spread over this span, or over the first interval where that is shorter.
pub const FIRST_SPREAD: Duration = Duration::from_millis(200);

/// A check comes at most this share of its interval after its grid point.
pub const JITTER: f64 = 0.05;

/// The schedule of one dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    grid: Monotonic,
    due: Monotonic,
}

impl Schedule {
    /// The first check comes within [`FIRST_SPREAD`] of `now`.
    pub fn starting(now: Monotonic, interval: Duration, draw: Fraction) -> Self {
        let at = now + draw.of(interval.min(FIRST_SPREAD));
        Self { grid: at, due: at }
    }

    /// When the next check is due.
    pub fn due(&self) -> Monotonic {
        self.due
    }

    /// A check ended: the next one is an interval after this one was due, or now if that has passed.
    pub fn advance(&mut self, ended: Monotonic, interval: Duration, draw: Fraction) {
        let next = self.grid + interval;
        if next < ended {
            self.at(ended);
        } else {
            self.grid = next;
            self.due = next + draw.of(interval.mul_f64(JITTER));
        }
    }

    /// Puts the next check at a point of its own, from which the grid goes on.
    pub fn at(&mut self, point: Monotonic) {
        self.grid = point;
        self.due = point;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(seconds: u64) -> Monotonic {
        Monotonic::after_origin(Duration::from_secs(seconds))
    }

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn first_checks_are_spread_but_soon() {
        assert_eq!(Schedule::starting(s(1), TEN, Fraction::ZERO).due(), s(1));
        let late = Schedule::starting(s(1), TEN, Fraction::new(0.999)).due();
        assert!(late > s(1) && late < s(1) + FIRST_SPREAD);
        let quick = Schedule::starting(s(1), Duration::from_millis(10), Fraction::new(0.999)).due();
        assert!(quick < s(1) + Duration::from_millis(10));
    }

    #[test]
    fn does_not_drift_with_latency() {
        let mut schedule = Schedule::starting(s(0), TEN, Fraction::ZERO);
        for n in 1..=1000 {
            let ended = schedule.due() + Duration::from_millis(700);
            schedule.advance(ended, TEN, Fraction::new(0.9));
            assert!(schedule.due() >= s(10 * n));
            assert!(schedule.due() < s(10 * n) + Duration::from_millis(500));
        }
    }

    #[test]
    fn a_check_that_outlasts_its_interval_is_followed_at_once_and_by_one_only() {
        let mut schedule = Schedule::starting(s(0), TEN, Fraction::ZERO);
        schedule.advance(s(95), TEN, Fraction::HALF);
        assert_eq!(schedule.due(), s(95), "the missed ones are skipped");
        schedule.advance(s(96), TEN, Fraction::ZERO);
        assert_eq!(schedule.due(), s(105), "and the grid goes on from there");
    }

    #[test]
    fn jitter_comes_after_the_grid_point_and_is_spread_over_a_twentieth_of_the_interval() {
        let due = |draw| {
            let mut schedule = Schedule::starting(s(0), TEN, Fraction::ZERO);
            schedule.advance(s(0), TEN, Fraction::new(draw));
            schedule.due().since_origin()
        };
        assert_eq!(due(0.0), TEN);
        assert_eq!(due(0.5), Duration::from_millis(10_250));
        assert!(due(1.0) > Duration::from_millis(10_499) && due(1.0) <= Duration::from_millis(10_500));
    }

    #[test]
    fn a_stall_of_an_hour_ends_in_one_check() {
        let mut schedule = Schedule::starting(s(0), TEN, Fraction::ZERO);
        schedule.advance(s(1), TEN, Fraction::ZERO);
        assert_eq!(schedule.due(), s(10));
        // The machine sleeps; the check that was due at 10 s ends an hour late.
        schedule.advance(s(3_611), TEN, Fraction::HALF);
        assert_eq!(schedule.due(), s(3_611));
        let mut checks = 0;
        while schedule.due() < s(3_711) {
            schedule.advance(schedule.due(), TEN, Fraction::ZERO);
            checks += 1;
        }
        assert_eq!(checks, 10, "as many as in any other 100 s");
    }

    #[test]
    fn a_check_that_ends_on_the_next_grid_point_is_not_late() {
        let mut schedule = Schedule::starting(s(0), TEN, Fraction::ZERO);
        schedule.advance(s(10), TEN, Fraction::HALF);
        assert_eq!(schedule.due(), s(10) + Duration::from_millis(250));
    }

    #[test]
    fn a_point_of_its_own_begins_a_new_grid() {
        let mut schedule = Schedule::starting(s(0), TEN, Fraction::ZERO);
        schedule.at(s(63));
        assert_eq!(schedule.due(), s(63));
        schedule.advance(s(64), Duration::from_secs(2), Fraction::ZERO);
        assert_eq!(schedule.due(), s(65));
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let end = Monotonic::after_origin(Duration::MAX);
        let mut schedule = Schedule::starting(end, TEN, Fraction::HALF);
        schedule.advance(end, TEN, Fraction::HALF);
        assert_eq!(schedule.due(), end);
    }

    proptest! {
        #[test]
        fn the_next_check_is_never_in_the_past_nor_more_than_an_interval_and_its_jitter_away(
            latencies in proptest::collection::vec(0u64..40_000, 1..100), draw in 0.0..1.0,
        ) {
            let draw = Fraction::new(draw);
            let mut schedule = Schedule::starting(s(0), TEN, draw);
            for latency in latencies {
                let ended = schedule.due() + Duration::from_millis(latency);
                schedule.advance(ended, TEN, draw);
                prop_assert!(schedule.due() >= ended);
                prop_assert!(schedule.due() <= ended + TEN + TEN.mul_f64(JITTER));
            }
        }
    }
}
