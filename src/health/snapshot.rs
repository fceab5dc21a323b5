//! What readers see: one immutable value for all dependencies, made by the registry whenever a check ends.
//!
//! Whether a result is still worth anything is judged when it is read, against the reader's clock: so a
//! runner that hangs or dies cannot leave its last green behind.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::circuit::{CircuitView, Mode, Override, State};
use super::window::Latency;
use super::{
    Check, DependencyName, Diagnosis, FailureKind, Impact, Monotonic, Now, Policy, PoolStats, WallTime,
    closed_set,
};

closed_set! {
    /// The status of a dependency.
    pub enum Status {
        /// Works.
        Up = "up",
        /// Works, but slow, flaky, warned about, or failing below the threshold.
        Degraded = "degraded",
        /// The circuit is not closed, or no check ever succeeded.
        Down = "down",
        /// No result yet, or the result is stale.
        Unknown = "unknown",
        /// Not checked, by configuration.
        Disabled = "disabled",
    }
}

closed_set! {
    /// The status of the service.
    pub enum ServiceStatus {
        /// Not every critical dependency has a result yet.
        Starting = "starting",
        /// All is well.
        Up = "up",
        /// It serves, with something not well.
        Degraded = "degraded",
        /// It cannot serve.
        Down = "down",
        /// It is being stopped.
        Draining = "draining",
    }
}

/// A name that led to another address than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressChange {
    /// When it was seen.
    pub at: WallTime,
    /// The address before; `None` for one that came in addition.
    pub from: Option<IpAddr>,
    /// The address after; `None` for one that went without another in its place.
    pub to: Option<IpAddr>,
    /// Whether connections were still taken at the address before; `None` where nobody looked.
    pub from_answers: Option<bool>,
}

/// What readers see of one dependency.
#[derive(Debug, Clone)]
pub struct DependencyView {
    /// The rules that it goes by.
    pub policy: Arc<Policy>,
    /// Its circuit.
    pub circuit: CircuitView,
    /// Whether any check has succeeded since the agent started.
    pub succeeded_once: bool,
    /// When the next check is due: while one is under way, when that one was due; after lost checks, when the
    /// first of them was.
    pub next_due: Monotonic,
    /// When the first failed check since the last success ended.
    pub failing_since: Option<Monotonic>,
    /// When the first successful check since the last failure ended.
    pub working_since: Option<Monotonic>,
    /// The last check.
    pub last_check: Option<Arc<Check>>,
    /// The last check that succeeded.
    pub last_seen: Option<Arc<Check>>,
    /// The last check that failed.
    pub last_failure: Option<Arc<Check>>,
    /// What was found out about the outage that the last failure is of.
    pub diagnosis: Option<Arc<Diagnosis>>,
    /// The checks that are remembered, newest first.
    pub history: Arc<[Arc<Check>]>,
    /// The address last connected to, or tried.
    pub address: Option<SocketAddr>,
    /// Where the name led to before, oldest first.
    pub address_changes: Arc<[AddressChange]>,
    /// Whether too many attempts of the last minutes failed.
    pub flaky: bool,
    /// Latency of the last minutes.
    pub latency: Option<Latency>,
    /// The probe's connections.
    pub pool: Option<PoolStats>,
}

impl DependencyView {
    /// When the last successful check ended.
    pub fn last_success(&self) -> Option<Monotonic> {
        self.last_seen.as_ref().map(|check| check.ended())
    }

    /// When the last successful check began.
    pub fn last_success_began(&self) -> Option<Monotonic> {
        self.last_seen.as_ref().map(|check| check.at.mono)
    }

    /// From this moment on the result is stale: the next one should have come by then, even if its check took
    /// its whole timeout, and one more interval has passed.
    pub fn stale_from(&self) -> Monotonic {
        self.next_due + self.policy.timeout + self.policy.interval
    }

