//! All that is known of one dependency: its circuit, schedule, window and history, moved on by the checks
//! that its runner reports. A runner is a thin loop around this; what it decides is decided here.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::circuit::{Circuit, Permit, Reason, State};
use super::history::History;
use super::schedule::Schedule;
use super::snapshot::{AddressChange, DependencyView};
use super::window::Window;
use super::{Check, Fraction, Monotonic, Now, Policy, PoolStats};

/// Changes of address kept; the oldest go first.
const ADDRESS_CHANGES_KEPT: usize = 20;

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
    /// Checks finished before the first success.
    tries_before_success: u32,
    failing_since: Option<Monotonic>,
    last_success: Option<Monotonic>,
    last_check: Option<Arc<Check>>,
    last_failure: Option<Arc<Check>>,
    resolved: Vec<IpAddr>,
    address: Option<SocketAddr>,
    address_changes: VecDeque<AddressChange>,
    pool: Option<PoolStats>,
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
            last_success: None,
            last_check: None,
            last_failure: None,
            resolved: Vec::new(),
            address: None,
            address_changes: VecDeque::new(),
            pool: None,
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

    /// When the next check is due; while the circuit is open, its next trial.
    pub fn due(&self) -> Monotonic {
        self.schedule.due()
    }

    /// Whether no checks run now, so that a change of addresses is worth looking for.
    pub fn is_open(&self) -> bool {
        self.circuit.state() == State::Open
    }

    /// Asks to make a check now.
    pub fn admit(&mut self, now: Now) -> Option<Permit> {
        self.circuit.admit(now, self.policy.timeout + GRACE)
    }

    /// While the circuit is open: what the name resolves to now. An address that was not there before ends
    /// the wait, since it is how a failover looks from here.
    pub fn resolved_while_open(&mut self, addresses: &[IpAddr], now: Now) {
        let known = !self.resolved.is_empty();
        if known && self.is_open() && addresses.iter().any(|address| !self.resolved.contains(address)) {
            self.resolved = addresses.to_vec();
            self.circuit.hurry(Reason::AddressesChanged, now);
            self.schedule.at(now.mono);
        }
    }

    /// A check was lost: its task panicked, or hung beyond its timeout and was ended. Nothing is learnt of the
    /// dependency, so what readers see is left to grow stale; the next check comes at its usual time.
    pub fn lost(&mut self, now: Now, draw: Fraction) {
        self.schedule.advance(now.mono, self.policy.interval, draw);
    }

    /// A check ended.
    pub fn finish(&mut self, check: Check, draw: Fraction) {
        let ended = Now { mono: check.ended(), wall: check.at.wall_at(check.ended()) };
        let before = self.circuit.state();
        let latency = check.ok().then_some(check.latency);
        self.window.record(ended.mono, check.attempts, check.failed_attempts(), latency);
        match check.failure() {
            None => {
                self.circuit.success(ended);
                self.last_success = Some(ended.mono);
                self.failing_since = None;
            }
            Some(failure) => {
                self.circuit.failure(failure.kind, ended, draw);
                self.failing_since.get_or_insert(ended.mono);
                if !self.circuit.succeeded_once() {
                    self.tries_before_success = self.tries_before_success.saturating_add(1);
                }
            }
        }
        if before != State::Closed && self.circuit.state() == State::Closed {
            self.window.forgive();
        }
        self.note_address(&check, ended);
        self.pool = check.pool;

        let check = Arc::new(check);
        if !check.ok() {
            self.last_failure = Some(Arc::clone(&check));
        }
        self.history.push(Arc::clone(&check));
        self.last_check = Some(check);
        match self.circuit.trial_at() {
            Some(trial) => self.schedule.at(trial),
            None => self.schedule.advance(ended.mono, self.interval(), draw),
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

    fn note_address(&mut self, check: &Check, at: Now) {
        if !check.resolved.is_empty() {
            self.resolved.clone_from(&check.resolved);
        }
        let Some(address) = check.address else { return };
        // Only names move: a literal address is never resolved.
        if let Some(from) = self.address.filter(|from| *from != address && !self.resolved.is_empty()) {
            if self.address_changes.len() == ADDRESS_CHANGES_KEPT {
                self.address_changes.pop_front();
            }
            self.address_changes.push_back(AddressChange { at: at.wall, from: from.ip(), to: address.ip() });
        }
        self.address = Some(address);
    }

    /// What readers see.
    pub fn view(&self, now: Monotonic) -> DependencyView {
        DependencyView {
            policy: Arc::clone(&self.policy),
            circuit: self.circuit.view(),
            succeeded_once: self.circuit.succeeded_once(),
            next_due: self.due(),
            failing_since: self.failing_since,
            last_success: self.last_success,
            last_check: self.last_check.clone(),
            last_failure: self.last_failure.clone(),
            address: self.address,
            address_changes: self.address_changes.iter().copied().collect(),
            flaky: self.window.flaky(now),
            latency: self.window.latency(now),
            pool: self.pool,
        }
    }
}
