//! Looks in the background for why checks fail.
//!
//! A diagnosis mostly waits, for what does not answer. It is a task of its own, whose result the runner takes up between two
//! other things; so it delays no check, and counts as none. So that an outage of everything does not become a storm of
//! connections, there are few at a time in the whole agent, and one a minute of each dependency. What gets no turn stays owed:
//! to the next failed check, or, while an open circuit lets none be made, to the end of the minute.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Level;

use super::legacy::Legacy;
use crate::clock::{Clock, Deadline};
use crate::config::plan::DependencyPlan;
use crate::diagnose::{Diagnoser, Surroundings, TaskToCome};
use crate::health::time::millis;
use crate::health::{CheckId, DependencyName, Diagnosis, FailureId, Monotonic, Policy, Task, Unexplained};
use crate::log::about;
use crate::net::Network;
use crate::probe;

/// So many at a time in the whole agent.
pub(super) const AT_A_TIME: usize = 2;

/// From one of a dependency to the next, at least.
pub(super) const APART: Duration = Duration::from_secs(60);

/// How long one may take…
const WITHIN: Duration = Duration::from_secs(20);
/// …and how much longer before it is given up as hung.
const GRACE: Duration = Duration::from_secs(1);

/// How long one waits for its turn: later it would be of another moment than the failure.
const TURN_WITHIN: Duration = Duration::from_secs(20);

/// Finds out why a check failed; `None` where there is nothing to look at.
pub(super) type Explain = Arc<dyn Fn(Unexplained) -> BoxFuture<'static, Option<Diagnosis>> + Send + Sync>;

/// The turns of all dependencies.
pub(super) fn turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_A_TIME))
}

/// What a diagnosis goes by besides its dependency.
#[derive(Default)]
pub(super) struct Around {
    hosts: ArcSwap<Vec<(DependencyName, String)>>,
    task: ArcSwapOption<Task>,
}

impl Around {
    /// Among these dependencies from now on.
    pub(super) fn tell_dependencies(&self, plans: &[DependencyPlan]) {
        self.hosts.store(Arc::new(probe::named_hosts(plans).collect()));
    }

    /// In this task from now on.
    pub(super) fn tell_task(&self, task: Arc<Task>) {
        self.task.store(Some(task));
    }

    fn of(&self, name: &DependencyName) -> Surroundings {
        let hosts = self.hosts.load();
        let others = hosts.iter().filter(|(of, _)| of != name).map(|(_, host)| host.clone());
        let task = TaskToCome::known(self.task.load_full());
        Surroundings { other_hosts: others.collect(), task, is_bare: false }
    }
}

/// What explains the failures of a dependency; `None` where its configuration wants none explained.
pub(super) fn explainer(
    plan: &Arc<DependencyPlan>,
    network: &Network,
    clock: Clock,
    around: &Arc<Around>,
) -> Option<Explain> {
    if !plan.diagnose_on_failure() {
        return None;
    }
    let (plan, network, around) = (Arc::clone(plan), network.clone(), Arc::clone(around));
    Some(Arc::new(move |Unexplained { check, before, .. }| {
        let diagnoser = Diagnoser::new(&plan, &network, around.of(&plan.policy().name));
        Box::pin(async move {
            let deadline = Deadline::after(WITHIN);
            Some(diagnoser?.explain(clock, &check, before, deadline).await)
        })
    }))
}

/// The diagnosis of one dependency that is under way, if one is. Dropped, it ends.
pub(super) struct Diagnosing {
    explain: Option<Explain>,
    turns: Arc<Semaphore>,
    legacy: Legacy,
    clock: Clock,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    failure: FailureId,
    check: CheckId,
    task: AbortOnDropHandle<Course>,
    /// Cancelled where it is not worth a turn any more.
    moot: CancellationToken,
}

/// What became of a diagnosis.
enum Course {
    Found(Diagnosis),
    Nothing,
    Hung,
}