    /// Whether the result is too old to mean anything.
    pub fn stale(&self, now: Monotonic) -> bool {
        self.policy.enabled() && now > self.stale_from()
    }

    /// The override that it goes by. It ends when its runner takes note of that; but a runner that is dead does not, so
    /// once the time is over, an override cannot keep a stale result from being called so.
    pub fn held(&self, now: Monotonic) -> Option<&Override> {
        self.circuit.over.as_deref().filter(|over| now <= over.expires.mono || !self.stale(now))
    }

    /// Whether an operator has it gate nothing: while it is held open, and until the trials after that have decided.
    pub fn is_ignored(&self, now: Monotonic) -> bool {
        let still = match &self.circuit.over {
            Some(_) => self.held(now).is_some(),
            None => !self.stale(now),
        };
        self.circuit.is_ignored && still
    }

    /// Its status, by itself. [`Snapshot::status`] also knows of fallbacks.
    pub fn status(&self, now: Monotonic) -> Status {
        if !self.policy.enabled() {
            return Status::Disabled;
        }
        let held = self.held(now).map(|over| over.mode);
        let last = self.last_check.as_ref().filter(|_| !self.stale(now));
        match (held, last) {
            (Some(Mode::ForcedOpen), _) => Status::Down,
            (Some(Mode::ForcedClosed), None) => Status::Degraded,
            (None, None) => Status::Unknown,
            (_, Some(_)) if self.known_down() => Status::Down,
            (_, Some(last)) if !last.ok() || self.is_warned_about(last) => Status::Degraded,
            (_, Some(_)) => Status::Up,
        }
    }

    /// Down by its last result, however old that is, or because an operator says so.
    pub fn known_down(&self) -> bool {
        let never_up = self.last_check.is_some() && !self.succeeded_once;
        self.circuit.state != State::Closed || (self.circuit.over.is_none() && never_up)
    }

    /// The same by what was measured alone, whatever an operator says.
    pub fn measured_down(&self) -> bool {
        self.last_check.is_some() && (self.circuit.broken || !self.succeeded_once)
    }

    /// Whether its first result is still to come. Nobody waits for one that is not closed before its first check: an
    /// operator has held it open since before the agent started, and checks follow the end of that, or have begun to.
    pub fn is_starting(&self) -> bool {
        self.last_check.is_none() && self.circuit.state == State::Closed
    }

    /// Whether [`warnings`](Self::warnings) has any; asked for all dependencies at every publication, so without
    /// writing them.
    fn is_warned_about(&self, last: &Check) -> bool {
        last.observation().is_some_and(|seen| !seen.warnings.is_empty()) || self.slow(last) || self.flaky
    }

    fn slow(&self, last: &Check) -> bool {
        last.latency > self.policy.slow_after
    }

    /// Why it is not quite well although its last check succeeded.
    pub fn warnings(&self) -> Vec<String> {
        let Some(last) = &self.last_check else { return Vec::new() };
        let mut warnings = last.observation().map(|seen| seen.warnings.clone()).unwrap_or_default();
        if last.ok() && self.slow(last) {
            warnings.push(format!(
                "slow: the last check took {:.0?}, the bound is {:.0?}",
                last.latency, self.policy.slow_after
            ));
        }
        if last.ok() && self.flaky {
            warnings.push("flaky: more than 20 % of the attempts of the last 5 minutes failed".into());
        }
        warnings
    }

    /// The kind of the failure that its status comes from; `None` where the last check succeeded.
    pub fn failing_by(&self) -> Option<FailureKind> {
        let last = self.last_check.as_ref()?;
        match last.failure() {
            Some(failure) => Some(failure.kind),
            // Half open after a success: it is still the old failure that keeps it down; unless an operator's order does.
            None if self.circuit.state != State::Closed && self.circuit.broken => {
                self.last_failure.as_ref().and_then(|check| Some(check.failure()?.kind))
            }
            None => None,
        }
    }
}

