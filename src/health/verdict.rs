//! What is answered: can this task serve, and would taking it out help?
//!
//! These are two questions. A shared database that is down makes every task unable to serve, and replacing
//! every task would help none of them; so [`ready`] says no and [`alb`] says keep it. Only what belongs to
//! this task, or what a bad deployment of this task causes, makes [`alb`] fail.

use std::time::Duration;

use super::snapshot::{DependencyView, Lifecycle, ServiceStatus, Snapshot, Status};
use super::{DependencyName, FailureKind, Impact, Kind, Monotonic, Phase, Scope};

/// An answer to one question about health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status in words.
    pub status: ServiceStatus,
    /// Yes (200) or no (503).
    pub pass: bool,
    /// What the answer comes from; empty where all is well.
    pub reasons: Vec<Reason>,
}

/// A dependency that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Its name.
    pub dependency: DependencyName,
    /// Its status.
    pub status: Status,
    /// Why, where a check failed.
    pub failure_kind: Option<FailureKind>,
}

impl Answer {
    /// The HTTP status code.
    pub const fn code(&self) -> u16 {
        if self.pass { 200 } else { 503 }
    }
}

/// The status of the service. Impact `none` has no influence on it: those are only watched.
pub fn service(snapshot: &Snapshot, now: Monotonic) -> ServiceStatus {
    if snapshot.lifecycle == Lifecycle::Draining {
        return ServiceStatus::Draining;
    }
    if snapshot.enabled(Impact::Critical).any(|(_, view)| view.last_check.is_none()) {
        return ServiceStatus::Starting;
    }
    let mut statuses = snapshot.enabled(Impact::Critical).map(|(i, _)| snapshot.status(i, now));
    if statuses.any(|status| matches!(status, Status::Down | Status::Unknown)) {
        return ServiceStatus::Down;
    }
    let mut gating = snapshot.enabled(Impact::Critical).chain(snapshot.enabled(Impact::Degraded));
    match gating.all(|(i, _)| snapshot.status(i, now) == Status::Up) {
        true => ServiceStatus::Up,
        false => ServiceStatus::Degraded,
    }
}

/// Can this task serve now?
pub fn ready(snapshot: &Snapshot, now: Monotonic) -> Answer {
    let status = service(snapshot, now);
    let pass = matches!(status, ServiceStatus::Up | ServiceStatus::Degraded);
    Answer { status, pass, reasons: reasons(snapshot, now) }
}

/// Has every critical dependency succeeded once?
pub fn startup(snapshot: &Snapshot) -> Answer {
    let waiting: Vec<Reason> = snapshot
        .enabled(Impact::Critical)
        .filter(|(_, view)| !view.succeeded_once)
        .map(|(_, view)| reason(view, if view.last_check.is_some() { Status::Down } else { Status::Unknown }))
        .collect();
    let pass = waiting.is_empty();
    let status = if pass { ServiceStatus::Up } else { ServiceStatus::Starting };
    Answer { status, pass, reasons: waiting }
}

/// Would the service gain by taking this task out of the load balancer? 503 where it would.
pub fn alb(snapshot: &Snapshot, now: Monotonic) -> Answer {
    let service = service(snapshot, now);
    if matches!(service, ServiceStatus::Draining | ServiceStatus::Starting) {
        return Answer { status: service, pass: false, reasons: reasons(snapshot, now) };
    }
    let at_fault: Vec<Reason> = snapshot
        .enabled(Impact::Critical)
        .filter(|(index, view)| match view.policy.scope {
            Scope::Local => view.known_down() && !fails_through_a_shared(snapshot, *index, view),
            Scope::Shared => born_broken(view),
        })
        .map(|(_, view)| reason(view, Status::Down))
        .collect();
    if at_fault.is_empty() {
        // A shared outage is told as `degraded`: this target is as good as any other.
        let status = if service == ServiceStatus::Up { ServiceStatus::Up } else { ServiceStatus::Degraded };
        return Answer { status, pass: true, reasons: reasons(snapshot, now) };
    }
    Answer { status: ServiceStatus::Down, pass: false, reasons: at_fault }
}

/// A shared dependency that this process never reached, for a reason that a bad deployment causes.
fn born_broken(view: &DependencyView) -> bool {
    !view.succeeded_once && view.failing_by().is_some_and(FailureKind::blames_the_deployment)
}

/// An API whose health path asks the database fails with the database. It counts as such while it still takes
/// connections, answers wrongly or too late, and what it depends on is down or has not been seen working
/// since: the checks of the two are not simultaneous, and taking a task out can wait for the next one.
fn fails_through_a_shared(snapshot: &Snapshot, index: usize, view: &DependencyView) -> bool {
    let by_status_or_timeout =
        view.last_failure.as_ref().and_then(|check| check.failure()).is_some_and(|f| {
            f.phase == Phase::Query
                && matches!(
                    f.kind,
                    FailureKind::UnexpectedStatus | FailureKind::Timeout | FailureKind::QueryTimeout
                )
        });
    view.policy.kind == Kind::Http
        && by_status_or_timeout
        && snapshot.depends_on(index).filter(|d| d.policy.enabled() && d.policy.scope == Scope::Shared).any(
            |d| {
                d.known_down()
                    || view.failing_since.is_some_and(|since| d.last_success.is_none_or(|ok| ok < since))
            },
        )
}

/// What liveness is judged by. Dependencies are not among it.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// Since the registry last went round its loop.
    pub registry: Duration,
    /// Since the HTTP server last went round its loop.
    pub http: Duration,
    /// Whether a runner could not be brought back although it was respawned again and again.
    pub runner_lost: bool,
}

/// A loop that has not gone round for this long hangs: each goes round at least once a second.
pub const PULSE_LOST_AFTER: Duration = Duration::from_secs(10);

/// Does the agent itself work?
pub fn live(pulse: Pulse) -> Answer {
    let pass = pulse.registry < PULSE_LOST_AFTER && pulse.http < PULSE_LOST_AFTER && !pulse.runner_lost;
    let status = if pass { ServiceStatus::Up } else { ServiceStatus::Down };
    Answer { status, pass, reasons: Vec::new() }
}

/// All that is not well, the worst impact first.
fn reasons(snapshot: &Snapshot, now: Monotonic) -> Vec<Reason> {
    let gating = snapshot.enabled(Impact::Critical).chain(snapshot.enabled(Impact::Degraded));
    gating
        .map(|(index, view)| (view, snapshot.status(index, now)))
        .filter(|(_, status)| *status != Status::Up)
        .map(|(view, status)| reason(view, status))
        .collect()
}

fn reason(view: &DependencyView, status: Status) -> Reason {
    Reason { dependency: view.policy.name.clone(), status, failure_kind: view.failing_by() }
}
