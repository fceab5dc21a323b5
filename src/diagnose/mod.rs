//! The path report: which hop broke, why, and what to do about it.
//!
//! A [`Diagnoser`] walks the path to one dependency, hop by hop, and has what is seen there ([`collect`]) written down as
//! [`evidence`]. What peers said passes [`hidden`] before [`report`] has it judged and told: the [`rules`] judge, one rule a
//! cause, without I/O, and say what to do about it ([`advice`]); [`hops`] tell the evidence as lines.

pub mod addresses;
mod advice;
mod collect;
pub mod evidence;
mod hidden;
pub mod hops;
mod reading;
mod report;
pub mod rules;
mod subject;
#[cfg(test)]
mod test_support;
mod text;

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use tokio_util::task::AbortOnDropHandle;

use collect::Course;
use evidence::Attempt;
pub use evidence::{Evidence, Subject};
use report::Report;

use crate::clock::{Clock, Deadline};
use crate::config::plan::DependencyPlan;
use crate::health::{Check, Details, Diagnosis, Hop, Task};
use crate::net::Network;
use crate::probe::{Discretion, GOODBYE};

/// What a diagnosis knows besides the dependency.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The hosts of other dependencies: what a misspelt name may have been meant to be.
    pub other_hosts: Vec<String>,
    /// Where this process runs, where ECS tells.
    pub task: TaskToCome,
    /// Whether this is a target of the command line, which has no name, and whose port tells what it may speak.
    pub is_bare: bool,
}

/// Where this process runs, as soon as that is known. Copies are of the same.
#[derive(Clone)]
pub struct TaskToCome(Shared<BoxFuture<'static, Option<Arc<Task>>>>);

impl TaskToCome {
    /// It is known already; `None` where nothing is.
    pub fn known(task: Option<Arc<Task>>) -> Self {
        Self(std::future::ready(task).boxed().shared())
    }

    /// This is found out from now on, in a task of its own, and ends with the last copy.
    pub fn begin(read: impl Future<Output = Option<Arc<Task>>> + Send + 'static) -> Self {
        let read = AbortOnDropHandle::new(tokio::spawn(read));
        Self(async { read.await.ok().flatten() }.boxed().shared())
    }
}

impl Default for TaskToCome {
    fn default() -> Self {
        Self::known(None)
    }
}

impl std::fmt::Debug for TaskToCome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskToCome").field(&self.0.peek()).finish()
    }
}

/// Diagnoses the path to one dependency.
pub struct Diagnoser {
    subject: Subject,
    plan: DependencyPlan,
    network: Network,
    task: TaskToCome,
    discretion: Discretion,
    visits: Visits,
}

impl Diagnoser {
    /// Of this dependency; `None` for one whose target is not known.
    pub fn new(plan: &DependencyPlan, network: &Network, around: Surroundings) -> Option<Self> {
        Some(Self {
            subject: Subject::of(plan, &around)?,
            plan: plan.clone(),
            network: network.clone(),
            task: around.task,
            discretion: Discretion::of(plan)?,
            visits: Visits::default(),
        })
    }

    /// Walks the whole path, log-in and question included, and ends by the deadline. Each hop is told when it is
    /// over; it may be told again with more evidence.
    ///
    /// Dropped in the middle, it leaves nothing running; servers are said goodbye to, which [`gone`](Self::gone) waits
    /// for.
    pub async fn diagnose(
        &self,
        clock: Clock,
        deadline: Deadline,
        tell: &mut (dyn FnMut(&Hop) + Send),
    ) -> Diagnosis {
        let evidence = Evidence::nothing_yet(self.subject.clone());
        let diagnosis = self.walk(clock, evidence, None, deadline, tell).await;
        let _ = tokio::time::timeout_at(deadline.within(GOODBYE).instant(), self.gone()).await;
        diagnosis
    }

    /// Looks for why `check` failed, without logging in: the check has. `before` is what the dependency told when it
    /// last worked.
    pub async fn explain(
        &self,
        clock: Clock,
        check: &Check,
        before: Option<Details>,
        deadline: Deadline,
    ) -> Diagnosis {
        let mut evidence = Evidence::nothing_yet(self.subject.clone());
        evidence.before = before;
        evidence.attempt = Some(Attempt::of(check));
        self.walk(clock, evidence, Some(check), deadline, &mut |_| {}).await
    }

    /// Ends when nothing of what was opened at servers is left, also where a diagnosis was dropped in the middle. Goodbyes
    /// have a time limit each; to be taken beforehand.
    pub fn gone(&self) -> BoxFuture<'static, ()> {
        let visits = self.visits.clone();
        // Looked at when it is waited for, that is, when what was under way has ended.
        Box::pin(async move {
            let all = visits.all();
            join_all(all).await;
        })
    }

    async fn walk(
        &self,
        clock: Clock,
        mut evidence: Evidence,
        check: Option<&Check>,
        deadline: Deadline,
        tell: &mut (dyn FnMut(&Hop) + Send),
    ) -> Diagnosis {
        let at = clock.now();
        evidence.at = Some(at.wall);
        let course = Course { diagnoser: self, clock, deadline, explains: check.is_some() };
        let mut report = Report::new(evidence, &self.discretion, tell);
        let ended = tokio::time::timeout_at(deadline.instant(), course.run(&mut report)).await;
        // It was read beside all that, and is seldom waited for here.
        let task = tokio::time::timeout_at(deadline.instant(), self.task.0.clone()).await.ok().flatten();
        report.note(|evidence| {
            evidence.task = task.as_deref().cloned();
            evidence.cut_short |= ended.is_err();
            if evidence.attempt.is_none() {
                evidence.attempt = Some(Attempt::missed(evidence));
            }
        });
        report.finish(at, clock.now(), check.map(|check| check.id.clone()))
    }
}

/// What has been opened at servers, and has to be left as they like it. Copies are the same.
#[derive(Clone, Default)]
struct Visits(Arc<Mutex<Vec<Shared<BoxFuture<'static, ()>>>>>);

impl Visits {
    /// This ends when somebody has left.
    fn add(&self, gone: BoxFuture<'static, ()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(gone.shared());
    }

    fn all(&self) -> Vec<Shared<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
