//! What is told of a diagnosis, while it goes on and in the end.

use super::evidence::Evidence;
use super::{hidden, hops, rules};
use crate::health::{CheckId, Diagnosis, Hop, Now};
use crate::probe::Discretion;

/// Evidence that grows, and the hops that were told of it.
pub(super) struct Report<'a> {
    evidence: Evidence,
    discretion: &'a Discretion,
    tell: &'a mut (dyn FnMut(&Hop) + Send),
    told: Vec<Hop>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        evidence: Evidence,
        discretion: &'a Discretion,
        tell: &'a mut (dyn FnMut(&Hop) + Send),
    ) -> Self {
        Self { evidence, discretion, tell, told: Vec::new() }
    }

    /// As it was gathered: it may hold secrets.
    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Notes what was seen, and tells the hops of which there is news.
    pub(super) fn note(&mut self, seen: impl FnOnce(&mut Evidence)) {
        seen(&mut self.evidence);
        self.news(&hidden::look_through(self.evidence.clone(), self.discretion));
    }

    fn news(&mut self, evidence: &Evidence) {
        for hop in hops::hops(evidence) {
            if hop.ok.is_some() && !self.told.contains(&hop) {
                (self.tell)(&hop);
                self.told.retain(|told| told.kind != hop.kind);
                self.told.push(hop);
            }
        }
    }

    /// What it came to, by `now`.
    pub(super) fn finish(self, at: Now, now: Now, check: Option<CheckId>) -> Diagnosis {
        let evidence = hidden::look_through(self.evidence, self.discretion);
        Diagnosis {
            at,
            took: now.mono.since(at.mono),
            check,
            target: evidence.subject.target.clone(),
            ok: evidence.works(),
            failure_kind: evidence.failure().map(|failure| failure.kind),
            hops: hops::hops(&evidence),
            verdict: rules::judge(&evidence),
        }
    }
}
