//! All that is known of one dependency: its circuit, schedule, window and history, moved on by the checks
//! that its runner reports. A runner is a thin loop around this; what it decides is decided here.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::FailureKind;
use super::circuit::{Actor, Circuit, Mode, Override, Permit, Reason, State};
use super::history::History;
use super::outage::{FailureId, Outage, Standing, Unexplained};
use super::schedule::Schedule;
use super::snapshot::{AddressChange, DependencyView};
use super::whereabouts::{Change, Whereabouts};
use super::window::Window;
use super::{Check, Diagnosis, Fraction, Kind, LeftBehind, Monotonic, Now, Policy, PoolStats};

/// Changes of address kept; the oldest go first.
const ADDRESS_CHANGES_KEPT: usize = 20;

/// Addresses remembered of a name since its last success. One that leads to more tells nothing by another.
const RESOLVED_KEPT: usize = 64;

/// An ordered check begins no sooner than this after the last one ended: nobody can drive a circuit, or a server, by
/// ordering checks one after the other.
const ORDERED_APART: Duration = Duration::from_secs(1);

/// How much longer than its timeout a check may take before it is given up as lost.
pub const GRACE: Duration = Duration::from_secs(1);

/// What is known of one dependency. Owned by its runner.
#[derive(Debug)]
pub struct Record {
    policy: Arc<Policy>,
    circuit: Circuit,
    schedule: Schedule,
    window: Window,
    history: History,
    /// Checks that ended before the first success.
    tries_before_success: u32,
    failing_since: Option<Monotonic>,
    last_seen: Option<Arc<Check>>,
    working_since: Option<Monotonic>,
    /// When the first of the checks lost since the last result was due.
    lost_due: Option<Monotonic>,
    last_check: Option<Arc<Check>>,
    last_failure: Option<Arc<Check>>,
    /// Where the name has led lately.
    whereabouts: Whereabouts,
    /// What the name has led to since the last success.
    resolved: Vec<IpAddr>,
    /// The address that was left last, until the change is told.
    left_behind: Option<LeftBehind>,
    /// The address last tried.
    address: Option<SocketAddr>,
    /// The address of the last success.
    reached: Option<SocketAddr>,
    address_changes: VecDeque<AddressChange>,
    pool: Option<PoolStats>,
    outage: Outage,
    /// How the last check failed, if it did.
    failing: Option<FailureKind>,
}

impl Record {
    /// A record that knows nothing yet; its first check is due within a fraction of a second.
    pub fn new(policy: Arc<Policy>, now: Now, draw: Fraction) -> Self {
        Self {
            circuit: Circuit::new(policy.circuit, now),
            schedule: Schedule::starting(now.mono, policy.interval, draw),
            policy,
            window: Window::default(),
            history: History::default(),
            tries_before_success: 0,
            failing_since: None,
            last_seen: None,
            working_since: None,
            lost_due: None,
            last_check: None,
            last_failure: None,
            whereabouts: Whereabouts::default(),
            resolved: Vec::new(),
            left_behind: None,
            address: None,
            reached: None,
            address_changes: VecDeque::new(),
            pool: None,
            outage: Outage::default(),
            failing: None,
        }
    }

    /// One that knows that a check has succeeded before, and has all else to learn.
    pub fn that_succeeded_before(policy: Arc<Policy>, now: Now, draw: Fraction) -> Self {
        let mut record = Self::new(policy, now, draw);
        record.circuit = record.circuit.that_succeeded_before();
        record
    }

    /// One for a dependency whose settings were changed: of what was seen of it under the old ones, it knows whether it
    /// has ever come up, and whether it was down. A change of settings must neither blame the deployment for what comes
    /// later, nor make well what is not.
    pub fn in_place_of(before: &DependencyView, policy: Arc<Policy>, now: Now, draw: Fraction) -> Self {
        match before.succeeded_once {
            false => Self::new(policy, now, draw),
            true => {
                let mut record = Self::that_succeeded_before(policy, now, draw);
                if before.circuit.broken {
                    record.circuit = record.circuit.that_was_broken();
                }
                record
            }
        }
    }

    /// The rules that it goes by.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The remembered checks.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// When the next check is due; while the circuit is open, its next trial. The end of an override is due, too: a trial
    /// follows it.
    pub fn due(&self) -> Monotonic {
        match self.circuit.held() {
            None => self.schedule.due(),
            Some(Override { mode: Mode::ForcedOpen, expires, .. }) => expires.mono,
            Some(Override { mode: Mode::ForcedClosed, expires, .. }) => self.schedule.due().min(expires.mono),
        }
    }

    /// Whether the last check failed.
    pub fn failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Whether no checks run until a trial, so that a change of addresses is worth looking for.
    pub fn is_open(&self) -> bool {
        self.circuit.state() == State::Open && self.circuit.held().is_none()
    }

    /// The state of the circuit, for tests that look at a thousand of them again and again.
    #[cfg(test)]
    pub(crate) fn state(&self) -> State {
        self.circuit.state()
    }

    /// The override in force.
    pub fn held(&self) -> Option<&Override> {
        self.circuit.held()
    }

    /// An operator holds the circuit.
    pub fn hold(&mut self, over: Arc<Override>, now: Now) {
        self.circuit.hold(over, now);
        self.check_at(now);
    }

    /// An operator has the past forgotten.
    pub fn reset(&mut self, actor: Actor, now: Now) {
        self.circuit.reset(actor, now);
        self.check_at(now);
    }

    /// Ends the override where its time has come; whether it did.
    pub fn expire(&mut self, now: Now) -> bool {
        let expired = self.circuit.expire(now);
        if expired {
            self.check_at(now);
        }
        expired
    }

