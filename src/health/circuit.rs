//! The circuit of one dependency, in the electrical sense: closed is healthy.
//!
//! ```text
//!              failure_threshold failed checks in a row
//!   ┌────────┐ ───────────────────────────────────────► ┌──────┐
//!   │ closed │                                          │ open │ no checks
//!   └────────┘                     ┌─────────────────── └──────┘
//!        ▲                         │ recovery_timeout ±10 %, new addresses,  ▲
//!        │ success_threshold       ▼ or asked for                            │
//!        │ successes in a row  ┌───────────┐                                 │
//!        └──────────────────── │ half open │ ────────────────────────────────┘
//!                              └───────────┘ one failed trial
//! ```
//!
//! A state machine without a clock: time comes in with each call, so that a test can let it stand still or
//! jump. Before the first success it never opens: a dependency that has not yet been seen working is `down`
//! anyhow, and is asked often so that a start is seen soon.
//!
//! An operator can hold it closed or open by an [`Override`]. What is measured meanwhile is counted all the same and
//! decides nothing; when the override ends, a half-open trial does. The two are kept apart: `state` is what is in force,
//! `broken` what was measured.

mod overrides;
mod recent;

pub use overrides::{Actor, FOR_AT_MOST, FOR_BY_DEFAULT, Mode, Override, Readiness};
pub use recent::{Recent, Tally};

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{FailureKind, Fraction, Monotonic, Now, closed_set};

closed_set! {
    /// The state of a circuit.
    pub enum State {
        /// Healthy: checks run.
        Closed = "closed",
        /// Broken: no checks run until the recovery timeout has passed.
        Open = "open",
        /// Single trials find out whether it works again.
        HalfOpen = "half_open",
    }
}

/// When a circuit opens and how it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// This many failed checks in a row open it.
    pub failure_threshold: NonZeroU32,
    /// How long it stays open, ±10 %.
    pub recovery_timeout: Duration,
    /// Each failed or lost trial doubles that, up to this, ±10 %; `None`: it does not grow.
    pub recovery_timeout_max: Option<Duration>,
    /// This many successful trials in a row close it.
    pub success_threshold: NonZeroU32,
    /// From one trial to the next.
    pub half_open_interval: Duration,
}

impl Settings {
    /// How long it can stay open, but for the ±10 %.
    pub fn longest_recovery_timeout(&self) -> Duration {
        self.recovery_timeout_max.unwrap_or_default().max(self.recovery_timeout)
    }
}

/// How a check may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// With all the attempts configured.
    Check,
    /// As a half-open trial: one attempt.
    Trial,
}

/// Why a circuit changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Too many failed checks in a row.
    FailureThreshold {
        /// How many.
        failures: u32,
        /// What the last one was.
        last: FailureKind,
    },
    /// The recovery timeout has passed.
    RecoveryElapsed,
    /// The name resolves to addresses that it did not have before.
    AddressesChanged,
    /// Somebody asked for a check.
    Requested,
    /// A trial failed.
    TrialFailed(FailureKind),
    /// A trial never ended: its task panicked, or hung.
    TrialLost,
    /// Enough checks in a row succeeded, the last one a trial.
    SuccessThreshold {
        /// How many.
        successes: u32,
    },
    /// An operator holds it in this state.
    Forced(Arc<Override>),
    /// The time of an override is over.
    OverrideExpired(Mode),
    /// An operator had the past forgotten.
    Reset(Actor),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailureThreshold { failures: 1, last } => write!(f, "a check failed by {last}"),
            Self::FailureThreshold { failures, last } => {
                write!(f, "{failures} failed checks in a row, the last by {last}")
            }
            Self::RecoveryElapsed => f.write_str("the recovery timeout has passed"),
            Self::AddressesChanged => f.write_str("the name resolves to new addresses"),
            Self::Requested => f.write_str("a check was asked for"),
            Self::TrialFailed(kind) => write!(f, "a trial failed by {kind}"),
            Self::TrialLost => f.write_str("a trial never ended"),
            Self::SuccessThreshold { successes: 1 } => f.write_str("a trial succeeded"),
            // Those made while it was forced closed are among them.
            Self::SuccessThreshold { successes } => write!(f, "{successes} checks in a row succeeded"),
            Self::Forced(over) => write!(f, "{} by {}: {}", over.mode, over.actor, over.reason),
            Self::OverrideExpired(mode) => write!(f, "the time of {mode} is over"),
            Self::Reset(actor) => write!(f, "reset by {actor}"),
        }
    }
}

