//! The path report: which hop broke, why, and what to do about it.
//!
//! A [`Diagnoser`] walks the path to one dependency, hop by hop, and writes what it sees into [`evidence`]. The rules
//! judge the evidence, one rule a cause, without I/O; [`hops`] tell it as lines.

pub mod addresses;
mod advice;
pub mod evidence;
pub mod hops;
#[cfg_attr(not(test), expect(dead_code, reason = "the Diagnoser does not compose it yet"))]
mod names;
#[cfg_attr(not(test), expect(dead_code, reason = "the Diagnoser does not compose it yet"))]
mod path;
mod reading;
pub mod rules;
#[cfg(test)]
mod test_support;
mod text;

use std::sync::Arc;

pub use evidence::{Evidence, Subject};

use crate::clock::{Clock, Deadline};
use crate::config::plan::DependencyPlan;
use crate::health::{Check, Details, Diagnosis, Hop, Task};
use crate::net::Network;

/// What a diagnosis knows besides the dependency.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The hosts of other dependencies: what a misspelt name may have been meant to be.
    pub other_hosts: Vec<String>,
    /// Where this process runs, where ECS tells.
    pub task: Option<Arc<Task>>,
    /// Whether this is a target of the command line, which has no name, and whose port tells what it may speak.
    pub is_bare: bool,
}

/// Diagnoses the path to one dependency.
pub struct Diagnoser {
    subject: Subject,
    network: Network,
    task: Option<Arc<Task>>,
}

impl Diagnoser {
    /// Of this dependency; `None` for one whose target is not known.
    pub fn new(_plan: &DependencyPlan, _network: &Network, _around: Surroundings) -> Option<Self> {
        None
    }

    /// Walks the whole path, log-in and question included, and ends by the deadline. Each hop is told when it is
    /// over; it may be told again with more evidence.
    pub async fn diagnose(
        &self,
        clock: Clock,
        deadline: Deadline,
        tell: &mut (dyn FnMut(&Hop) + Send),
    ) -> Diagnosis {
        let _ = (&self.network, deadline);
        self.report(clock, None, tell)
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
        let _ = (before, deadline);
        self.report(clock, Some(check), &mut |_| {})
    }

    fn report(&self, clock: Clock, check: Option<&Check>, tell: &mut (dyn FnMut(&Hop) + Send)) -> Diagnosis {
        let mut evidence = Evidence::nothing_yet(self.subject.clone());
        evidence.task = self.task.as_deref().cloned();
        evidence.at = Some(clock.now().wall);
        let (at, hops, verdict) = (clock.now(), hops::hops(&evidence), rules::judge(&evidence));
        hops.iter().for_each(tell);
        Diagnosis {
            at,
            took: clock.mono().since(at.mono),
            check: check.map(|check| check.id.clone()),
            target: evidence.subject.target.clone(),
            ok: evidence.works(),
            failure_kind: evidence.failure().map(|failure| failure.kind),
            hops,
            verdict,
        }
    }
}
