//! What is watched, and by which rules.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::{circuit, closed_set};

/// The name of a dependency: how YAML, JSON, logs, metrics and the command line call it.
///
/// 1 to 63 lower-case letters, digits, `-` and `_`, beginning with a letter; `config/` refuses anything else,
/// so that a name needs no escaping anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DependencyName(Arc<str>);

impl DependencyName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 63;

    /// The name, if `text` is one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut chars = text.chars();
        let first = chars.next()?;
        let valid = first.is_ascii_lowercase()
            && text.len() <= Self::MAX_LEN
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        valid.then(|| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DependencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

closed_set! {
    /// What is spoken with a dependency.
    pub enum Kind {
        /// PostgreSQL, RDS and Aurora included.
        Postgres = "postgres",
        /// Redis, Valkey, ElastiCache.
        Redis = "redis",
        /// A name and its records.
        Dns = "dns",
        /// A port.
        Tcp = "tcp",
        /// An HTTP or HTTPS service.
        Http = "http",
    }
}

closed_set! {
    /// What the failure of a dependency does to the service.
    pub enum Impact {
        /// The service cannot serve.
        Critical = "critical",
        /// The service serves less.
        Degraded = "degraded",
        /// Nothing: it is only watched.
        None = "none",
    }
}

closed_set! {
    /// Whom a dependency belongs to.
    pub enum Scope {
        /// This task alone: replacing the task can help.
        Local = "local",
        /// The whole fleet: replacing the task cannot help.
        Shared = "shared",
    }
}

/// All that the core has to know of one dependency; resolved and validated by `config/`.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How it is called.
    pub name: DependencyName,
    /// What is spoken with it.
    pub kind: Kind,
    /// What its failure does to the service.
    pub impact: Impact,
    /// Whom it belongs to.
    pub scope: Scope,
    /// Why it is not checked; `None` where it is.
    pub disabled: Option<String>,
    /// What is checked, for people: `db.internal:5432/mlflow_db`. Never holds a secret.
    pub target: String,
    /// From one check to the next.
    pub interval: Duration,
    /// From one check to the next before the first success; doubles up to `interval`.
    pub startup_interval: Duration,
    /// The whole check, retries included.
    pub timeout: Duration,
    /// A successful check that took longer is `degraded`.
    pub slow_after: Duration,
    /// A server's certificate that ends sooner than this makes it `degraded`.
    pub certificate_warning: Duration,
    /// Attempts in one check; half-open trials have one.
    pub attempts: NonZeroU32,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// When checks stop, and how they come back.
    pub circuit: circuit::Settings,
    /// Dependencies through which this one can fail without being at fault (an API whose health path asks
    /// the database).
    pub depends_on: Vec<DependencyName>,
    /// The dependency whose place this one can take.
    pub fallback_of: Option<DependencyName>,
}

impl Policy {
    /// Whether it is checked at all.
    pub fn enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// From the moment a dependency breaks to an open circuit, at worst: it breaks just after a check, and
    /// every check that fails takes its whole timeout.
    pub fn worst_detection(&self) -> Duration {
        let to_the_next = self.interval.mul_f64(1.0 + super::schedule::JITTER);
        let repeats = self.circuit.failure_threshold.get() - 1;
        to_the_next + to_the_next.max(self.timeout).saturating_mul(repeats) + self.timeout
    }

