//! The pauses between the attempts of one check.

use std::time::Duration;

use super::{Fraction, closed_set};

closed_set! {
    /// How a pause is spread, so that a fleet does not knock in step.
    pub enum Jitter {
        /// Anything from nothing to the whole pause ("full jitter").
        Full = "full",
        /// The pause as computed.
        None = "none",
    }
}

/// Exponential back-off with a cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The pause after the first attempt, before jitter.
    pub initial: Duration,
    /// No pause is longer, before or after jitter.
    pub max: Duration,
    /// Each pause is this many times the one before; at least 1.
    pub multiplier: f64,
    /// How it is spread.
    pub jitter: Jitter,
}

impl Backoff {
    /// The pause after the `attempt`th attempt (the first is 1).
    pub fn pause(&self, attempt: u32, draw: Fraction) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        // Finite, so that no pause at all, however often multiplied, stays none.
        let growth = self.multiplier.powi(exponent).min(f64::MAX);
        let seconds = self.initial.as_secs_f64() * growth;
        // Compared as numbers first: an overflow to infinity must end at the cap, not in a panic.
        let capped =
            if seconds < self.max.as_secs_f64() { Duration::from_secs_f64(seconds) } else { self.max };
        match self.jitter {
            Jitter::Full => draw.of(capped),
            Jitter::None => capped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Backoff = Backoff {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(2),
        multiplier: 2.0,
        jitter: Jitter::None,
    };

    #[test]
    fn doubles_up_to_the_cap() {
        let pauses: Vec<u128> = (1..=7).map(|n| PLAIN.pause(n, Fraction::HALF).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn full_jitter_goes_from_nothing_to_the_whole_pause() {
        let full = Backoff { jitter: Jitter::Full, ..PLAIN };
        assert_eq!(full.pause(3, Fraction::ZERO), Duration::ZERO);
        assert_eq!(full.pause(3, Fraction::HALF), Duration::from_millis(200));
        let most = full.pause(3, Fraction::new(1.0));
        assert!(most > Duration::from_millis(399) && most <= Duration::from_millis(400), "{most:?}");
    }

    #[test]
    fn without_jitter_chance_has_no_say() {
        assert_eq!(PLAIN.pause(2, Fraction::ZERO), PLAIN.pause(2, Fraction::new(0.9)));
    }

    #[test]
    fn a_multiplier_of_one_keeps_the_pause_and_no_pause_stays_none() {
        let even = Backoff { multiplier: 1.0, ..PLAIN };
        assert_eq!(even.pause(1, Fraction::HALF), even.pause(1_000_000, Fraction::HALF));
        let none = Backoff { initial: Duration::ZERO, ..PLAIN };
        for attempt in [1, 2, 100, u32::MAX] {
            assert_eq!(none.pause(attempt, Fraction::HALF), Duration::ZERO, "attempt {attempt}");
        }
    }

    proptest! {
        #[test]
        fn never_shorter_than_the_one_before(attempt in 1u32..5_000, multiplier in 1.0..100.0) {
            let backoff = Backoff { multiplier, ..PLAIN };
            prop_assert!(backoff.pause(attempt, Fraction::ZERO) <= backoff.pause(attempt + 1, Fraction::ZERO));
        }

        #[test]
        fn never_beyond_the_cap_whatever_the_attempt(attempt: u32, draw in 0.0..1.0, multiplier in 1.0..100.0) {
            let full = Backoff { multiplier, jitter: Jitter::Full, ..PLAIN };
            let none = Backoff { multiplier, ..PLAIN };
            let draw = Fraction::new(draw);
            prop_assert!(none.pause(attempt, draw) <= PLAIN.max);
            prop_assert!(full.pause(attempt, draw) <= none.pause(attempt, draw));
        }
    }
}