/// Where the agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// It checks and answers.
    Running,
    /// It has been told to stop, and still answers.
    Draining,
}

/// How dependencies refer to each other, by index; the same for all snapshots of one agent.
#[derive(Debug, Default)]
pub struct Topology {
    index: HashMap<DependencyName, usize>,
    /// For each dependency, those that can take its place or whose place it takes.
    partners: Vec<Vec<usize>>,
    /// For each dependency, those through which it can fail.
    depends_on: Vec<Vec<usize>>,
}

impl Topology {
    /// The relations between these dependencies. Names that refer to none of them are passed over:
    /// `config/` has refused them.
    pub fn new<'a>(policies: impl Iterator<Item = &'a Policy> + Clone) -> Self {
        let index: HashMap<_, _> =
            policies.clone().enumerate().map(|(i, policy)| (policy.name.clone(), i)).collect();
        let mut partners = vec![Vec::new(); index.len()];
        let mut depends_on = vec![Vec::new(); index.len()];
        for (i, policy) in policies.enumerate() {
            if let Some(other) = policy.fallback_of.as_ref().and_then(|name| index.get(name)) {
                partners[i].push(*other);
                partners[*other].push(i);
            }
            depends_on[i].extend(policy.depends_on.iter().filter_map(|name| index.get(name)));
        }
        Self { index, partners, depends_on }
    }
}

/// All dependencies at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the agent started.
    pub started: Now,
    /// Where the agent is in its life.
    pub lifecycle: Lifecycle,
    /// The dependencies, in the order of the configuration.
    pub dependencies: Vec<Arc<DependencyView>>,
    /// How they refer to each other.
    pub topology: Arc<Topology>,
    /// What is behind the agent already.
    pub past: Past,
}

/// What is behind an agent, so that neither a dependency which a reload adds nor a runner that is brought back, having
/// forgotten its results, takes it back to an earlier point of its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// Every critical dependency has had its first result.
    pub started: bool,
    /// Every critical dependency has succeeded once.
    pub came_up: bool,
}

impl Snapshot {
    /// The first snapshot: nothing has been checked yet.
    pub fn new(started: Now, dependencies: Vec<Arc<DependencyView>>) -> Self {
        let topology = Arc::new(Topology::new(dependencies.iter().map(|view| &*view.policy)));
        Self { started, lifecycle: Lifecycle::Running, dependencies, topology, past: Past::default() }
    }

    /// The same agent with other dependencies.
    pub fn with(&self, dependencies: Vec<Arc<DependencyView>>, now: Monotonic) -> Self {
        let past = self.past_at(now);
        Self { lifecycle: self.lifecycle, past, ..Self::new(self.started, dependencies) }
    }

    /// What is behind the agent by now, for good. What an operator holds open is no longer waited for, but has not come up
    /// for that, ignored or not.
    pub fn past_at(&self, now: Monotonic) -> Past {
        Past { started: !self.is_starting(now), came_up: self.has_come_up_wholly() }
    }

    /// Whether a critical dependency's first result is still to come. What is added later makes no start of it.
    pub fn is_starting(&self, now: Monotonic) -> bool {
        !self.past.started && self.gating(Impact::Critical, now).any(|(_, view)| view.is_starting())
    }

    /// Whether every critical dependency has succeeded once, or what can take its place.
    fn has_come_up_wholly(&self) -> bool {
        self.past.came_up || self.enabled(Impact::Critical).all(|(index, _)| self.has_come_up(index))
    }

    /// One dependency by its name.
    pub fn get(&self, name: &str) -> Option<(usize, &Arc<DependencyView>)> {
        let index = *self.topology.index.get(&DependencyName::parse(name)?)?;
        Some((index, &self.dependencies[index]))
    }

