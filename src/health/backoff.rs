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
        let seconds = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
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

    proptest! {
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