impl Diagnosing {
    /// None yet.
    pub(super) fn new(explain: Option<Explain>, turns: Arc<Semaphore>, legacy: Legacy, clock: Clock) -> Self {
        Self { explain, turns, legacy, clock, under_way: None }
    }

    /// From when on one may begin; `None` while one is under way, and where none is wanted.
    pub(super) fn may_begin(&self) -> Option<Monotonic> {
        self.explain.as_ref().filter(|_| self.under_way.is_none())?;
        Some(self.legacy.last_diagnosis().map_or(Monotonic::ZERO, |last| last + APART))
    }

    /// Looks for why a check failed, unless one is being explained already, or was within the last minute.
    pub(super) fn begin(&mut self, unexplained: Unexplained) {
        let clock = self.clock;
        if self.may_begin().is_none_or(|from| clock.mono() < from) {
            return;
        }
        let Some(explain) = self.explain.clone() else { return };
        let (failure, check) = (unexplained.failure, unexplained.check.id.clone());
        let (turns, legacy, moot) = (Arc::clone(&self.turns), self.legacy.clone(), CancellationToken::new());
        let is_moot = moot.clone();
        let task = tokio::spawn(async move {
            let turn = tokio::time::timeout(TURN_WITHIN, turns.acquire_owned());
            let turn = tokio::select! {
                biased;
                () = is_moot.cancelled() => return Course::Nothing,
                turn = turn => turn,
            };
            let Ok(Ok(_turn)) = turn else { return Course::Nothing };
            legacy.diagnosis_begins(clock.mono());
            match tokio::time::timeout(WITHIN + GRACE, explain(unexplained)).await {
                Ok(Some(found)) => Course::Found(found),
                Ok(None) => Course::Nothing,
                Err(_) => Course::Hung,
            }
        });
        self.under_way = Some(UnderWay { failure, check, task: AbortOnDropHandle::new(task), moot });
    }

    /// The dependency works again: what still waits for its turn would not find out why it did not. One that has begun
    /// goes on.
    pub(super) fn works_again(&self) {
        if let Some(under_way) = &self.under_way {
            under_way.moot.cancel();
        }
    }

    /// Ends the one that is under way.
    pub(super) fn end(&mut self) {
        self.under_way = None;
    }

    /// Ends with the one that is under way: which failure it explains, and what it found, where it did. Never, while there is
    /// none. Can be dropped and called again.
    pub(super) async fn ended(&mut self, policy: &Policy) -> Option<(FailureId, Arc<Diagnosis>)> {
        let Some(UnderWay { failure, check, task, .. }) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let ended = task.await;
        let failed = |why: &str| {
            about!(
                Level::ERROR,
                policy,
                check_id = check.as_str(),
                "the diagnosis {why}; nothing else is affected"
            );
            None
        };
        let found = match ended {
            Ok(Course::Found(found)) => {
                log_found(policy, check, &found);
                Some((*failure, Arc::new(found)))
            }
            Ok(Course::Nothing) => None,
            Ok(Course::Hung) => failed("hung beyond its time and was ended"),
            Err(_panicked) => failed("panicked"),
        };
        self.under_way = None;
        found
    }
}

fn log_found(policy: &Policy, check: &CheckId, found: &Diagnosis) {
    let verdict = &found.verdict;
    let advice = verdict.advice.first().and_then(|step| step.lines().next());
    about!(
        Level::WARN,
        policy,
        check_id = check.as_str(),
        failure_kind = found.failure_kind.map(|kind| kind.as_str()),
        cause = verdict.cause.as_str(),
        confidence = verdict.confidence.as_str(),
        duration_ms = millis(found.took),
        "diagnosis, {}: {}{}{}",
        verdict.confidence,
        verdict.summary,
        if advice.is_some() { "; " } else { "" },
        advice.unwrap_or_default()
    );
}