/// One change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: Now,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// How many transitions are remembered; the oldest go first.
pub const TRANSITIONS_KEPT: usize = 100;

/// How many checks failed by each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureCounts([u64; FailureKind::ALL.len()]);

impl FailureCounts {
    const NONE: Self = Self([0; FailureKind::ALL.len()]);

    fn add(&mut self, kind: FailureKind) {
        self.0[kind as usize] += 1;
    }

    /// The kinds that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, u64)> + '_ {
        FailureKind::ALL.iter().map(|kind| (*kind, self.0[*kind as usize])).filter(|(_, n)| *n > 0)
    }
}

/// A circuit breaker.
#[derive(Debug, Clone)]
pub struct Circuit {
    settings: Settings,
    state: State,
    since: Now,
    over: Option<Arc<Override>>,
    /// Whether it is open, or half open after that, by what was measured; where an operator holds it, whether it would be.
    /// Without an override an open circuit is always broken and a closed one never.
    broken: bool,
    /// When that ended the last time.
    mended: Option<Monotonic>,
    /// Whether it gated nothing while it was held, and the trial after that has not decided yet: the end of a maintenance
    /// must not make a task unready for as long as it takes to see that all is well.
    is_ignored: bool,
    succeeded_once: bool,
    consecutive_failures: u32,
    consecutive_successes: u32,
    /// While open: when the first trial is due.
    trial_at: Option<Monotonic>,
    /// While half open: a trial is under way and, if it is never heard of again, is given up at this time.
    trial_lease: Option<Monotonic>,
    /// How often it opened since it was last mended or reset: what the recovery timeout grows by.
    openings: u32,
    opens: u64,
    successes: u64,
    failures: u64,
    failures_by_kind: FailureCounts,
    recent: Recent,
    /// Time spent in states that have ended.
    past: [Duration; State::ALL.len()],
    transitions: VecDeque<Transition>,
    transitions_total: u64,
}

impl Circuit {
    /// A closed circuit that has seen nothing yet.
    pub fn new(settings: Settings, now: Now) -> Self {
        Self {
            settings,
            state: State::Closed,
            since: now,
            over: None,
            broken: false,
            mended: None,
            is_ignored: false,
            succeeded_once: false,
            consecutive_failures: 0,
            consecutive_successes: 0,
            trial_at: None,
            trial_lease: None,
            openings: 0,
            opens: 0,
            successes: 0,
            failures: 0,
            failures_by_kind: FailureCounts::NONE,
            recent: Recent::default(),
            past: [Duration::ZERO; State::ALL.len()],
            transitions: VecDeque::new(),
            transitions_total: 0,
        }
    }

    /// The same, of something that has succeeded before: its failures count from the first one on.
    pub fn that_succeeded_before(self) -> Self {
        Self { succeeded_once: true, ..self }
    }

    /// The same, of something that was down when this circuit took another's place: half open, its first trial at once.
    pub fn that_was_broken(self) -> Self {
        Self { succeeded_once: true, broken: true, state: State::HalfOpen, ..self }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it would be open, or half open after that, by what was measured alone.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether any check has ever succeeded.
    pub fn succeeded_once(&self) -> bool {
        self.succeeded_once
    }

    /// Failed checks since the last success.
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }

    /// While open by what was measured, when the next trial is due.
    pub fn trial_at(&self) -> Option<Monotonic> {
        self.trial_at
    }

    /// The override in force.
    pub fn held(&self) -> Option<&Override> {
        self.over.as_deref()
    }

    /// Whether an operator holds it in this way.
    pub fn is_held(&self, mode: Mode) -> bool {
        self.over.as_ref().is_some_and(|over| over.mode == mode)
    }

    /// Asks to make a check now. An open circuit whose recovery timeout has passed becomes half open and
    /// permits one trial; `None` means that no check may be made now.
    ///
    /// `give_up` is how long the check can take at most: a trial that is never reported (its task died) holds
    /// the circuit no longer than that.
    pub fn admit(&mut self, now: Now, give_up: Duration) -> Option<Permit> {
        match self.state {
            State::Closed => return Some(Permit::Check),
            State::Open if self.over.is_some() => return None,
            State::Open if self.trial_at.is_some_and(|due| now.mono < due) => return None,
            State::Open => self.change(State::HalfOpen, Reason::RecoveryElapsed, now),
            State::HalfOpen if self.trial_lease.is_some_and(|until| now.mono < until) => return None,
            State::HalfOpen => {}
        }
        self.trial_lease = Some(now.mono + give_up);
        Some(Permit::Trial)
    }

