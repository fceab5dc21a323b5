//! Time and chance as values.
//!
//! Two clocks are kept apart on purpose. Decisions (is it due, is it stale, has it recovered) use
//! [`Monotonic`], which never goes back. [`WallTime`] is only shown: it may jump when the machine's clock is
//! set, and nothing in the core subtracts one from another.

use std::ops::Add;
use std::time::Duration;

/// A point on a clock that never goes back: the time since an origin that the reader of the clock chose
/// (the agent's start).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The origin.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The point this long after the origin.
    pub const fn after_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the origin this is.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    /// Saturates: a point beyond the end of time is the end of time.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// A calendar time, for people: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(i64);

impl WallTime {
    /// The time this many milliseconds after the Unix epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For decisions.
    pub mono: Monotonic,
    /// For people.
    pub wall: WallTime,
}

impl Now {
    /// The calendar time that a monotonic point will have, or had, if the machine's clock is not set meanwhile.
    pub fn wall_at(self, point: Monotonic) -> WallTime {
        let ahead = point.since(self.mono).as_millis().min(i64::MAX as u128) as i64;
        let behind = self.mono.since(point).as_millis().min(i64::MAX as u128) as i64;
        WallTime(self.wall.0.saturating_add(ahead).saturating_sub(behind))
    }
}

/// A random number in `[0, 1)`, drawn by the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fraction(f64);

impl Fraction {
    /// The lower end: no jitter at all where jitter only adds.
    pub const ZERO: Self = Self(0.0);
    /// The middle: no deviation where jitter goes both ways.
    pub const HALF: Self = Self(0.5);

    /// `value` brought into `[0, 1)`; what is not a number becomes 0.
    pub fn new(value: f64) -> Self {
        // The largest f64 below 1: a draw of exactly 1 would leave the half-open range.
        const BELOW_ONE: f64 = 1.0 - f64::EPSILON / 2.0;
        if value.is_nan() { Self::ZERO } else { Self(value.clamp(0.0, BELOW_ONE)) }
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// This share of `span`.
    pub fn of(self, span: Duration) -> Duration {
        span.mul_f64(self.0)
    }
}

/// A span in milliseconds, to the microsecond: how JSON and logs give durations.
pub fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_or_is_read_out_of_order_gives_zero_not_a_panic() {
        let (a, b) = (Monotonic::after_origin(Duration::from_secs(5)), Monotonic::ZERO);
        assert_eq!(a.since(a), Duration::ZERO);
        assert_eq!(b.since(a), Duration::ZERO);
        assert_eq!(a.since(b), Duration::from_secs(5));
        assert_eq!(a + Duration::MAX, Monotonic::after_origin(Duration::MAX));
    }

    #[test]
    fn wall_time_of_a_point_lies_on_the_right_side_of_now() {
        let now = Now {
            mono: Monotonic::after_origin(Duration::from_secs(100)),
            wall: WallTime::from_unix_millis(1_000_000),
        };
        assert_eq!(now.wall_at(now.mono + Duration::from_secs(2)).unix_millis(), 1_002_000);
        assert_eq!(now.wall_at(Monotonic::ZERO).unix_millis(), 900_000);
        assert_eq!(now.wall_at(now.mono).unix_millis(), 1_000_000);
    }

    #[test]
    fn a_fraction_never_reaches_one() {
        for value in [-1.0, 0.0, 0.3, 1.0, 7.0, f64::INFINITY, f64::NAN] {
            let f = Fraction::new(value).get();
            assert!((0.0..1.0).contains(&f), "{value} became {f}");
        }
    }
}
