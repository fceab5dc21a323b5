//! The registry: the only writer of the snapshot.
//!
//! It gathers the views that runners send, publishes them together, and tells the log what changed. Readers
//! take the published snapshot without a lock and without waiting.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tracing::Level;

use crate::clock::{Clock, Heartbeat};
use crate::health::circuit::{State, Transition};
use crate::health::snapshot::Lifecycle;
use crate::health::{DependencyView, Monotonic, ServiceStatus, Snapshot, Status, verdict};
use crate::log::about;

/// Views waiting to be published, at least; with many dependencies, one of each. A runner whose view does not fit
/// waits: it has nothing better to do.
const WAITING: usize = 64;

/// A publication looks at every dependency. So that a check of one costs no more the more there are of them,
/// publications of many keep apart, and each takes all that has come: apart by this for each dependency…
const APART_EACH: Duration = Duration::from_micros(50);
/// …and by no more than this, which is little beside the intervals at which anybody asks…
const APART_MAX: Duration = Duration::from_millis(50);
/// …and not at all where it would be less than the timer can tell.
const APART_MIN: Duration = Duration::from_millis(1);

/// The loop goes round at least this often, also when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// What the registry is told.
pub(super) enum Update {
    /// A dependency looks different now.
    View {
        /// Its place in the snapshot.
        index: usize,
        /// How it looks.
        view: Arc<DependencyView>,
    },
    /// The agent has been told to stop. Answered once readers see it.
    Drain(oneshot::Sender<()>),
}

/// The registry's loop.
pub(super) struct Registry {
    clock: Clock,
    current: Arc<ArcSwap<Snapshot>>,
    updates: mpsc::Receiver<Update>,
    heartbeat: Heartbeat,
    /// From one publication to the next, at least.
    apart: Duration,
    /// The status of each dependency as it was last told to the log.
    told: Vec<Status>,
    /// The same for the service.
    told_service: Told,
}

/// What the service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    status: ServiceStatus,
    ready: u16,
    alb: u16,
}

impl Told {
    fn of(snapshot: &Snapshot, now: Monotonic) -> Self {
        let ready = verdict::ready(snapshot, now);
        Self { status: ready.status, ready: ready.code(), alb: verdict::alb(snapshot, now).code() }
    }
}

impl Registry {
    /// A registry over a first snapshot, and the way to tell it.
    pub(super) fn new(
        clock: Clock,
        current: Arc<ArcSwap<Snapshot>>,
        heartbeat: Heartbeat,
    ) -> (Self, mpsc::Sender<Update>) {
        let now = clock.mono();
        let first = current.load();
        let count = first.dependencies.len();
        let (sender, updates) = mpsc::channel(count.max(WAITING));
        let told = (0..count).map(|index| first.status(index, now)).collect();
        let told_service = Told::of(&first, now);
        drop(first);
        (Self { clock, current, updates, heartbeat, apart: apart(count), told, told_service }, sender)
    }

    /// Runs until every sender is gone. Calls `published` whenever there is a new snapshot.
    pub(super) async fn run(mut self, published: impl Fn()) {
        let mut batch = Vec::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.updates.recv_many(&mut batch, self.told.len().max(WAITING)) => {
                    if received == 0 {
                        return;
                    }
                    self.publish(batch.drain(..), &published);
                    if !self.apart.is_zero() {
                        tokio::time::sleep(self.apart).await;
                    }
                }
                // Staleness comes with time alone.
                _ = tick.tick() => self.tell_statuses(),
            }
            self.heartbeat.beat();
        }
    }

    fn publish(&mut self, batch: impl Iterator<Item = Update>, published: impl Fn()) {
        let mut next = Snapshot::clone(&self.current.load());
        let mut waiting = Vec::new();
        for update in batch {
            match update {
                Update::View { index, view } => {
                    let Some(slot) = next.dependencies.get_mut(index) else { continue };
                    for transition in view.circuit.transitions_since(&slot.circuit) {
                        log_transition(&view, transition);
                    }
                    *slot = view;
                }
                Update::Drain(done) => {
                    next.lifecycle = Lifecycle::Draining;
                    waiting.push(done);
                }
            }
        }
        self.current.store(Arc::new(next));
        published();
        for done in waiting {
            // Whoever asked may have given up.
            let _ = done.send(());
        }
        self.tell_statuses();
    }

    /// Logs what changed its status since the last time.
    fn tell_statuses(&mut self) {
        let now = self.clock.mono();
        let snapshot = self.current.load();
        for (index, told) in self.told.iter_mut().enumerate() {
            let status = snapshot.status(index, now);
            if status != *told {
                log_status(&snapshot.dependencies[index], *told, status, now);
                *told = status;
            }
        }
        let service = Told::of(&snapshot, now);
        if service != self.told_service {
            log_service(self.told_service.status, service);
            self.told_service = service;
        }
    }
}

/// How far apart publications of so many dependencies are.
fn apart(count: usize) -> Duration {
    let apart = APART_EACH.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(APART_MAX);
    if apart < APART_MIN { Duration::ZERO } else { apart }
}

fn log_transition(view: &DependencyView, transition: &Transition) {
    let level = match (transition.from, transition.to) {
        (State::Closed, State::Open) => Level::WARN,
        (_, State::Closed) => Level::INFO,
        // An outage goes round here as long as it lasts.
        (_, State::Open | State::HalfOpen) => Level::DEBUG,
    };
    about!(
        level,
        &view.policy,
        check_id = check_id(view),
        circuit_from = transition.from.as_str(),
        circuit_to = transition.to.as_str(),
        "circuit {}: {}",
        transition.to,
        transition.reason
    );
}

/// The check that a change came with.
fn check_id(view: &DependencyView) -> Option<&str> {
    view.last_check.as_ref().map(|check| check.id.as_str())
}

/// What the load balancer and a deployment see: the line to look for first.
fn log_service(from: ServiceStatus, to: Told) {
    let Told { status, ready, alb } = to;
    /// Both levels have the same fields; tracing wants the level as a constant.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                status_from = from.as_str(),
                status_to = status.as_str(),
                ready,
                alb,
                "service {from} → {status}: /health/ready answers {ready}, /health/alb {alb}"
            )
        };
    }
    match (from, status) {
        (_, ServiceStatus::Up | ServiceStatus::Starting | ServiceStatus::Draining) => line!(info),
        // At a start, what is not critical may have its first result a moment later.
        (ServiceStatus::Starting, ServiceStatus::Degraded) => line!(info),
        (_, ServiceStatus::Degraded | ServiceStatus::Down) => line!(warn),
    }
}

fn log_status(view: &DependencyView, from: Status, to: Status, now: Monotonic) {
    let why = if view.stale(now) {
        "the last result is stale: no check has ended in time".to_owned()
    } else if let Some(kind) = view.failing_by() {
        // Its text was told with the check.
        kind.to_string()
    } else {
        view.warnings().join("; ")
    };
    let level = match to {
        Status::Up | Status::Disabled => Level::INFO,
        Status::Degraded | Status::Down | Status::Unknown => Level::WARN,
    };
    about!(
        level,
        &view.policy,
        check_id = check_id(view),
        failure_kind = view.failing_by().map(|kind| kind.as_str()),
        status_from = from.as_str(),
        status_to = to.as_str(),
        "status {from} → {to}{}{why}",
        if why.is_empty() { "" } else { ": " }
    );
}
