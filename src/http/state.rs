//! What the endpoints read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;

use super::answers::Rendered;
use crate::clock::{Clock, Heartbeat};
use crate::config::Plan;
use crate::health::verdict::{self, Answer, Pulse};
use crate::health::{Now, Snapshot};

/// What the endpoints read. Copies share it.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    clock: Clock,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// The short answers, as they were last made.
    rendered: ArcSwapOption<Rendered>,
    service: String,
    environment: String,
    /// The body of `/health/config`; it cannot change while the agent runs.
    config: Bytes,
    registry: Heartbeat,
    http: Heartbeat,
    lost_runners: Arc<AtomicUsize>,
}

impl State {
    /// Reads `snapshot`, which the registry writes, and the signs of life.
    pub fn new(
        plan: &Plan,
        clock: Clock,
        snapshot: Arc<ArcSwap<Snapshot>>,
        registry: Heartbeat,
        lost_runners: Arc<AtomicUsize>,
    ) -> Self {
        Self(Arc::new(Shared {
            clock,
            snapshot,
            rendered: ArcSwapOption::empty(),
            service: plan.service().name().clone(),
            environment: plan.service().environment().clone(),
            config: Bytes::from(plan.effective().to_string()),
            registry,
            http: Heartbeat::new(clock),
            lost_runners,
        }))
    }

    /// The service's name.
    pub(super) fn service(&self) -> &str {
        &self.0.service
    }

    /// The environment's name.
    pub(super) fn environment(&self) -> &str {
        &self.0.environment
    }

    /// The effective configuration as JSON, without secrets.
    pub(super) fn config(&self) -> Bytes {
        self.0.config.clone()
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        self.0.clock.now()
    }

    /// All dependencies as they are now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// The HTTP server's sign of life.
    pub(super) fn heartbeat(&self) -> &Heartbeat {
        &self.0.http
    }

    /// Whether the agent itself works.
    pub(super) fn live(&self) -> Answer {
        verdict::live(Pulse {
            registry: self.0.registry.age(),
            http: self.0.http.age(),
            runner_lost: self.0.lost_runners.load(Ordering::Relaxed) > 0,
        })
    }

    /// The short answers: the ones that were made before where they still hold, else new ones.
    pub(super) fn rendered(&self) -> Arc<Rendered> {
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
