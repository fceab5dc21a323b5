//! What the endpoints read.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answers::{Question, Rendered, Short};
use super::auth::Tokens;
use super::counts::Counts;
use super::operations::Operations;
use super::routes::Serves;
use super::throttle::Throttle;
use crate::clock::{Clock, Heartbeat};
use crate::config::Plan;
use crate::health::verdict::{self, Answer, Pulse};
use crate::health::{Now, ResolverStats, Snapshot, Task, WallTime};

/// Orders that are carried out at a time, nearly all of them checks that wait for a server: a sixteenth of the places
/// for connections.
pub(super) const ORDERS_MAX: usize = 64;

/// What the endpoints read. Copies share it.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    clock: Clock,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// The short answers, as they were last made.
    rendered: ArcSwapOption<Rendered>,
    /// The two answers that there are to the question whether the agent itself works: no, and yes.
    live: [Short; 2],
    configured: ArcSwap<Configured>,
    /// The effective configuration as JSON, without secrets.
    effective: ArcSwap<Bytes>,
    config_status: ArcSwapOption<ConfigStatus>,
    /// Where this process runs, where ECS tells.
    task: ArcSwapOption<Task>,
    throttle: Throttle,
    operations: Arc<dyn Operations>,
    /// Places for orders under way: connections to which answers are owed stay, and must not be all there are.
    orders: Semaphore,
    pulses: Pulses,
    /// Of the listener that serves everything, and of the one that serves everybody.
    counts: [Arc<Counts>; 2],
    names: Box<dyn Fn() -> ResolverStats + Send + Sync>,
}

/// What another configuration replaces while the agent runs, as soon as it is known to be valid.
#[derive(Debug)]
pub(super) struct Configured {
    /// The service's name.
    pub(super) service: String,
    /// The environment's name.
    pub(super) environment: String,
    /// Who may do what.
    pub(super) tokens: Tokens,
}

impl Configured {
    fn new(plan: &Plan) -> Self {
        Self {
            service: plan.service().name().clone(),
            environment: plan.service().environment().clone(),
            tokens: Tokens::new(plan.server()),
        }
    }
}

/// How the configuration was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigStatus {
    /// When the one in force was read.
    pub loaded_at: WallTime,
    /// The files that it was read from, secret ones included.
    pub files: Vec<String>,
    /// What is wrong with a newer one, which therefore is not in force. Holds no secret.
    pub error: Option<String>,
    /// When that one was read.
    pub failed_at: Option<WallTime>,
    /// The settings of the one in force that take effect at the next start.
    pub needs_restart: Vec<&'static str>,
}

/// Where liveness is read from.
pub struct Pulses {
    /// The registry's loop.
    pub registry: Heartbeat,
    /// The accept loop of each listener.
    pub http: Vec<Heartbeat>,
    /// Whether a runner could not be brought back again and again.
    pub runner_lost: Box<dyn Fn() -> bool + Send + Sync>,
}

impl State {
    /// Reads `snapshot`, which the registry writes, the signs of life, and what the look-ups of `names` have cost; has
    /// orders carried out by `operations`.
    pub fn new(
        plan: &Plan,
        clock: Clock,
        snapshot: Arc<ArcSwap<Snapshot>>,
        pulses: Pulses,
        names: impl Fn() -> ResolverStats + Send + Sync + 'static,
        operations: Arc<dyn Operations>,
    ) -> Self {
        Self(Arc::new(Shared {
            clock,
            snapshot,
            rendered: ArcSwapOption::empty(),
            live: [true, false].map(|runner_lost| {
                let beating = Duration::ZERO;
                Short::new(&verdict::live(Pulse { registry: beating, http: beating, runner_lost }))
            }),
            configured: ArcSwap::from_pointee(Configured::new(plan)),
            effective: ArcSwap::from_pointee(effective(plan)),
            config_status: ArcSwapOption::empty(),
            task: ArcSwapOption::empty(),
            throttle: Throttle::default(),
            operations,
            orders: Semaphore::new(ORDERS_MAX),
            pulses,
            counts: Default::default(),
            names: Box::new(names),
        }))
    }