    /// The status of a dependency: its own, softened to `degraded` while a fallback stands in for it.
    pub fn status(&self, index: usize, now: Monotonic) -> Status {
        let own = self.dependencies[index].status(now);
        match own {
            Status::Down | Status::Unknown if self.has_stand_in(index, now) => Status::Degraded,
            Status::Up | Status::Degraded | Status::Down | Status::Unknown | Status::Disabled => own,
        }
    }

    /// Whether another dependency that can take this one's place works now.
    pub fn has_stand_in(&self, index: usize, now: Monotonic) -> bool {
        self.partners(index).any(|partner| matches!(partner.status(now), Status::Up | Status::Degraded))
    }

    /// The same by the last results, however old they are, as `down` judges them: for answers to which staleness alone is
    /// no evidence.
    pub fn had_stand_in(&self, index: usize, down: impl Fn(&DependencyView) -> bool) -> bool {
        self.partners(index)
            .any(|partner| partner.policy.enabled() && partner.last_check.is_some() && !down(partner))
    }

    /// Whether this one has succeeded once, or another one that can take its place.
    pub fn has_come_up(&self, index: usize) -> bool {
        self.dependencies[index].succeeded_once || self.partners(index).any(|partner| partner.succeeded_once)
    }

    /// The dependencies that can take this one's place, or whose place it can take.
    pub fn partners(&self, index: usize) -> impl Iterator<Item = &DependencyView> {
        self.topology.partners[index].iter().map(|partner| &*self.dependencies[*partner])
    }

    /// The dependencies through which this one can fail.
    pub fn depends_on(&self, index: usize) -> impl Iterator<Item = &DependencyView> {
        self.topology.depends_on[index].iter().map(|i| &*self.dependencies[*i])
    }

    /// The dependencies that are checked and have this impact, with their indices.
    pub fn enabled(&self, impact: Impact) -> impl Iterator<Item = (usize, &DependencyView)> {
        self.dependencies
            .iter()
            .enumerate()
            .filter(move |(_, view)| view.policy.enabled() && view.policy.impact == impact)
            .map(|(i, view)| (i, &**view))
    }

    /// Those of them that gate answers: all but what an operator holds open and has ignored.
    pub fn gating(&self, impact: Impact, now: Monotonic) -> impl Iterator<Item = (usize, &DependencyView)> {
        self.enabled(impact).filter(move |(_, view)| !view.is_ignored(now))
    }