    /// From the moment a dependency works again to a closed circuit, at worst: it comes back just after a
    /// trial began that fails nevertheless, at the end of its timeout. The trials that succeed are taken to be
    /// quick.
    pub fn worst_recovery(&self) -> Duration {
        let trials = self.circuit.half_open_interval.min(self.interval);
        let repeats = self.circuit.success_threshold.get() - 1;
        // Jitter is added to points of a grid: it does not add up.
        let jitter = if repeats > 0 { trials.mul_f64(super::schedule::JITTER) } else { Duration::ZERO };
        self.timeout
            + self.circuit.longest_recovery_timeout().mul_f64(1.1)
            + trials.saturating_mul(repeats)
            + jitter
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::health::circuit::{Settings, State};
    use crate::health::test_support::{
        Chance, api_policy, count, failed, millis, now, policy, secs, succeeded,
    };
    use crate::health::{FailureKind, Fraction, Monotonic, Record};

    #[test]
    fn the_worst_cases_of_the_defaults() {
        // Found within an interval and its jitter, then five timeouts, each after another interval.
        assert_eq!(policy("database").worst_detection(), millis(10_500 * 5 + 10_000));
        // A trial that fails late, a long recovery timeout, two more trials.
        assert_eq!(policy("database").worst_recovery(), millis(10_000 + 66_000 + 4_100));
        let circuit = Settings { recovery_timeout_max: Some(secs(300)), ..policy("database").circuit };
        let growing = Policy { circuit, ..policy("database") };
        assert_eq!(growing.worst_recovery(), millis(10_000 + 330_000 + 4_100));
        assert_eq!(api_policy(Kind::Tcp).worst_detection(), millis(5_250 * 2 + 2_000));
        assert_eq!(api_policy(Kind::Tcp).worst_recovery(), millis(2_000 + 5_500));
    }

    /// A record that breaks at a moment of its choice, drives its checks until its circuit opens, comes back
    /// at another and is driven until it closes. Returns how long each took.
    fn detected_and_recovered(
        policy: &Policy,
        healthy_checks: u32,
        down_for: Duration,
        failing_takes: &[f64],
        seed: u64,
    ) -> (Duration, Duration) {
        let mut chance = Chance::new(seed);
        // The ends of the range are the worst cases: draw them often.
        let mut draw = || match chance.draw().get() {
            low if low < 0.2 => Fraction::ZERO,
            high if high > 0.8 => Fraction::new(1.0),
            middle => Fraction::new(middle),
        };
        let quick = millis(1);
        let mut record = Record::new(Arc::new(policy.clone()), now(Duration::ZERO), draw());
        let mut broke = Monotonic::ZERO;
        for _ in 0..healthy_checks {
            let due = record.due();
            record.admit(now(due.since_origin())).expect("closed");
            record.finish(succeeded(due.since_origin(), quick), draw());
            // Just after a check: nobody will look for a whole interval.
            broke = due + quick;
        }
        let works_again = broke + down_for;
        let mut takes = failing_takes.iter().cycle();
        let mut opened = None;
        // Far more checks than any of these outages has.
        for _ in 0..10_000 {
            let due = record.due();
            record.admit(now(due.since_origin())).expect("due");
            if due >= works_again {
                record.finish(succeeded(due.since_origin(), quick), draw());
            } else {
                let share = takes.next().copied().unwrap_or(1.0);
                let took = policy.timeout.mul_f64(share);
                record.finish(failed(due.since_origin(), took, FailureKind::Timeout), draw());
            }
            let circuit = record.view(record.due()).circuit;
            match circuit.state {
                State::Open => {
                    opened.get_or_insert(circuit.since.mono.since(broke));
                }
                State::Closed => {
                    if let Some(opened) = opened {
                        return (opened, circuit.since.mono.since(works_again));
                    }
                }
                State::HalfOpen => {}
            }
        }
        panic!("it was over before it was noticed")
    }

    proptest! {
        #[test]
        fn no_outage_is_found_or_left_later_than_the_worst_case(
            interval in 1_000u64..30_000, timeout in 100u64..60_000, thresholds in (1u32..7, 1u32..6),
            recovery in 1_000u64..90_000, grows_by in prop::option::of(0u64..200_000), half_open in 500u64..20_000,
            takes in vec(prop_oneof![Just(1.0), Just(0.0), 0.0..=1.0], 1..10),
            extra in 0u64..200_000, seed: u64,
        ) {
            let policy = Policy {
                interval: millis(interval),
                timeout: millis(timeout),
                circuit: circuit::Settings {
                    failure_threshold: count(thresholds.0),
                    recovery_timeout: millis(recovery),
                    recovery_timeout_max: grows_by.map(|more| millis(recovery + more)),
                    success_threshold: count(thresholds.1),
                    half_open_interval: millis(half_open),
                },
                ..policy("database")
            };
            let down_for = policy.worst_detection() + millis(extra);
            let (detection, recovery) = detected_and_recovered(&policy, 3, down_for, &takes, seed);
            prop_assert!(detection <= policy.worst_detection(), "{detection:?} {:?}", policy.worst_detection());
            // The trials that succeed take a millisecond each.
            let quick = millis(1) * thresholds.1;
            prop_assert!(recovery <= policy.worst_recovery() + quick, "{recovery:?} {:?}", policy.worst_recovery());
        }
    }

    #[test]
    fn the_worst_recovery_does_happen() {
        let policy = policy("database");
        let worst = (0..3_000)
            .map(|n| {
                let down_for = policy.worst_detection() + millis(n * 37);
                detected_and_recovered(&policy, 3, down_for, &[1.0], n).1
            })
            .max()
            .expect("some");
        assert!(worst > policy.worst_recovery() - secs(1), "{worst:?} of {:?}", policy.worst_recovery());
    }

    #[test]
    fn names_need_no_escaping() {
        for good in ["database", "db-1", "a", "read_replica", &"a".repeat(63)] {
            assert!(DependencyName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "1db", "-a", "Data", "a b", "a/b", "ä", "a\"b", &"a".repeat(64)] {
            assert!(DependencyName::parse(bad).is_none(), "{bad}");
        }
    }
}