    /// Goes by another configuration's names and tokens from now on. What listens where stays as it is.
    pub fn reconfigure(&self, plan: &Plan) {
        self.0.configured.store(Arc::new(Configured::new(plan)));
        // `/health` tells the service's name.
        self.0.rendered.store(None);
    }

    /// Tells this as the effective configuration from now on.
    pub fn show_effective(&self, plan: &Plan) {
        self.0.effective.store(Arc::new(effective(plan)));
    }

    /// The effective configuration as JSON, without secrets.
    pub(super) fn effective(&self) -> Bytes {
        Bytes::clone(&self.0.effective.load())
    }

    /// Tells how the configuration was read.
    pub fn tell_config(&self, status: ConfigStatus) {
        self.0.config_status.store(Some(Arc::new(status)));
    }

    /// How the configuration was read last; `None` where nobody has told it.
    pub(super) fn config_status(&self) -> Option<Arc<ConfigStatus>> {
        self.0.config_status.load_full()
    }

    /// Tells where this process runs.
    pub fn tell_task(&self, task: Arc<Task>) {
        self.0.task.store(Some(task));
    }

    /// Where this process runs; `None` where ECS does not tell, or has not yet.
    pub(super) fn task(&self) -> Option<Arc<Task>> {
        self.0.task.load_full()
    }

    /// What is in force now.
    pub(super) fn configured(&self) -> Arc<Configured> {
        self.0.configured.load_full()
    }

    /// Who sends bad tokens.
    pub(super) fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    /// A place for an order; `None` where all are taken.
    pub(super) fn place_for_an_order(&self) -> Option<SemaphorePermit<'_>> {
        self.0.orders.try_acquire().ok()
    }

    /// Whoever carries orders out.
    pub(super) fn operations(&self) -> &dyn Operations {
        &*self.0.operations
    }

    /// The clock itself.
    pub(super) fn clock(&self) -> Clock {
        self.0.clock
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        self.0.clock.now()
    }

    /// What the look-ups of names have cost.
    pub(super) fn names(&self) -> ResolverStats {
        (self.0.names)()
    }

    /// The counts of the listener that serves this.
    pub(super) fn counts(&self, serves: Serves) -> Arc<Counts> {
        let [everything, everybody] = &self.0.counts;
        Arc::clone(match serves {
            Serves::Everything => everything,
            Serves::Everybody => everybody,
        })
    }

    /// The counts of all listeners.
    pub(super) fn all_counts(&self) -> impl Iterator<Item = &Counts> {
        self.0.counts.iter().map(|counts| &**counts)
    }

    /// All dependencies as they are now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Whether the agent itself works.
    pub(super) fn live(&self) -> Answer {
        let Pulses { registry, http, runner_lost } = &self.0.pulses;
        verdict::live(Pulse {
            registry: registry.age(),
            http: http.iter().map(Heartbeat::age).max().unwrap_or_default(),
            runner_lost: runner_lost(),
        })
    }

    /// A short answer.
    pub(super) fn short(&self, question: Question) -> Short {
        match question {
            Question::Live => self.0.live[usize::from(self.live().pass)].clone(),
            Question::Ready => self.rendered().ready.clone(),
            Question::Alb => self.rendered().alb.clone(),
            Question::Startup => self.rendered().startup.clone(),
            Question::Health => self.rendered().health(&self.0.configured.load().service),
        }
    }

    /// Makes the short answers of the newest snapshot. Called when there is one, so that no load balancer waits for
    /// it.
    pub fn renew(&self) {
        self.rendered();
    }

    /// The short answers: the ones that were made before where they still hold, else new ones.
    fn rendered(&self) -> Arc<Rendered> {
        let snapshot = self.0.snapshot.load();
        let now = self.0.clock.mono();
        if let Some(rendered) = self.0.rendered.load().as_ref().filter(|made| made.holds(&snapshot, now)) {
            return Arc::clone(rendered);
        }
        let made = Arc::new(Rendered::new(Arc::clone(&snapshot), now));
        self.0.rendered.store(Some(Arc::clone(&made)));
        made
    }
}

fn effective(plan: &Plan) -> Bytes {
    Bytes::from(plan.effective().to_string())
}