    /// An operator wants a check now: while the circuit is open, a trial before its time. Where it is held open no check
    /// is made; `false` then.
    pub fn request(&mut self, now: Now) -> bool {
        if self.circuit.is_held(Mode::ForcedOpen) {
            return false;
        }
        self.circuit.hurry(Reason::Requested, now);
        let soonest = self.last_check.as_ref().map_or(now.mono, |last| last.ended() + ORDERED_APART);
        let soonest = soonest.max(now.mono);
        // One that is due sooner by the schedule is the one that was wanted.
        if self.schedule.due() > soonest || self.schedule.due() < now.mono {
            self.schedule.at(soonest);
        }
        true
    }

    /// A check is due now. That makes no result fresh: what was lost before is still lost.
    fn check_at(&mut self, now: Now) {
        self.schedule.at(now.mono);
    }

    /// Asks to make a check now. An override whose time is over ends here at the latest.
    pub fn admit(&mut self, now: Now) -> Option<Permit> {
        self.expire(now);
        self.circuit.admit(now, self.policy.timeout + GRACE)
    }

    /// While the circuit is open: what the name resolves to now. An address that was not there before ends
    /// the wait, since it is how a failover looks from here.
    pub fn resolved_while_open(&mut self, addresses: &[IpAddr], now: Now) {
        let known = !self.resolved.is_empty() && self.resolved.len() < RESOLVED_KEPT;
        if known && self.is_open() && addresses.iter().any(|address| !self.resolved.contains(address)) {
            self.remember(addresses);
            self.circuit.hurry(Reason::AddressesChanged, now);
            self.schedule.at(now.mono);
        }
    }

    /// A check was lost: its task panicked, or hung beyond its timeout and was ended. Nothing is learnt of the
    /// dependency, so what readers see is left to grow stale, however often that happens; the next check comes
    /// at its usual time.
    pub fn lost(&mut self, now: Now, draw: Fraction) {
        self.lost_due.get_or_insert(self.schedule.due());
        self.circuit.lost(now, draw);
        self.plan_next(now.mono, draw);
    }

    /// A check ended.
    pub fn finish(&mut self, check: Check, draw: Fraction) {
        let ended = Now { mono: check.ended(), wall: check.at.wall_at(check.ended()) };
        let (before, stood) = (self.circuit.state(), self.standing());
        let latency = check.ok().then_some(check.latency);
        if check.ok() && !self.circuit.succeeded_once() {
            // What failed before it had come up at all does not make it flaky.
            self.window.forgive();
            self.window.record(ended.mono, 1, 0, latency);
        } else {
            self.window.record(ended.mono, check.attempts, check.failed_attempts(), latency);
        }
        match check.failure() {
            None => {
                self.circuit.success(ended);
                self.failing_since = None;
                self.working_since.get_or_insert(ended.mono);
            }
            Some(failure) => {
                self.circuit.failure(failure.kind, ended, draw);
                self.working_since = None;
                self.failing_since.get_or_insert(ended.mono);
            }
        }
        if before != State::Closed && self.circuit.state() == State::Closed {
            self.window.forgive();
        }
        self.failing = check.failure().map(|failure| failure.kind);
        self.outage.note(stood, self.standing());
        self.lost_due = None;
        self.note_address(&check, ended);
        self.pool = check.pool;

        let check = Arc::new(check);
        let newest = if check.ok() { &mut self.last_seen } else { &mut self.last_failure };
        *newest = Some(Arc::clone(&check));
        self.history.push(Arc::clone(&check));
        self.last_check = Some(check);
        self.plan_next(ended.mono, draw);
    }

    fn standing(&self) -> Standing {
        Standing { failing: self.failing, broken: self.circuit.is_broken() }
    }

    /// The last check, where it failed and a diagnosis is owed.
    pub fn unexplained(&self) -> Option<Unexplained> {
        let (failure, check) = (self.outage.unexplained()?, self.last_failure.as_ref()?);
        let before = self.last_seen.as_ref().and_then(|seen| seen.details().cloned());
        Some(Unexplained { failure, check: Arc::clone(check), before })
    }

    /// What a diagnosis found out about a failure.
    pub fn explain(&mut self, failure: FailureId, diagnosis: Arc<Diagnosis>) {
        self.outage.explain(failure, diagnosis);
    }

    /// A check ended, whether or not it told anything: when the next one is due.
    fn plan_next(&mut self, ended: Monotonic, draw: Fraction) {
        if !self.circuit.succeeded_once() {
            self.tries_before_success = self.tries_before_success.saturating_add(1);
        }
        match self.circuit.trial_at() {
            Some(trial) => self.schedule.at(trial),
            None => self.schedule.advance(ended, self.interval(), draw),
        }
    }

    /// From this check to the next one.
    fn interval(&self) -> Duration {
        let policy = &self.policy;
        if self.circuit.state() == State::HalfOpen {
            return policy.circuit.half_open_interval.min(policy.interval);
        }
        if self.circuit.succeeded_once() {
            return policy.interval;
        }
        let doublings = self.tries_before_success.saturating_sub(1).min(31);
        policy.startup_interval.saturating_mul(1 << doublings).min(policy.interval)
    }

