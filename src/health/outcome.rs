//! What one check found.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Details, FailureKind, Now, Observation, PoolStats, closed_set};

closed_set! {
    /// The steps of an attempt, in the order in which they can happen.
    pub enum Phase {
        /// The name becomes addresses.
        Dns = "dns",
        /// The TCP handshake.
        Connect = "connect",
        /// The TLS handshake.
        Tls = "tls",
        /// The protocol's own start: PostgreSQL's start-up and authentication, Redis' `AUTH`.
        Auth = "auth",
        /// The question and its answer.
        Query = "query",
    }
}

/// How long each phase of an attempt took; phases that did not run have no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PhaseTimes([Option<Duration>; Phase::ALL.len()]);

impl PhaseTimes {
    /// Adds `elapsed` to a phase: one that runs twice (a broken connection made anew) counts both.
    pub fn add(&mut self, phase: Phase, elapsed: Duration) {
        let slot = &mut self.0[phase as usize];
        *slot = Some(slot.unwrap_or_default().saturating_add(elapsed));
    }

    /// The time of one phase.
    pub fn get(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }

    /// The phases that ran, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> + '_ {
        Phase::ALL.iter().filter_map(|phase| Some((*phase, self.get(*phase)?)))
    }
}

/// Identifies one check in logs, history and events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckId(Arc<str>);

impl CheckId {
    /// An identifier; the caller sees to it that it is unique.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an attempt failed, for operators. Strangers are shown the kind alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it failed.
    pub phase: Phase,
    /// What failed.
    pub kind: FailureKind,
    /// SQLSTATE, Redis error prefix, errno or DNS response code, where there is one.
    pub code: Option<String>,
    /// What was seen. Holds no secret.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether another attempt, a moment later, could succeed with nobody having done anything. As a rule the kind
    /// decides.
    pub may_pass: bool,
}

impl Failure {
    /// A failure with the kind's own hint.
    pub fn new(phase: Phase, kind: FailureKind, message: impl Into<String>) -> Self {
        let may_pass = kind.may_pass();
        Self { phase, kind, code: None, message: message.into(), hint: kind.hint().into(), may_pass }
    }

    /// One that another attempt will meet again, whatever its kind: a person has to mend it.
    pub fn lasting(self) -> Self {
        Self { may_pass: false, ..self }
    }

    /// One that can pass by itself, whatever its kind: its peer said so.
    pub fn passing(self) -> Self {
        Self { may_pass: true, ..self }
    }

    /// With the code that the peer or the kernel gave.
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// With a better hint than the kind's own.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// What to do about it, and where the docs tell more: what an operator is shown in place of the bare hint.
    pub fn help(&self) -> String {
        format!("{} ({}#{})", self.hint, FailureKind::DOCS, self.kind)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}", self.kind, self.phase, self.message)
    }
}

impl std::error::Error for Failure {}

/// What a check, or one attempt of it, came to.
pub type Outcome = Result<Observation, Failure>;

/// An address that a name no longer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftBehind {
    /// Where it led.
    pub from: SocketAddr,
    /// Where it leads.
    pub to: SocketAddr,
    /// Whether connections are still taken there.
    pub answers: bool,
}

/// One finished check.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its identifier.
    pub id: CheckId,
    /// When it began.
    pub at: Now,
    /// From the first attempt's beginning to the last one's end, pauses included.
    pub duration: Duration,
    /// How long the last attempt took: the latency of the dependency, where it succeeded.
    pub latency: Duration,
    /// Attempts made; all but the last one failed.
    pub attempts: u32,
    /// The phases of the last attempt.
    pub phases: PhaseTimes,
    /// The address last connected to, or tried.
    pub address: Option<SocketAddr>,
    /// What the name resolved to, where it was resolved.
    pub resolved: Vec<IpAddr>,
    /// The address that the name led to before, where it has just led elsewhere.
    pub left_behind: Option<LeftBehind>,
    /// Whether the last attempt made a connection of its own.
    pub new_connection: bool,
    /// What it came to.
    pub outcome: Outcome,
    /// What the dependency told before the check failed; nothing where it succeeded or had not got that far.
    pub seen_before_failing: Details,
    /// The probe's connections after the check, where it keeps any.
    pub pool: Option<PoolStats>,
}

impl Check {
    /// Whether it succeeded.
    pub fn ok(&self) -> bool {
        self.outcome.is_ok()
    }

    /// When it ended, on the monotonic clock.
    pub fn ended(&self) -> super::Monotonic {
        self.at.mono + self.duration
    }

    /// The attempts that failed.
    pub fn failed_attempts(&self) -> u32 {
        if self.ok() { self.attempts.saturating_sub(1) } else { self.attempts }
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.outcome.as_ref().err()
    }

    /// What it saw, if it succeeded.
    pub fn observation(&self) -> Option<&Observation> {
        self.outcome.as_ref().ok()
    }

    /// What the dependency told of itself, whether the check succeeded or not: one of the wrong role told its role.
    pub fn details(&self) -> Option<&Details> {
        let details = match &self.outcome {
            Ok(seen) => &seen.details,
            Err(_) => &self.seen_before_failing,
        };
        Some(details).filter(|details| **details != Details::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_runs_twice_counts_both_and_one_that_did_not_run_has_no_time() {
        let mut times = PhaseTimes::default();
        times.add(Phase::Query, Duration::from_millis(2));
        times.add(Phase::Connect, Duration::from_millis(1));
        times.add(Phase::Query, Duration::from_millis(3));
        let seen: Vec<_> = times.iter().map(|(p, d)| (p.as_str(), d.as_millis())).collect();
        assert_eq!(seen, [("connect", 1), ("query", 5)]);
        assert_eq!(times.get(Phase::Tls), None);
    }
}
