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
    /// trial failed. The trials themselves are taken to be quick.
    pub fn worst_recovery(&self) -> Duration {
        let trials = self.circuit.half_open_interval.min(self.interval);
        let repeats = self.circuit.success_threshold.get() - 1;
        self.circuit.recovery_timeout.mul_f64(1.1) + trials.saturating_mul(repeats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