    /// Adds addresses to those that the name has led to since the last success: the answers of a name that
    /// rotates look new one by one, and must not count as a failover for ever.
    fn remember(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            if !self.resolved.contains(address) && self.resolved.len() < RESOLVED_KEPT {
                self.resolved.push(*address);
            }
        }
    }

    fn note_address(&mut self, check: &Check, at: Now) {
        if check.ok() && !check.resolved.is_empty() {
            self.resolved.clear();
        }
        self.remember(&check.resolved);
        self.whereabouts.note(&check.resolved);
        self.address = check.address.or(self.address);
        self.left_behind = check.left_behind.or(self.left_behind);
        match (self.policy.kind, check.address) {
            // Nothing is connected to: the answer itself is what changes, also to one that was not expected.
            (Kind::Dns, _) if !check.resolved.is_empty() => {
                for change in self.whereabouts.changes() {
                    self.tell_change(change, at);
                }
                self.whereabouts.settle();
            }
            // An address that was only tried may be the second of two that are both dead: no change.
            (_, Some(reached)) if check.ok() => {
                let before = self.reached.replace(reached).map(|before| before.ip());
                // Only names move: of a literal address nothing is ever known.
                if let Some(before) = before.filter(|before| self.whereabouts.moved(*before, reached.ip())) {
                    self.tell_change((Some(before), Some(reached.ip())), at);
                }
                self.whereabouts.settle();
                self.left_behind = None;
            }
            _ => {}
        }
    }

    fn tell_change(&mut self, (from, to): Change, at: Now) {
        if self.address_changes.len() == ADDRESS_CHANGES_KEPT {
            self.address_changes.pop_front();
        }
        let left = self.left_behind.take_if(|left| Some(left.from.ip()) == from);
        let from_answers = left.map(|left| left.answers);
        self.address_changes.push_back(AddressChange { at: at.wall, from, to, from_answers });
    }

    /// What readers see.
    pub fn view(&self, now: Monotonic) -> DependencyView {
        DependencyView {
            policy: Arc::clone(&self.policy),
            circuit: self.circuit.view(),
            succeeded_once: self.circuit.succeeded_once(),
            next_due: match self.lost_due {
                // Nothing is missed while no checks are made.
                Some(lost) if !self.circuit.is_held(Mode::ForcedOpen) => lost,
                _ => self.due(),
            },
            failing_since: self.failing_since,
            last_seen: self.last_seen.clone(),
            working_since: self.working_since,
            last_check: self.last_check.clone(),
            last_failure: self.last_failure.clone(),
            diagnosis: self.outage.diagnosis().cloned(),
            history: self.history.iter().cloned().collect(),
            address: self.address,
            address_changes: self.address_changes.iter().copied().collect(),
            flaky: self.window.flaky(now),
            latency: self.window.latency(now),
            pool: self.pool,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::observation::TcpDetails;
    use crate::health::snapshot::Status;
    use crate::health::test_support::{
        api_policy, count, diagnosis, failed, held, millis, mono, now, policy, record, run_many, run_next,
        secs, succeeded,
    };
    use crate::health::{Details, FailureKind, Kind, Observation};

    const REFUSED: Result<(), FailureKind> = Err(FailureKind::ConnectRefused);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// The gaps between so many checks that come to `outcome`, in milliseconds.
    fn gaps(record: &mut Record, checks: usize, outcome: Result<(), FailureKind>) -> Vec<u128> {
        let dues: Vec<Monotonic> = (0..=checks).map(|_| run_next(record, outcome)).collect();
        dues.windows(2).map(|two| two[1].since(two[0]).as_millis()).collect()
    }

    /// A record whose circuit has just opened, its trial due after the middle of the recovery timeout.
    fn open() -> Record {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        run_many(&mut record, 5, REFUSED);
        assert!(record.is_open());
        record
    }

    /// The same, half open and waiting for its second trial. Returns when the first one was due.
    fn half_open() -> (Record, Monotonic) {
        let mut record = open();
        let trial = run_next(&mut record, Ok(()));
        assert_eq!(record.view(trial).circuit.state, State::HalfOpen);
        (record, trial)
    }

    #[test]
    fn a_new_record_is_unknown_and_due_at_once() {
        let record = Record::new(Arc::new(policy("database")), now(secs(7)), Fraction::new(0.999));
        assert!(record.due() >= mono(secs(7)) && record.due() <= mono(millis(7_200)));
        let view = record.view(mono(secs(8)));
        assert_eq!(view.status(mono(secs(8))), Status::Unknown);
        assert_eq!((view.last_check, view.last_failure, view.latency, view.pool), (None, None, None, None));
        assert_eq!(record.history().iter().count(), 0);
    }

    #[test]
    fn an_outage_is_explained_when_it_begins_and_when_the_circuit_opens() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        assert_eq!(record.unexplained(), None);
        run_next(&mut record, REFUSED);
        let first = record.unexplained().expect("the first failure is worth a diagnosis");
        assert_eq!(Some(&first.check), record.view(record.due()).last_failure.as_ref());
        record.explain(first.failure, diagnosis("refused"));
        run_many(&mut record, 3, REFUSED);
        assert_eq!(record.unexplained(), None, "it is known why");
        run_next(&mut record, REFUSED);
        assert!(record.is_open());
        let opening = record.unexplained().expect("the opening is worth another one");
        assert_eq!(opening.failure.outage, first.failure.outage);
        record.explain(opening.failure, diagnosis("still refused"));
        run_next(&mut record, REFUSED);
        assert_eq!(record.unexplained(), None, "a trial failed");
        let told = |record: &Record| {
            record.view(record.due()).diagnosis.map(|diagnosis| diagnosis.verdict.summary.clone())
        };
        run_next(&mut record, Ok(()));
        run_next(&mut record, REFUSED);
        assert_eq!(record.unexplained(), None, "half open, it is the same outage");
        run_many(&mut record, 3, Ok(()));
        assert_eq!(told(&record).as_deref(), Some("still refused"), "it stays with the last failure");
        run_next(&mut record, REFUSED);
        assert_eq!(told(&record), None, "of this outage nothing is known yet");
        record.explain(opening.failure, diagnosis("late"));
        assert_eq!(told(&record), None);
        assert!(record.unexplained().is_some_and(|now| now.failure.outage != opening.failure.outage));
    }

    #[test]
    fn what_it_told_before_is_there_to_explain_it_by() {
        let mut record = record(policy("database"));
        run_next(&mut record, REFUSED);
        assert_eq!(record.unexplained().and_then(|it| it.before), None, "it has never worked");
        let details = Details::Tcp(TcpDetails { peer: None, tls: None });
        let seen = Observation { warnings: Vec::new(), details: details.clone() };
        let began = record.due().since_origin();
        record.finish(Check { outcome: Ok(seen), ..succeeded(began, millis(1)) }, Fraction::ZERO);
        run_next(&mut record, REFUSED);
        assert_eq!(record.unexplained().and_then(|it| it.before), Some(details));
    }

    #[test]
    fn held_closed_an_outage_goes_on_by_what_is_measured() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        run_many(&mut record, 5, REFUSED);
        let opening = record.unexplained().expect("it has just opened").failure;
        record.explain(opening, diagnosis("refused"));
        let due = record.due();
        record.hold(held(Mode::ForcedClosed, now(due.since_origin()), secs(3600)), now(due.since_origin()));
        run_next(&mut record, Ok(()));
        run_next(&mut record, REFUSED);
        assert_eq!(record.unexplained(), None, "two more successes would have ended it");
        run_many(&mut record, 3, Ok(()));
        run_next(&mut record, REFUSED);
        assert!(record.unexplained().is_some_and(|it| it.failure.outage != opening.outage));
    }

    #[test]
    fn one_in_place_of_another_takes_over_what_a_change_of_settings_does_not_touch() {
        let at = now(secs(500));
        let next = |before: &Record| {
            let before = before.view(at.mono);
            let policy = Policy { timeout: secs(9), ..policy("database") };
            Record::in_place_of(&before, Arc::new(policy), at, Fraction::ZERO)
        };
        let seen = |record: &Record| {
            let view = record.view(at.mono);
            (view.circuit.state, view.succeeded_once, view.circuit.failures, view.circuit.transitions.len())
        };
        // One that never came up: what comes next is still its first success, or a bad deployment.
        let mut never_up = record(policy("database"));
        run_next(&mut never_up, REFUSED);
        assert_eq!(seen(&next(&never_up)), (State::Closed, false, 0, 0));
        let mut failing = record(policy("database"));
        run_next(&mut failing, Ok(()));
        run_next(&mut failing, REFUSED);
        assert_eq!(
            seen(&next(&failing)),
            (State::Closed, true, 0, 0),
            "below the threshold, and counted anew"
        );

        // One that was down stays so until trials have succeeded.
        let mut broken = next(&open());
        assert_eq!(seen(&broken), (State::HalfOpen, true, 0, 0));
        assert!(broken.due() <= at.mono + millis(200), "at once");
        assert!(broken.view(at.mono).known_down());
        run_many(&mut broken, 2, Ok(()));
        assert_eq!(broken.view(at.mono).circuit.state, State::HalfOpen);
        run_next(&mut broken, Ok(()));
        assert_eq!(broken.view(at.mono).circuit.state, State::Closed);
        let mut broken = next(&open());
        run_next(&mut broken, REFUSED);
        assert!(broken.is_open());
    }

    // The time between checks.

    #[test]
    fn before_the_first_success_the_startup_interval_doubles_up_to_the_interval() {
        let mut record = record(policy("database"));
        let seen = gaps(&mut record, 7, REFUSED);
        assert_eq!(seen, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn a_startup_interval_beyond_the_interval_is_the_interval() {
        let mut record =
            record(Policy { startup_interval: secs(30), interval: secs(5), ..policy("database") });
        assert_eq!(gaps(&mut record, 3, REFUSED), [5_000, 5_000, 5_000]);
    }

    #[test]
    fn after_a_thousand_tries_the_doubling_has_not_overflowed() {
        let mut record = record(Policy { startup_interval: secs(9), ..policy("database") });
        run_many(&mut record, 1_000, REFUSED);
        assert_eq!(gaps(&mut record, 1, REFUSED), [10_000]);
    }

    #[test]
    fn from_the_first_success_on_it_is_the_interval() {
        let mut record = record(policy("database"));
        run_many(&mut record, 2, REFUSED);
        assert_eq!(gaps(&mut record, 2, Ok(())), [10_000, 10_000]);
        assert_eq!(gaps(&mut record, 2, REFUSED), [10_000, 10_000], "also while it fails again");
    }

    #[test]
    fn half_open_the_trials_come_by_the_half_open_interval() {
        let mut record = open();
        assert_eq!(gaps(&mut record, 3, Ok(())), [2_000, 2_000, 10_000], "the third success closes it");
    }

    #[test]
    fn a_half_open_interval_beyond_the_interval_is_the_interval() {
        let mut slow = policy("database");
        slow.circuit.half_open_interval = secs(40);
        let mut record = record(slow);
        run_next(&mut record, Ok(()));
        run_many(&mut record, 5, REFUSED);
        assert_eq!(gaps(&mut record, 2, Ok(())), [10_000, 10_000]);
    }

    #[test]
    fn while_open_the_next_check_is_the_trial() {
        let mut record = open();
        let opened = record.view(record.due()).circuit.since.mono;
        // Without jitter the draw is 0, which is the short end of the recovery timeout.
        assert_eq!(record.due(), opened + secs(54));
        assert_eq!(record.view(opened).next_due, record.due());
        assert_eq!(record.admit(now(record.due().since_origin() - millis(1))), None);
        assert_eq!(record.admit(now(record.due().since_origin())), Some(Permit::Trial));
    }

    #[test]
    fn a_failed_trial_waits_for_another_recovery_timeout() {
        let mut record = open();
        let trial = run_next(&mut record, REFUSED);
        assert_eq!(record.due(), trial + millis(1) + secs(54));
        assert_eq!(record.view(trial).circuit.opens, 2);
    }

    #[test]
    fn a_check_that_outlasts_its_interval_is_followed_at_once() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        record.admit(now(secs(10)));
        record.finish(failed(secs(10), secs(25), FailureKind::Timeout), Fraction::HALF);
        assert_eq!(record.due(), mono(secs(35)));
    }

    // Lost checks.

    #[test]
    fn a_lost_check_teaches_nothing_and_the_next_comes_at_its_usual_time() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        let before = record.view(mono(secs(1)));
        record.admit(now(secs(10)));
        record.lost(now(secs(11)), Fraction::ZERO);
        let after = record.view(mono(secs(11)));
        assert_eq!(record.due(), mono(secs(20)));
        assert_eq!(after.last_check, before.last_check);
        assert_eq!((after.circuit.failures, after.circuit.successes), (0, 1));
    }

    #[test]
    fn a_lost_check_before_the_first_success_is_followed_as_a_failed_one() {
        let mut record = record(policy("database"));
        let mut dues = Vec::new();
        for _ in 0..6 {
            dues.push(record.due());
            record.lost(now(record.due().since_origin() + millis(1)), Fraction::ZERO);
        }
        let gaps: Vec<u64> = dues.windows(2).map(|two| two[1].since(two[0]).as_secs()).collect();
        assert_eq!(gaps, [1, 2, 4, 8, 10]);
    }

    #[test]
    fn a_lost_trial_waits_for_another_recovery_timeout() {
        let (mut record, _) = half_open();
        let second = record.due();
        assert_eq!(record.admit(now(second.since_origin())), Some(Permit::Trial));
        let lost = second + millis(5);
        record.lost(now(lost.since_origin()), Fraction::HALF);
        assert_eq!((record.is_open(), record.due()), (true, lost + secs(60)));
        assert_eq!(record.admit(now(record.due().since_origin())), Some(Permit::Trial));
    }

    #[test]
    fn however_often_checks_are_lost_the_result_grows_stale() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        let due = record.due();
        let mut at = due;
        for _ in 0..10 {
            // Each hangs for its timeout and the grace, and is ended.
            at = record.due().max(at) + secs(11);
            record.lost(now(at.since_origin()), Fraction::HALF);
            assert_eq!(record.view(at).stale_from(), due + secs(20), "as if none had been made");
        }
        assert_eq!(record.view(at).status(at), Status::Unknown);
        run_next(&mut record, Ok(()));
        let view = record.view(record.due());
        assert_eq!((view.status(record.due()), view.next_due), (Status::Up, record.due()));
    }

    // What a check leaves behind.

    #[test]
    fn a_success_after_failures_leaves_the_last_failure_to_be_read() {
        let mut record = record(policy("database"));
        run_many(&mut record, 2, REFUSED);
        run_next(&mut record, Err(FailureKind::StartingUp));
        let ok = run_next(&mut record, Ok(()));
        let view = record.view(ok + millis(1));
        let kind = |check: &Check| check.failure().map(|f| f.kind);
        assert_eq!(view.last_failure.as_deref().and_then(kind), Some(FailureKind::StartingUp));
        assert!(view.last_check.as_ref().is_some_and(|check| check.ok()));
        assert_eq!((view.failing_since, view.failing_by()), (None, None));
        assert_eq!(record.history().iter().filter(|check| !check.ok()).count(), 3);
    }

    #[test]
    fn remembers_when_it_began_to_fail_and_since_when_it_works() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        run_next(&mut record, Ok(()));
        let view = record.view(record.due());
        assert_eq!((view.working_since, view.failing_since), (Some(mono(millis(1))), None));
        let first_failed = run_next(&mut record, REFUSED);
        run_next(&mut record, REFUSED);
        let view = record.view(record.due());
        assert_eq!(view.failing_since, Some(first_failed + millis(1)));
        assert_eq!(view.working_since, None);
        assert_eq!(view.last_success(), Some(mono(millis(10_001))));
        assert_eq!(view.last_success_began(), Some(mono(secs(10))));
        let back = run_next(&mut record, Ok(()));
        run_next(&mut record, Ok(()));
        let view = record.view(record.due());
        assert_eq!((view.failing_since, view.working_since), (None, Some(back + millis(1))));
    }

    #[test]
    fn the_end_of_a_check_is_shown_on_both_clocks() {
        let mut record = record(policy("database"));
        run_next(&mut record, Ok(()));
        for n in 1..=5 {
            record.finish(failed(secs(n * 10), secs(3), FailureKind::Timeout), Fraction::HALF);
        }
        assert_eq!(record.view(mono(secs(53))).circuit.since, now(secs(53)));
    }

    #[test]
    fn a_flaky_dependency_is_forgiven_when_its_circuit_closes() {
        let mut record = record(policy("database"));
        run_many(&mut record, 5, Ok(()));
        run_many(&mut record, 5, REFUSED);
        assert!(record.is_open() && record.view(record.due()).flaky);
        run_many(&mut record, 2, Ok(()));
        assert!(record.view(record.due()).flaky, "half open, nothing is forgiven yet");
        run_next(&mut record, Ok(()));
        let view = record.view(record.due());
        assert_eq!((view.circuit.state, view.flaky), (State::Closed, false));
        assert_eq!(view.status(record.due()), Status::Up);
    }

    #[test]
    fn one_success_makes_it_up_whatever_failed_before_the_first() {
        let mut record = record(policy("database"));
        for n in 0..20 {
            let at = record.due().since_origin();
            let check = Check { attempts: 3, ..failed(at, millis(1), FailureKind::ConnectRefused) };
            record.finish(check, Fraction::ZERO);
            assert_eq!(record.view(record.due()).status(mono(at)), Status::Down, "check {n}");
        }
        let first = record.due() + millis(1);
        let check = Check { attempts: 10, ..succeeded(record.due().since_origin(), millis(1)) };
        record.finish(check, Fraction::ZERO);
        let view = record.view(first);
        assert_eq!((view.status(first), view.warnings()), (Status::Up, Vec::new()), "nor its own retries");
    }

    #[test]
    fn the_pool_is_as_the_last_check_left_it() {
        let pool = PoolStats { max: 2, size: 1, ..PoolStats::default() };
        let mut record = record(policy("database"));
        record.finish(Check { pool: Some(pool), ..succeeded(secs(0), millis(1)) }, Fraction::ZERO);
        assert_eq!(record.view(record.due()).pool, Some(pool));
    }

    // Addresses.

    fn seen_at(at: u64, address: &str, resolved: &[&str]) -> Check {
        Check {
            address: Some(SocketAddr::new(ip(address), 5432)),
            resolved: resolved.iter().map(|text| ip(text)).collect(),
            ..succeeded(secs(at), millis(1))
        }
    }

    fn change(at: u64, from: &str, to: &str) -> AddressChange {
        let wall = now(millis(at)).wall;
        AddressChange { at: wall, from: Some(ip(from)), to: Some(ip(to)), from_answers: None }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_a_change_of_address() {
        let mut record = record(policy("database"));
        record.finish(seen_at(0, "10.0.0.1", &["10.0.0.1"]), Fraction::ZERO);
        // A pooled connection: nothing was resolved, the address is the same.
        record.finish(seen_at(10, "10.0.0.1", &[]), Fraction::ZERO);
        record.finish(seen_at(20, "10.0.0.2", &["10.0.0.2"]), Fraction::ZERO);
        record.finish(seen_at(30, "10.0.0.2", &["10.0.0.2"]), Fraction::ZERO);
        let view = record.view(mono(secs(31)));
        assert_eq!(view.address_changes[..], [change(20_001, "10.0.0.1", "10.0.0.2")]);
        assert_eq!(view.address, Some(SocketAddr::new(ip("10.0.0.2"), 5432)));
    }

    #[test]
    fn a_check_that_did_not_get_as_far_as_an_address_keeps_the_last_one() {
        let mut record = record(policy("database"));
        record.finish(seen_at(0, "10.0.0.1", &["10.0.0.1"]), Fraction::ZERO);
        record.finish(failed(secs(10), millis(1), FailureKind::DnsTimeout), Fraction::ZERO);
        assert_eq!(record.view(mono(secs(11))).address, Some(SocketAddr::new(ip("10.0.0.1"), 5432)));
    }

    #[test]
    fn the_newest_twenty_changes_of_address_are_kept() {
        let mut record = record(policy("database"));
        for n in 0..=50u64 {
            let address = format!("10.0.0.{n}");
            record.finish(seen_at(n * 10, &address, &[&address]), Fraction::ZERO);
        }
        let changes = record.view(mono(secs(501))).address_changes;
        let to = [changes[0].to, changes[19].to];
        assert_eq!((changes.len(), to), (20, [Some(ip("10.0.0.31")), Some(ip("10.0.0.50"))]));
    }

    #[test]
    fn a_name_with_several_addresses_does_not_change_by_being_reached_at_another() {
        let mut record = record(policy("database"));
        for n in 0..10u64 {
            let reached = ["10.0.0.1", "10.0.0.2"][(n % 2) as usize];
            record.finish(seen_at(n * 10, reached, &["10.0.0.1", "10.0.0.2"]), Fraction::ZERO);
        }
        assert!(record.view(mono(secs(101))).address_changes.is_empty());
    }

    #[test]
    fn a_name_that_gives_one_of_several_addresses_in_turns_does_not_change_for_ever() {
        let mut record = record(policy("database"));
        for n in 0..500u64 {
            let reached = ["10.0.0.1", "10.0.0.2", "10.0.0.3"][(n % 3) as usize];
            record.finish(seen_at(n * 10, reached, &[reached]), Fraction::ZERO);
        }
        assert!(record.view(mono(secs(5_001))).address_changes.len() <= 4);
        record.finish(seen_at(5_010, "10.0.0.9", &["10.0.0.9"]), Fraction::ZERO);
        let changes = record.view(mono(secs(5_011))).address_changes;
        assert_eq!(changes.last().and_then(|change| change.to), Some(ip("10.0.0.9")));
    }

    #[test]
    fn whether_the_address_before_still_answers_stands_beside_the_change_when_it_is_told() {
        let mut record = record(policy("database"));
        record.finish(seen_at(0, "10.0.0.1", &["10.0.0.1"]), Fraction::ZERO);
        // The new server takes connections and is still starting: no change is told yet.
        let at = |text| SocketAddr::new(ip(text), 5432);
        let left = LeftBehind { from: at("10.0.0.1"), to: at("10.0.0.2"), answers: true };
        let starting = Check {
            address: Some(left.to),
            resolved: vec![left.to.ip()],
            left_behind: Some(left),
            ..failed(secs(10), millis(1), FailureKind::StartingUp)
        };
        record.finish(starting, Fraction::ZERO);
        assert!(record.view(mono(secs(11))).address_changes.is_empty());
        record.finish(seen_at(20, "10.0.0.2", &["10.0.0.2"]), Fraction::ZERO);
        let told = AddressChange { from_answers: Some(true), ..change(20_001, "10.0.0.1", "10.0.0.2") };
        assert_eq!(record.view(mono(secs(21))).address_changes[..], [told]);
    }

    #[test]
    fn of_a_dns_dependency_each_address_that_came_or_went_is_a_change() {
        let dns = Policy { kind: Kind::Dns, ..policy("resolver") };
        let mut record = record(dns);
        let answer = |at: u64, addresses: &[&str]| {
            let resolved = addresses.iter().map(|text| ip(text)).collect();
            Check { resolved, ..succeeded(secs(at), millis(1)) }
        };
        record.finish(answer(0, &["10.0.0.1", "10.0.0.2"]), Fraction::ZERO);
        record.finish(answer(10, &["10.0.0.2", "10.0.0.1"]), Fraction::ZERO);
        record.finish(answer(20, &["10.0.0.2", "10.0.0.3"]), Fraction::ZERO);
        // No answer, and then the same again: nothing came or went.
        record.finish(failed(secs(30), millis(1), FailureKind::DnsTimeout), Fraction::ZERO);
        record.finish(answer(40, &["10.0.0.2", "10.0.0.3"]), Fraction::ZERO);
        // One that was not expected is still where the name led.
        let unexpected = failed(secs(50), millis(1), FailureKind::DnsUnexpectedAnswer);
        record.finish(Check { resolved: vec![ip("10.0.0.3")], ..unexpected }, Fraction::ZERO);
        let changes = record.view(mono(secs(51))).address_changes;
        let went = AddressChange { to: None, ..change(50_001, "10.0.0.2", "10.0.0.2") };
        assert_eq!(changes[..], [change(20_001, "10.0.0.1", "10.0.0.3"), went]);
    }

    /// Open, after the name had led to 10.0.0.1.
    fn open_at_an_address() -> Record {
        let mut record = record(policy("database"));
        record.finish(seen_at(0, "10.0.0.1", &["10.0.0.1", "10.0.0.9"]), Fraction::ZERO);
        run_many(&mut record, 5, REFUSED);
        assert!(record.is_open());
        record
    }

    #[test]
    fn a_new_address_ends_the_wait_at_once() {
        let mut record = open_at_an_address();
        let at = now(secs(60));
        assert!(record.due() > at.mono);
        record.resolved_while_open(&[ip("10.0.0.1"), ip("10.0.0.2")], at);
        assert_eq!((record.due(), record.is_open()), (at.mono, false));
        assert_eq!(record.admit(at), Some(Permit::Trial));
        let view = record.view(at.mono);
        let last = view.circuit.transitions.last().expect("one");
        assert_eq!((last.to, &last.reason), (State::HalfOpen, &Reason::AddressesChanged));
    }

    #[test]
    fn addresses_known_before_do_not_end_the_wait() {
        for addresses in [&["10.0.0.1"][..], &["10.0.0.9", "10.0.0.1"], &[]] {
            let mut record = open_at_an_address();
            let due = record.due();
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
            record.resolved_while_open(&addresses, now(secs(60)));
            assert!(record.is_open() && record.due() == due, "{addresses:?}");
        }
    }

    #[test]
    fn the_same_new_address_ends_only_one_wait() {
        let mut record = open_at_an_address();
        record.resolved_while_open(&[ip("10.0.0.2")], now(secs(60)));
        run_next(&mut record, REFUSED);
        assert!(record.is_open());
        let due = record.due();
        record.resolved_while_open(&[ip("10.0.0.2")], now(secs(65)));
        assert!(record.is_open() && record.due() == due);
    }

    #[test]
    fn a_name_that_rotates_ends_one_wait_for_each_of_its_addresses() {
        let mut record = open_at_an_address();
        let mut trials = 0;
        for turn in 0..12u8 {
            let at = now(secs(60 + u64::from(turn)));
            record.resolved_while_open(&[IpAddr::from([10, 0, 1, turn % 3])], at);
            if !record.is_open() {
                trials += 1;
                run_next(&mut record, REFUSED);
            }
        }
        assert_eq!(trials, 3);
    }

    #[test]
    fn a_name_of_more_addresses_than_are_remembered_ends_no_more_waits() {
        let mut record = open_at_an_address();
        let mut trials = 0;
        for turn in 0..200u8 {
            record.resolved_while_open(&[IpAddr::from([10, 0, 1, turn])], now(secs(60 + u64::from(turn))));
            if !record.is_open() {
                trials += 1;
                run_next(&mut record, REFUSED);
            }
        }
        assert!(trials < RESOLVED_KEPT, "{trials} trials");
    }

    #[test]
    fn an_address_that_was_only_tried_is_shown_and_is_no_change() {
        let mut record = record(policy("database"));
        record.finish(seen_at(0, "10.0.0.1", &["10.0.0.1", "10.0.0.9"]), Fraction::ZERO);
        let tried = seen_at(10, "10.0.0.9", &["10.0.0.1", "10.0.0.9"]);
        let refused = failed(secs(10), millis(1), FailureKind::ConnectRefused);
        record.finish(Check { address: tried.address, resolved: tried.resolved, ..refused }, Fraction::ZERO);
        let view = record.view(mono(secs(11)));
        assert_eq!(view.address, Some(SocketAddr::new(ip("10.0.0.9"), 5432)));
        record.finish(seen_at(20, "10.0.0.1", &["10.0.0.1", "10.0.0.9"]), Fraction::ZERO);
        assert!(record.view(mono(secs(21))).address_changes.is_empty());
    }

    #[test]
    fn a_literal_address_and_a_closed_circuit_are_never_hurried() {
        let mut literal = open();
        literal.resolved_while_open(&[ip("10.0.0.2")], now(secs(60)));
        assert!(literal.is_open());

        let mut closed = record(policy("database"));
        closed.finish(seen_at(0, "10.0.0.1", &["10.0.0.1"]), Fraction::ZERO);
        let due = closed.due();
        closed.resolved_while_open(&[ip("10.0.0.2")], now(secs(1)));
        assert_eq!(closed.due(), due);
    }

    // What operators order.

    /// A record that has succeeded at 0 s, 10 s and 20 s.
    fn working() -> Record {
        let mut record = record(policy("database"));
        run_many(&mut record, 3, Ok(()));
        record
    }

    fn hold(record: &mut Record, mode: Mode, from: u64, span: Duration) {
        record.hold(held(mode, now(secs(from)), span), now(secs(from)));
    }

    #[test]
    fn forced_open_the_next_that_is_due_is_the_trial_after_it() {
        let mut record = working();
        hold(&mut record, Mode::ForcedOpen, 25, secs(600));
        assert_eq!((record.due(), record.view(mono(secs(25))).next_due), (mono(secs(625)), mono(secs(625))));
        assert_eq!(record.admit(now(secs(600))), None);
        assert!(!record.is_open(), "nor is a change of addresses looked for");
        record.resolved_while_open(&[ip("10.0.0.2")], now(secs(600)));
        assert_eq!(record.due(), mono(secs(625)));
        assert!(record.expire(now(secs(625))));
        assert_eq!((record.due(), record.admit(now(secs(625)))), (mono(secs(625)), Some(Permit::Trial)));
    }

    #[test]
    fn forced_closed_a_check_is_made_at_once_and_the_rest_as_ever() {
        let mut record = open();
        let at = record.due().since_origin() - secs(30);
        record.hold(held(Mode::ForcedClosed, now(at), secs(25)), now(at));
        assert_eq!(record.due(), mono(at));
        assert_eq!(gaps(&mut record, 2, REFUSED), [10_000, 10_000]);
        let end = mono(at + secs(25));
        assert_eq!(record.due(), end, "the end is due before the next check");
        assert_eq!(
            record.admit(now(at + secs(25))),
            Some(Permit::Trial),
            "and has come, without being asked"
        );
        assert!(record.held().is_none());
        record.finish(succeeded(at + secs(25), millis(1)), Fraction::ZERO);
        assert_eq!(record.due(), end + secs(2), "by the half-open interval from there");
    }

    #[test]
    fn the_end_of_an_override_while_a_check_is_under_way_takes_it_for_the_trial() {
        let mut record = working();
        hold(&mut record, Mode::ForcedClosed, 25, secs(7));
        record.admit(now(secs(30)));
        assert!(record.expire(now(secs(32))));
        record.finish(succeeded(secs(30), secs(3)), Fraction::ZERO);
        let circuit = record.view(mono(secs(33))).circuit;
        // Three from before, and this one.
        assert_eq!((circuit.state, circuit.consecutive_successes), (State::Closed, 4));
    }

    #[test]
    fn a_reset_and_a_request_bring_the_next_check_forward() {
        let mut closed = working();
        closed.reset(Actor::new("bob"), now(secs(25)));
        assert_eq!((closed.due(), closed.admit(now(secs(25)))), (mono(secs(25)), Some(Permit::Check)));

        let mut asked = open();
        let at = asked.due().since_origin() - secs(30);
        assert!(asked.request(now(at)));
        assert_eq!((asked.due(), asked.admit(now(at))), (mono(at), Some(Permit::Trial)));
        let reasons = asked.view(mono(at)).circuit.transitions;
        assert_eq!(reasons.last().map(|last| last.reason.clone()), Some(Reason::Requested));
    }

    #[test]
    fn no_check_is_made_at_request_where_it_is_held_open() {
        let mut record = working();
        hold(&mut record, Mode::ForcedOpen, 25, secs(600));
        assert!(!record.request(now(secs(30))));
        assert_eq!((record.due(), record.admit(now(secs(30)))), (mono(secs(625)), None));
        hold(&mut record, Mode::ForcedClosed, 30, secs(600));
        assert!(record.request(now(secs(33))));
        assert_eq!(record.admit(now(secs(33))), Some(Permit::Check));
    }

    #[test]
    fn no_order_makes_a_result_fresh_whose_checks_are_lost() {
        let mut record = working();
        let due = record.due();
        let mut at = due;
        for _ in 0..5 {
            at = record.due().max(at) + secs(11);
            record.lost(now(at.since_origin()), Fraction::HALF);
        }
        assert_eq!(record.view(at).status(at), Status::Unknown);
        record.request(now(at.since_origin()));
        assert_eq!(record.view(at).status(at), Status::Unknown, "asked for is not answered");
        record.reset(Actor::new("bob"), now(at.since_origin()));
        let view = record.view(at);
        assert_eq!((view.status(at), view.next_due), (Status::Unknown, due));
        // Held open nothing is missed.
        hold(&mut record, Mode::ForcedOpen, at.since_origin().as_secs(), secs(600));
        assert!(!record.view(at).stale(at));
        run_next(&mut record, Ok(()));
        assert!(!record.view(record.due()).stale(record.due()));
    }

    #[test]
    fn checks_that_are_ordered_come_no_closer_together_than_a_second() {
        let mut record = open();
        let last = record.view(record.due()).last_check.expect("one").ended();
        let at = now(last.since_origin() + millis(10));
        assert!(record.request(at));
        assert_eq!((record.view(at.mono).circuit.state, record.due()), (State::HalfOpen, last + secs(1)));
        assert!(record.request(now(last.since_origin() + millis(500))));
        assert_eq!(record.due(), last + secs(1), "asking again does not put it off");
        run_next(&mut record, REFUSED);
        let at = now(record.due().since_origin() - secs(10));
        assert!(record.request(at));
        assert_eq!(record.due(), at.mono, "nor does anybody wait who comes later");
    }

    #[test]
    fn a_trial_after_an_override_that_closes_it_forgives_what_was_flaky() {
        let mut record = record(policy("database"));
        run_many(&mut record, 6, Ok(()));
        run_many(&mut record, 4, REFUSED);
        let at = record.due().since_origin();
        record.hold(held(Mode::ForcedOpen, now(at), secs(1)), now(at));
        assert!(record.view(mono(at)).flaky);
        run_many(&mut record, 3, Ok(()));
        let view = record.view(record.due());
        assert_eq!((view.circuit.state, view.flaky), (State::Closed, false));
    }

    // Its own policy.

    #[test]
    fn goes_by_the_policy_it_was_given() {
        let mut record = record(api_policy(Kind::Tcp));
        run_next(&mut record, Ok(()));
        run_next(&mut record, REFUSED);
        assert!(!record.is_open());
        run_next(&mut record, REFUSED);
        assert!(record.is_open());
        let trial = run_next(&mut record, Ok(()));
        let view = record.view(trial + millis(1));
        assert_eq!((view.circuit.state, view.status(trial + millis(1))), (State::Closed, Status::Up));
        assert_eq!(record.policy().attempts, count(1));
    }
}