    /// Until when an answer made from this snapshot at `now` stays true, if no other snapshot comes: the next
    /// moment at which a result becomes stale, or an override that hid that is over.
    pub fn true_until(&self, now: Monotonic) -> Monotonic {
        let enabled = self.dependencies.iter().filter(|view| view.policy.enabled());
        let changes = enabled.flat_map(|view| {
            let expires = view.circuit.over.as_ref().map(|over| over.expires.mono);
            [Some(view.stale_from()), expires].into_iter().flatten()
        });
        let never = Monotonic::after_origin(std::time::Duration::MAX);
        changes.filter(|change| now <= *change).min().unwrap_or(never)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::circuit::{Actor, Readiness};
    use crate::health::test_support::{
        failed, held, millis, mono, name, now, policy, record, run_many, run_next, secs, snapshot, succeeded,
        view_after,
    };
    use crate::health::{Fraction, Observation, Record};

    const REFUSED: Result<(), FailureKind> = Err(FailureKind::ConnectRefused);
    const A_NANOSECOND: Duration = Duration::from_nanos(1);

    fn disabled(called: &str) -> DependencyView {
        view_after(Policy { disabled: Some("no host".into()), ..policy(called) }, &[])
    }

    fn up(called: &str) -> DependencyView {
        view_after(policy(called), &[Ok(())])
    }

    fn down(called: &str) -> DependencyView {
        view_after(policy(called), &[Ok(()), REFUSED, REFUSED, REFUSED, REFUSED, REFUSED])
    }

    fn just_after(view: &DependencyView) -> Monotonic {
        view.last_check.as_ref().expect("a check").ended()
    }

    #[test]
    fn unknown_before_any_result_however_long_it_takes() {
        let view = view_after(policy("database"), &[]);
        assert_eq!(view.status(Monotonic::ZERO), Status::Unknown);
        assert_eq!(view.status(mono(secs(86_400))), Status::Unknown);
        assert!(!view.known_down());
    }

    #[test]
    fn down_until_the_first_success_though_the_circuit_is_closed() {
        let view = view_after(policy("database"), &[REFUSED]);
        assert_eq!((view.circuit.state, view.status(just_after(&view))), (State::Closed, Status::Down));
        assert_eq!(view.failing_by(), Some(FailureKind::ConnectRefused));
        let view = view_after(policy("database"), &[REFUSED, REFUSED, Ok(())]);
        assert_eq!(view.status(just_after(&view)), Status::Up);
    }

    #[test]
    fn failing_below_the_threshold_is_degraded() {
        for failures in 1..5 {
            let mut outcomes = vec![Ok(())];
            outcomes.extend(std::iter::repeat_n(REFUSED, failures));
            let view = view_after(policy("database"), &outcomes);
            assert_eq!(view.status(just_after(&view)), Status::Degraded, "after {failures}");
            assert_eq!(view.failing_by(), Some(FailureKind::ConnectRefused));
        }
        let view = down("database");
        assert_eq!(view.status(just_after(&view)), Status::Down);
    }

    #[test]
    fn half_open_after_a_success_is_still_down_by_the_old_failure() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        run_many(&mut record, 4, REFUSED);
        run_next(&mut record, Err(FailureKind::QueryTimeout));
        run_many(&mut record, 2, Ok(()));
        let view = record.view(record.due());
        assert_eq!((view.circuit.state, view.status(record.due())), (State::HalfOpen, Status::Down));
        assert_eq!(view.failing_by(), Some(FailureKind::QueryTimeout));
        run_next(&mut record, Ok(()));
        let view = record.view(record.due());
        assert_eq!((view.status(record.due()), view.failing_by()), (Status::Up, None));
    }

    // Degraded although checks succeed.

    #[test]
    fn slow_is_longer_than_the_bound_not_as_long() {
        for (latency, expected) in [(999, Status::Up), (1_000, Status::Up), (1_001, Status::Degraded)] {
            let mut record = record(policy("database"));
            record.finish(succeeded(secs(0), millis(latency)), Fraction::ZERO);
            let view = record.view(mono(secs(2)));
            assert_eq!(view.status(mono(secs(2))), expected, "{latency} ms");
            assert_eq!(view.warnings().len(), usize::from(expected == Status::Degraded));
        }
    }

    #[test]
    fn slow_is_judged_by_the_attempt_that_succeeded_not_by_the_pauses_before_it() {
        let mut record = record(policy("database"));
        let check = Check { latency: millis(3), attempts: 3, ..succeeded(secs(0), secs(5)) };
        record.finish(check, Fraction::ZERO);
        assert_eq!(record.view(mono(secs(6))).status(mono(secs(6))), Status::Up);
    }