    /// Makes an open circuit half open before its time. Does nothing in any other state, nor where it is held open.
    pub fn hurry(&mut self, reason: Reason, now: Now) {
        if self.state == State::Open && self.over.is_none() {
            self.change(State::HalfOpen, reason, now);
        }
    }

    /// Holds it in a state, in place of what held it before.
    pub fn hold(&mut self, over: Arc<Override>, now: Now) {
        let to = over.mode.state();
        self.is_ignored = over.is_ignored();
        self.over = Some(Arc::clone(&over));
        self.trial_at = None;
        if self.state != to {
            self.change(to, Reason::Forced(over), now);
        }
    }

    /// Ends the override where its time has come; whether it did. What succeeded while it was forced closed counts for
    /// the trial that follows: a dependency that is well is not down for longer than that takes.
    pub fn expire(&mut self, now: Now) -> bool {
        let Some(over) = self.over.take_if(|over| over.is_over(now.mono)) else { return false };
        let successes = match over.mode {
            Mode::ForcedClosed => self.consecutive_successes,
            Mode::ForcedOpen => 0,
        };
        self.change(State::HalfOpen, Reason::OverrideExpired(over.mode), now);
        self.consecutive_successes = successes;
        true
    }

    /// Forgets the override and what happened in a row. A trial follows; but one that is closed without an override
    /// has nothing to prove, and stays so. What was measured stays measured, until trials say something else.
    pub fn reset(&mut self, actor: Actor, now: Now) {
        self.consecutive_failures = 0;
        self.consecutive_successes = 0;
        self.openings = 0;
        let was_held = self.over.take().is_some();
        match self.state {
            State::Closed if !was_held => {}
            State::HalfOpen => {}
            State::Closed | State::Open => self.change(State::HalfOpen, Reason::Reset(actor), now),
        }
    }

    /// The check under way will never be reported. A trial that was lost is as good as failed, or the circuit could
    /// stay half open for ever; it is not counted as a failure, since nothing is known of the dependency.
    pub fn lost(&mut self, now: Now, draw: Fraction) {
        if self.trial_lease.take().is_some() {
            self.open(Reason::TrialLost, now, draw);
        }
    }

    /// A check succeeded.
    pub fn success(&mut self, now: Now) {
        self.successes += 1;
        self.recent.record(now.mono, true);
        self.succeeded_once = true;
        self.consecutive_failures = 0;
        self.consecutive_successes = self.consecutive_successes.saturating_add(1);
        self.trial_lease = None;
        let enough = self.consecutive_successes >= self.settings.success_threshold.get();
        // A success reported while open belongs to a check from before; it counts, and trials decide.
        if enough && (self.over.is_some() || self.state == State::HalfOpen) {
            if std::mem::take(&mut self.broken) {
                self.mended = Some(now.mono);
            }
            self.openings = 0;
        }
        if enough && self.state == State::HalfOpen {
            let reason = Reason::SuccessThreshold { successes: self.consecutive_successes };
            self.change(State::Closed, reason, now);
        }
    }

    /// A check failed. `draw` spreads the recovery time, so that the circuits of a fleet do not try in step.
    pub fn failure(&mut self, kind: FailureKind, now: Now, draw: Fraction) {
        self.failures += 1;
        self.failures_by_kind.add(kind);
        self.recent.record(now.mono, false);
        self.consecutive_successes = 0;
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.trial_lease = None;
        let enough =
            self.succeeded_once && self.consecutive_failures >= self.settings.failure_threshold.get();
        if self.over.is_some() {
            self.broken |= enough;
            return;
        }
        let reason = match self.state {
            State::Closed if !enough => return,
            State::Closed => Reason::FailureThreshold { failures: self.consecutive_failures, last: kind },
            State::HalfOpen => Reason::TrialFailed(kind),
            State::Open => return,
        };
        self.open(reason, now, draw);
    }

