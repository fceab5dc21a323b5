//! What readers see: one immutable value for all dependencies, made by the registry whenever a check ends.
//!
//! Whether a result is still worth anything is judged when it is read, against the reader's clock: so a
//! runner that hangs or dies cannot leave its last green behind.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::circuit::{CircuitView, State};
use super::window::Latency;
use super::{
    Check, DependencyName, FailureKind, Impact, Monotonic, Now, Policy, PoolStats, WallTime, closed_set,
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
    /// The address before.
    pub from: IpAddr,
    /// The address after.
    pub to: IpAddr,
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
    /// When the next check is due: while one is under way, when that one was due.
    pub next_due: Monotonic,
    /// When the first failed check since the last success ended.
    pub failing_since: Option<Monotonic>,
    /// When the last successful check ended.
    pub last_success: Option<Monotonic>,
    /// The last check.
    pub last_check: Option<Arc<Check>>,
    /// The last check that failed.
    pub last_failure: Option<Arc<Check>>,
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
    /// From this moment on the result is stale: the next one should have come by then, even if its check took
    /// its whole timeout, and one more interval has passed.
    pub fn stale_from(&self) -> Monotonic {
        self.next_due + self.policy.timeout + self.policy.interval
    }

    /// Whether the result is too old to mean anything.
    pub fn stale(&self, now: Monotonic) -> bool {
        self.policy.enabled() && now > self.stale_from()
    }

    /// Its status, by itself. [`Snapshot::status`] also knows of fallbacks.
    pub fn status(&self, now: Monotonic) -> Status {
        let Some(last) = &self.last_check else {
            return if self.policy.enabled() { Status::Unknown } else { Status::Disabled };
        };
        if self.stale(now) {
            Status::Unknown
        } else if self.known_down() {
            Status::Down
        } else if !last.ok() || !self.warnings().is_empty() {
            Status::Degraded
        } else {
            Status::Up
        }
    }

    /// Down by its last result, however old that is.
    pub fn known_down(&self) -> bool {
        self.last_check.is_some() && (self.circuit.state != State::Closed || !self.succeeded_once)
    }

    /// Why it is not quite well although its last check succeeded.
    pub fn warnings(&self) -> Vec<String> {
        let Some(last) = &self.last_check else { return Vec::new() };
        let mut warnings = last.observation().map(|seen| seen.warnings.clone()).unwrap_or_default();
        if last.ok() && last.latency > self.policy.slow_after {
            warnings.push(format!(
                "slow: the last check took {:.0?}, the bound is {:.0?}",
                last.latency, self.policy.slow_after
            ));
        }
        if self.flaky {
            warnings.push("flaky: more than 20 % of the attempts of the last 5 minutes failed".into());
        }
        warnings
    }

    /// The kind of the failure that its status comes from; `None` where the last check succeeded.
    pub fn failing_by(&self) -> Option<FailureKind> {
        let last = self.last_check.as_ref()?;
        match last.failure() {
            Some(failure) => Some(failure.kind),
            // Half open after a success: it is still the old failure that keeps it down.
            None if self.circuit.state != State::Closed => {
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
}

impl Snapshot {
    /// The first snapshot: nothing has been checked yet.
    pub fn new(started: Now, dependencies: Vec<Arc<DependencyView>>) -> Self {
        let topology = Arc::new(Topology::new(dependencies.iter().map(|view| &*view.policy)));
        Self { started, lifecycle: Lifecycle::Running, dependencies, topology }
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
        self.topology.partners[index]
            .iter()
            .any(|partner| matches!(self.dependencies[*partner].status(now), Status::Up | Status::Degraded))
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

    /// Until when an answer made from this snapshot at `now` stays true, if no other snapshot comes: the next
    /// moment at which a result becomes stale.
    pub fn true_until(&self, now: Monotonic) -> Monotonic {
        self.dependencies
            .iter()
            .filter(|view| view.policy.enabled() && !view.stale(now))
            .map(|view| view.stale_from())
            .min()
            .unwrap_or(Monotonic::after_origin(std::time::Duration::MAX))
    }
}
