//! The registry: the only writer of the snapshot.
//!
//! It gathers the views that runners send, publishes them together, and tells the log what changed. Readers
//! take the published snapshot without a lock and without waiting.
//!
//! Views are told apart by their runners: while a new configuration is taken up, two runners watch the same dependency
//! for a while, and only one of them is shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Level;

use crate::clock::{Clock, Heartbeat};
use crate::health::circuit::{Override, Reason, State, Transition};
use crate::health::snapshot::Lifecycle;
use crate::health::{DependencyName, DependencyView, Monotonic, ServiceStatus, Snapshot, Status, verdict};
use crate::http::NotDone;
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

/// Which runner. A later one has a higher number; a dependency that is disabled has one, too, and no runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RunnerId(pub(super) u64);

/// Who waits for an order to be carried out.
pub(super) type Reply = oneshot::Sender<Result<(), NotDone>>;

/// What the registry is told.
pub(super) enum Update {
    /// A dependency looks different now.
    View {
        /// Who watches it.
        runner: RunnerId,
        /// How it looks.
        view: Arc<DependencyView>,
        /// Those whose orders this view shows the outcome of. Answered once readers see it.
        replies: Vec<Reply>,
    },
    /// From now on these are shown.
    Switch(Switch),
    /// The agent has been told to stop. Answered once readers see it.
    Drain(oneshot::Sender<()>),
}

/// A new configuration takes over.
pub(super) struct Switch {
    /// Whom to show from now on, in the order of the configuration.
    pub(super) shown: Vec<RunnerId>,
    /// How those of them look that may not have been heard of yet.
    pub(super) first: HashMap<RunnerId, Arc<DependencyView>>,
    /// What else changes at that moment.
    pub(super) adopt: Box<dyn FnOnce() + Send>,
    /// Answered once readers see it.
    pub(super) done: oneshot::Sender<()>,
}

/// The overrides in force, as they were when one of them last changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// Counts the changes.
    pub(super) version: u64,
    /// By dependency, in the order of the configuration.
    pub(super) overrides: Vec<(DependencyName, Arc<Override>)>,
}

impl Held {
    fn is(&self, overrides: &[(DependencyName, Arc<Override>)]) -> bool {
        let same = |a: &(DependencyName, Arc<Override>), b: &(DependencyName, Arc<Override>)| {
            a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1)
        };
        self.overrides.len() == overrides.len()
            && self.overrides.iter().zip(overrides).all(|(a, b)| same(a, b))
    }
}

/// The registry's loop.
pub(super) struct Registry {
    clock: Clock,
    current: Arc<ArcSwap<Snapshot>>,
    updates: mpsc::Receiver<Update>,
    heartbeat: Heartbeat,
    /// The places in the snapshot.
    places: HashMap<RunnerId, usize>,
    /// The newest of those that are shown.
    newest: Option<RunnerId>,
    /// What runners say that are to be shown later.
    ahead: HashMap<RunnerId, Arc<DependencyView>>,
    /// Whoever keeps the overrides looks here.
    held: watch::Sender<Held>,
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
    /// A registry over a first snapshot, whose dependencies these runners watch, and the way to tell it.
    pub(super) fn new(
        clock: Clock,
        current: Arc<ArcSwap<Snapshot>>,
        shown: impl IntoIterator<Item = RunnerId>,
        held: watch::Sender<Held>,
        heartbeat: Heartbeat,
    ) -> (Self, mpsc::Sender<Update>) {
        let now = clock.mono();
        let first = current.load();
        let count = first.dependencies.len();
        let (sender, updates) = mpsc::channel(count.max(WAITING));
        let told = (0..count).map(|index| first.status(index, now)).collect();
        let told_service = Told::of(&first, now);
        drop(first);
        let places = places(shown);
        let registry = Self {
            clock,
            current,
            updates,
            heartbeat,
            newest: places.keys().max().copied(),
            places,
            ahead: HashMap::new(),
            held,
            apart: apart(count),
            told,
            told_service,
        };
        registry.tell_held();
        (registry, sender)
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
        let (mut waiting, mut ordered, mut adoptions) = (Vec::new(), Vec::new(), Vec::new());
        for update in batch {
            match update {
                Update::View { runner, view, replies } => {
                    self.take_view(&mut next, runner, view);
                    ordered.extend(replies);
                }
                Update::Switch(Switch { shown, first, adopt, done }) => {
                    next = self.switch(&next, &shown, first);
                    adoptions.push(adopt);
                    waiting.push(done);
                }
                Update::Drain(done) => {
                    next.lifecycle = Lifecycle::Draining;
                    waiting.push(done);
                }
            }
        }
        next.past = next.past_at(self.clock.mono());
        self.current.store(Arc::new(next));
        adoptions.into_iter().for_each(|adopt| adopt());
        published();
        self.tell_held();
        // Whoever asked may have given up.
        for done in waiting {
            let _ = done.send(());
        }
        for reply in ordered {
            let _ = reply.send(Ok(()));
        }
        self.tell_statuses();
    }