    fn open(&mut self, reason: Reason, now: Now, draw: Fraction) {
        let grown = self.settings.recovery_timeout.saturating_mul(1 << self.openings.min(31));
        let grown = grown.min(self.settings.longest_recovery_timeout());
        self.change(State::Open, reason, now);
        self.broken = true;
        self.opens += 1;
        self.openings = self.openings.saturating_add(1);
        self.trial_at = Some(now.mono + grown.mul_f64(0.9 + 0.2 * draw.get()));
    }

    fn change(&mut self, to: State, reason: Reason, now: Now) {
        // A check that ended before an order came may be reported after it: no moment counts for two states.
        let now = if now.mono < self.since.mono { self.since } else { now };
        self.past[self.state as usize] += now.mono.since(self.since.mono);
        if self.transitions.len() == TRANSITIONS_KEPT {
            self.transitions.pop_front();
        }
        self.transitions.push_back(Transition { at: now, from: self.state, to, reason });
        self.transitions_total += 1;
        self.state = to;
        self.since = now;
        self.trial_at = None;
        self.trial_lease = None;
        match to {
            State::HalfOpen => self.consecutive_successes = 0,
            State::Closed | State::Open => self.is_ignored &= self.over.is_some(),
        }
    }

    /// What readers see of it.
    pub fn view(&self) -> CircuitView {
        CircuitView {
            state: self.state,
            since: self.since,
            settings: self.settings,
            over: self.over.clone(),
            broken: self.broken,
            mended: self.mended,
            is_ignored: self.is_ignored,
            consecutive_failures: self.consecutive_failures,
            consecutive_successes: self.consecutive_successes,
            trial_at: match self.over.as_deref() {
                Some(Override { mode: Mode::ForcedOpen, expires, .. }) => Some(expires.mono),
                Some(Override { mode: Mode::ForcedClosed, .. }) | None => self.trial_at,
            },
            opens: self.opens,
            successes: self.successes,
            failures: self.failures,
            failures_by_kind: self.failures_by_kind,
            recent: self.recent.clone(),
            past: self.past,
            transitions: self.transitions.iter().cloned().collect(),
            transitions_total: self.transitions_total,
        }
    }
}

/// What readers see of a circuit.
#[derive(Debug, Clone)]
pub struct CircuitView {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Now,
    /// The thresholds and times in force.
    pub settings: Settings,
    /// What an operator holds it by.
    pub over: Option<Arc<Override>>,
    /// Whether it would be open, or half open after that, by what was measured alone.
    pub broken: bool,
    /// When it was last found to be so no more.
    pub mended: Option<Monotonic>,
    /// Whether its dependency gates nothing: while it is held open so, and until the trials after that have decided.
    pub is_ignored: bool,
    /// Failed checks since the last success.
    pub consecutive_failures: u32,
    /// Successful checks since the last failure, or since the circuit became half open.
    pub consecutive_successes: u32,
    /// While open, when the next trial is due; while forced open, that is when the override ends.
    pub trial_at: Option<Monotonic>,
    /// How often it opened by what was measured, reopenings included.
    pub opens: u64,
    /// Checks that succeeded.
    pub successes: u64,
    /// Checks that failed.
    pub failures: u64,
    /// Those by kind.
    pub failures_by_kind: FailureCounts,
    /// Those of the last minutes.
    pub recent: Recent,
    /// Time spent in states that have ended, by state.
    past: [Duration; State::ALL.len()],
    /// The newest changes of state, oldest first.
    pub transitions: Arc<[Transition]>,
    /// How many there were in all.
    pub transitions_total: u64,
}

impl CircuitView {
    /// The transitions that happened after an earlier view of the same circuit was taken, oldest first; those
    /// already forgotten are left out.
    pub fn transitions_since(&self, earlier: &Self) -> &[Transition] {
        let new = self.transitions_total.saturating_sub(earlier.transitions_total);
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(self.transitions.len());
        &self.transitions[self.transitions.len() - new..]
    }

    /// Time spent in a state, the current stay included.
    pub fn time_in(&self, state: State, now: Monotonic) -> Duration {
        let current = if state == self.state { now.since(self.since.mono) } else { Duration::ZERO };
        self.past[state as usize] + current
    }

    /// All the checks that were counted.
    pub fn lifetime(&self) -> Tally {
        Tally { successes: self.successes, failures: self.failures }
    }

    /// Whether it is held in this way.
    pub fn is_held(&self, mode: Mode) -> bool {
        self.over.as_ref().is_some_and(|over| over.mode == mode)
    }
}

#[cfg(test)]
mod tests;