    #[test]
    fn a_slow_failure_is_not_called_slow() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        record.finish(failed(secs(10), secs(9), FailureKind::Timeout), Fraction::ZERO);
        assert_eq!(record.view(mono(secs(20))).warnings(), Vec::<String>::new());
    }

    #[test]
    fn a_warning_of_the_kind_degrades() {
        let mut record = record(policy("database"));
        let seen =
            Observation { warnings: vec!["the certificate ends in 3 days".into()], ..Observation::default() };
        record.finish(Check { outcome: Ok(seen), ..succeeded(secs(0), millis(1)) }, Fraction::ZERO);
        let view = record.view(mono(secs(1)));
        assert_eq!(view.status(mono(secs(1))), Status::Degraded);
        assert_eq!(view.warnings(), ["the certificate ends in 3 days"]);
    }

    #[test]
    fn flaky_degrades() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        for n in 1..=4 {
            // Two of three attempts fail: the check succeeds.
            record.finish(Check { attempts: 3, ..succeeded(secs(n * 10), millis(1)) }, Fraction::ZERO);
            let at = mono(secs(n * 10 + 1));
            let expected = if n < 3 { Status::Up } else { Status::Degraded };
            assert_eq!(record.view(at).status(at), expected, "{} attempts", 1 + 3 * n);
        }
    }

    // Staleness, and what goes before what.

    #[test]
    fn stale_from_the_first_moment_after_the_bound() {
        let view = up("database");
        let bound = view.next_due + secs(10) + secs(10);
        assert_eq!(bound, mono(secs(30)));
        assert_eq!(view.status(bound), Status::Up);
        assert_eq!(view.status(bound + A_NANOSECOND), Status::Unknown);
        assert_eq!(view.status(mono(Duration::MAX)), Status::Unknown);
    }

    #[test]
    fn while_open_the_bound_follows_the_next_trial() {
        let view = down("database");
        let trial = view.circuit.trial_at.expect("open");
        assert_eq!(view.status(trial + secs(20)), Status::Down);
        assert_eq!(view.status(trial + secs(20) + A_NANOSECOND), Status::Unknown);
    }

    #[test]
    fn stale_goes_before_the_circuit_and_disabled_before_stale() {
        let view = down("database");
        let late = mono(secs(100_000));
        assert_eq!(view.status(late), Status::Unknown);
        assert!(view.known_down(), "what is known of it is still the same");

        let mut view = view;
        view.policy = Arc::new(Policy { disabled: Some("by hand".into()), ..policy("database") });
        assert_eq!(view.status(late), Status::Disabled);
        assert_eq!(view.status(just_after(&view)), Status::Disabled);
        assert!(!view.stale(late));
    }

    #[test]
    fn never_checked_and_disabled_is_disabled() {
        assert_eq!(disabled("redis").status(mono(secs(86_400))), Status::Disabled);
    }

    // Overrides: disabled goes before them, they go before staleness, that before the circuit.

    /// A record after these checks, held at 60 s for an hour.
    fn held_after(outcomes: &[Result<(), FailureKind>], mode: Mode) -> Record {
        let mut record = record(policy("database"));
        for outcome in outcomes {
            run_next(&mut record, *outcome);
        }
        record.hold(held(mode, now(secs(60)), secs(3_600)), now(secs(60)));
        record
    }

    const DOWN: &[Result<(), FailureKind>] = &[Ok(()), REFUSED, REFUSED, REFUSED, REFUSED, REFUSED];

    #[test]
    fn forced_open_is_down_whatever_was_measured_and_however_old_it_is() {
        for outcomes in [&[][..], &[Ok(())], &[REFUSED], &[Ok(()), REFUSED], DOWN] {
            let view = held_after(outcomes, Mode::ForcedOpen).view(mono(secs(60)));
            for at in [60, 1_000, 3_660, 3_680] {
                assert_eq!(view.status(mono(secs(at))), Status::Down, "{outcomes:?} at {at} s");
            }
            assert!(view.known_down() && !view.is_starting());
        }
    }

    #[test]
    fn forced_closed_is_degraded_at_worst_whatever_was_measured_and_however_old_it_is() {
        for (outcomes, fresh) in [
            (&[][..], Status::Degraded),
            (&[Ok(())], Status::Up),
            (&[REFUSED], Status::Degraded),
            (&[Ok(()), REFUSED], Status::Degraded),
            (DOWN, Status::Degraded),
        ] {
            let view = held_after(outcomes, Mode::ForcedClosed).view(mono(secs(60)));
            assert_eq!(view.status(mono(secs(61))), fresh, "{outcomes:?}");
            assert!(view.stale(mono(secs(1_000))));
            assert_eq!(view.status(mono(secs(1_000))), Status::Degraded, "{outcomes:?}, stale");
            assert!(!view.known_down());
            assert_eq!(view.is_starting(), outcomes.is_empty(), "its first result is on its way");
        }
    }

    #[test]
    fn disabled_goes_before_an_override() {
        for mode in Mode::ALL {
            let mut view = held_after(&[Ok(())], *mode).view(mono(secs(60)));
            view.policy = Arc::new(Policy { disabled: Some("by hand".into()), ..policy("database") });
            assert_eq!(view.status(mono(secs(61))), Status::Disabled);
        }
    }

    /// Nobody is left to end it: its runner is dead.
    #[test]
    fn an_override_whose_time_is_over_hides_no_stale_result() {
        for (mode, is_stale) in [(Mode::ForcedOpen, 3_680), (Mode::ForcedClosed, 3_660)] {
            let view = held_after(&[Ok(())], mode).view(mono(secs(60)));
            let (last, after) = (mono(secs(is_stale)), mono(secs(is_stale)) + A_NANOSECOND);
            assert!(view.held(last).is_some() && view.status(last) != Status::Unknown, "{mode}");
            assert_eq!((view.held(after), view.status(after)), (None, Status::Unknown), "{mode}");
            let all = snapshot(vec![view]);
            assert_eq!(all.true_until(mono(secs(1_000))), mono(secs(3_660)), "{mode}");
            assert_eq!(all.true_until(last), last, "{mode}");
            assert_eq!(all.true_until(after), mono(Duration::MAX), "{mode}");
        }
    }

    #[test]
    fn only_what_is_forced_open_is_ignored() {
        for (mode, readiness, ignored) in [
            (Mode::ForcedOpen, Readiness::Ignore, true),
            (Mode::ForcedOpen, Readiness::Count, false),
            (Mode::ForcedClosed, Readiness::Ignore, false),
        ] {
            let mut view = held_after(&[Ok(())], mode).view(mono(secs(60)));
            let over = Override { readiness, ..view.held(mono(secs(60))).expect("held").clone() };
            view.circuit.is_ignored = over.is_ignored();
            view.circuit.over = Some(Arc::new(over));
            assert_eq!(view.is_ignored(mono(secs(60))), ignored, "{mode} {readiness}");
            assert!(!view.is_ignored(mono(secs(100_000))), "nor for longer than it lasts");
        }
    }

    #[test]
    fn what_is_down_by_order_is_not_told_an_old_failure() {
        let mut record = held_after(&[Ok(()), REFUSED, Ok(())], Mode::ForcedOpen);
        let view = record.view(mono(secs(60)));
        assert_eq!((view.status(mono(secs(60))), view.failing_by()), (Status::Down, None));
        record.reset(Actor::new("bob"), now(secs(70)));
        run_next(&mut record, Ok(()));
        let view = record.view(mono(secs(71)));
        assert_eq!((view.circuit.state, view.failing_by()), (State::HalfOpen, None));
        // One that is also broken is told why.
        let view = held_after(DOWN, Mode::ForcedOpen).view(mono(secs(60)));
        assert_eq!(view.failing_by(), Some(FailureKind::ConnectRefused));
    }

    #[test]
    fn after_an_override_from_before_the_first_check_it_is_unknown_and_no_longer_starting() {
        let mut record = held_after(&[], Mode::ForcedOpen);
        assert!(record.expire(now(secs(3_660))));
        let view = record.view(mono(secs(3_660)));
        assert_eq!((view.status(mono(secs(3_661))), view.is_starting()), (Status::Unknown, false));
        assert!(view.known_down(), "half open is not closed");
        assert!(!view.measured_down(), "nothing was measured");
    }

    // Several together.

    #[test]
    fn found_by_name_and_index() {
        let all = snapshot(vec![up("database"), down("redis")]);
        let (index, view) = all.get("redis").expect("it is there");
        assert_eq!((index, view.policy.name.as_str()), (1, "redis"));
        assert!(all.get("mlflow").is_none() && all.get("no name!").is_none());
    }

    fn standing_in_for(other: &str, view: DependencyView) -> DependencyView {
        let policy = Policy { fallback_of: Some(name(other)), ..(*view.policy).clone() };
        DependencyView { policy: Arc::new(policy), ..view }
    }

    #[test]
    fn a_pair_is_degraded_while_one_of_it_is_up() {
        let at = mono(secs(60));
        // Both read at a moment at which neither is stale.
        let fresh = |mut view: DependencyView| {
            view.next_due = at;
            view
        };
        let unknown = |called| fresh(view_after(policy(called), &[]));
        for (database, replica, expected) in [
            (up("database"), up("replica"), [Status::Up, Status::Up]),
            (down("database"), up("replica"), [Status::Degraded, Status::Up]),
            (up("database"), down("replica"), [Status::Up, Status::Degraded]),
            (down("database"), down("replica"), [Status::Down, Status::Down]),
            (unknown("database"), up("replica"), [Status::Degraded, Status::Up]),
            (down("database"), unknown("replica"), [Status::Down, Status::Unknown]),
            (down("database"), disabled("replica"), [Status::Down, Status::Disabled]),
            (disabled("database"), up("replica"), [Status::Disabled, Status::Up]),
        ] {
            let all = snapshot(vec![fresh(database), standing_in_for("database", fresh(replica))]);
            assert_eq!([all.status(0, at), all.status(1, at)], expected);
        }
    }

    #[test]
    fn a_stand_in_that_is_degraded_still_stands_in_and_a_stale_one_does_not() {
        let replica = view_after(policy("replica"), &[Ok(()), REFUSED]);
        let at = mono(secs(50));
        let database = DependencyView { next_due: at, ..down("database") };
        let working = DependencyView { next_due: at, ..replica.clone() };
        let all = snapshot(vec![database.clone(), standing_in_for("database", working)]);
        assert_eq!([all.status(0, at), all.status(1, at)], [Status::Degraded, Status::Degraded]);
        let stale = DependencyView { next_due: mono(secs(20)), ..replica };
        let all = snapshot(vec![database, standing_in_for("database", stale)]);
        assert_eq!([all.status(0, at), all.status(1, at)], [Status::Down, Status::Unknown]);
    }

    #[test]
    fn names_that_refer_to_nothing_are_passed_over() {
        let lonely = standing_in_for("nothing", down("replica"));
        let at = just_after(&lonely);
        assert_eq!(snapshot(vec![lonely]).status(0, at), Status::Down);
    }

    #[test]
    fn an_answer_is_true_until_the_next_result_becomes_stale() {
        let never = mono(Duration::MAX);
        assert_eq!(snapshot(vec![]).true_until(Monotonic::ZERO), never);
        assert_eq!(snapshot(vec![disabled("redis")]).true_until(Monotonic::ZERO), never);

        let early = view_after(Policy { interval: secs(5), timeout: secs(2), ..policy("redis") }, &[Ok(())]);
        let all = snapshot(vec![up("database"), early, disabled("mlflow")]);
        let (first, second) = (mono(secs(12)), mono(secs(30)));
        assert_eq!(all.true_until(mono(secs(1))), first);
        assert_eq!(all.true_until(first), first, "still true at that very moment");
        let statuses = |at| [all.status(0, at), all.status(1, at)];
        assert_eq!(statuses(first), [Status::Up, Status::Up]);
        assert_eq!(statuses(first + A_NANOSECOND), [Status::Up, Status::Unknown]);
        assert_eq!(all.true_until(first + A_NANOSECOND), second);
        assert_eq!(statuses(second), [Status::Up, Status::Unknown]);
        assert_eq!(statuses(second + A_NANOSECOND), [Status::Unknown, Status::Unknown]);
        assert_eq!(all.true_until(second + A_NANOSECOND), never);
    }
}