    fn take_view(&mut self, next: &mut Snapshot, runner: RunnerId, view: Arc<DependencyView>) {
        let tell = |before: Option<&DependencyView>| {
            let transitions = match before {
                Some(before) => view.circuit.transitions_since(&before.circuit),
                None => &*view.circuit.transitions,
            };
            transitions.iter().for_each(|transition| log_transition(&view, transition));
        };
        if let Some(slot) = self.places.get(&runner).and_then(|place| next.dependencies.get_mut(*place)) {
            tell(Some(slot));
            *slot = view;
        } else if self.newest.is_none_or(|newest| newest < runner) {
            tell(self.ahead.get(&runner).map(|view| &**view));
            self.ahead.insert(runner, view);
        }
        // Else it is one that was replaced.
    }

    /// The snapshot that shows these runners.
    fn switch(
        &mut self,
        before: &Snapshot,
        shown: &[RunnerId],
        mut first: HashMap<RunnerId, Arc<DependencyView>>,
    ) -> Snapshot {
        let mut ahead = std::mem::take(&mut self.ahead);
        let view = |runner: &RunnerId| {
            let place = self.places.get(runner).map(|place| Arc::clone(&before.dependencies[*place]));
            place.or_else(|| ahead.remove(runner)).or_else(|| first.remove(runner))
        };
        let views: Vec<_> = shown.iter().copied().zip(shown.iter().map(view)).collect();
        let views: Vec<_> = views.into_iter().filter_map(|(runner, view)| Some((runner, view?))).collect();
        // Of what is there under its old name, a change is told; what is new begins as at a start.
        let told_before = |view: &DependencyView| {
            let place = before.get(view.policy.name.as_str()).map(|(place, _)| self.told[place]);
            let begins = if view.policy.enabled() { Status::Unknown } else { Status::Disabled };
            place.unwrap_or(begins)
        };
        self.told = views.iter().map(|(_, view)| told_before(view)).collect();
        self.places = places(views.iter().map(|(runner, _)| *runner));
        // What is to be shown next is newer than any before it, shown or not.
        self.newest = self.newest.max(self.places.keys().max().copied());
        self.apart = apart(views.len());
        before.with(views.into_iter().map(|(_, view)| view).collect(), self.clock.mono())
    }

    /// Tells the overrides in force, where they are others than those told before.
    fn tell_held(&self) {
        let snapshot = self.current.load();
        let held = |view: &Arc<DependencyView>| Some((view.policy.name.clone(), view.circuit.over.clone()?));
        let overrides: Vec<_> = snapshot.dependencies.iter().filter_map(held).collect();
        self.held.send_if_modified(|told| {
            let news = !told.is(&overrides);
            if news {
                *told = Held { version: told.version + 1, overrides };
            }
            news
        });
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

fn places(shown: impl IntoIterator<Item = RunnerId>) -> HashMap<RunnerId, usize> {
    shown.into_iter().enumerate().map(|(place, runner)| (runner, place)).collect()
}

/// How far apart publications of so many dependencies are.
fn apart(count: usize) -> Duration {
    let apart = APART_EACH.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(APART_MAX);
    if apart < APART_MIN { Duration::ZERO } else { apart }
}

fn log_transition(view: &DependencyView, transition: &Transition) {
    let level = match (transition.from, transition.to) {
        // Who ordered it has been told.
        _ if by_order(&transition.reason) => Level::DEBUG,
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

/// Whether an operator's order led to it, its end included.
fn by_order(reason: &Reason) -> bool {
    match reason {
        Reason::Forced(_) | Reason::OverrideExpired(_) | Reason::Reset(_) => true,
        Reason::FailureThreshold { .. }
        | Reason::RecoveryElapsed
        | Reason::AddressesChanged
        | Reason::Requested
        | Reason::TrialFailed(_)
        | Reason::TrialLost
        | Reason::SuccessThreshold { .. } => false,
    }
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
