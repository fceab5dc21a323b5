//! Which failures of a dependency belong together, and what a diagnosis found out about them.
//!
//! An outage begins with the first failed check of a dependency that was well, and goes on until the circuit is closed and
//! a check has succeeded: what fails between two trials is still the same. It is worth one diagnosis when it begins and
//! another one when the circuit opens, since by then it is no hiccup; where there is none yet, at every failed check.

use std::sync::Arc;

use super::{Check, Details, Diagnosis};

/// Tells an outage from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageId(u64);

/// A failed check that is worth a diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub struct Unexplained {
    /// Which outage it is of.
    pub outage: OutageId,
    /// The check.
    pub check: Arc<Check>,
    /// What the dependency told when it last worked.
    pub before: Option<Details>,
}

/// How a dependency stands after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// The check failed.
    pub(super) failing: bool,
    /// The circuit is not closed by what was measured, whatever an operator holds it by.
    pub(super) broken: bool,
}

/// The outage that a dependency is in, or else was in last.
#[derive(Debug, Default)]
pub(super) struct Outage {
    count: u64,
    diagnosis: Option<Arc<Diagnosis>>,
}

impl Outage {
    /// A check ended, between these two; whether it is worth a diagnosis.
    pub(super) fn note(&mut self, before: Standing, after: Standing) -> bool {
        if !after.failing {
            return false;
        }
        if before == Standing::default() {
            self.count += 1;
            self.diagnosis = None;
        }
        let opened = after.broken && !before.broken;
        opened || self.diagnosis.is_none()
    }

    /// Which one it is.
    pub(super) fn id(&self) -> OutageId {
        OutageId(self.count)
    }

    /// A diagnosis is there; one of another outage, which came late, is not taken.
    pub(super) fn explain(&mut self, outage: OutageId, diagnosis: Arc<Diagnosis>) {
        if outage == self.id() {
            self.diagnosis = Some(diagnosis);
        }
    }

    /// What was found out about it.
    pub(super) fn diagnosis(&self) -> Option<&Arc<Diagnosis>> {
        self.diagnosis.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::test_support::diagnosis;

    const WELL: Standing = Standing { failing: false, broken: false };
    const FAILING: Standing = Standing { failing: true, broken: false };
    const OPEN: Standing = Standing { failing: true, broken: true };
    const TRIED: Standing = Standing { failing: false, broken: true };

    #[test]
    fn its_beginning_and_the_opening_are_worth_a_diagnosis_and_so_is_what_has_none() {
        let mut outage = Outage::default();
        assert!(!outage.note(WELL, WELL));
        assert!(outage.note(WELL, FAILING), "it begins");
        assert!(outage.note(FAILING, FAILING), "nothing was found out yet");
        outage.explain(outage.id(), diagnosis("first"));
        assert!(!outage.note(FAILING, FAILING));
        assert!(outage.note(FAILING, OPEN), "the circuit opens");
        outage.explain(outage.id(), diagnosis("second"));
        assert!(!outage.note(OPEN, OPEN), "a trial failed");
        assert_eq!(outage.diagnosis(), Some(&diagnosis("second")));
        assert!(!outage.note(OPEN, TRIED));
        assert!(!outage.note(TRIED, OPEN), "a trial succeeded, and the next one did not: still the same");
        assert_eq!(outage.diagnosis(), Some(&diagnosis("second")));
        assert!(!outage.note(TRIED, WELL));
        assert_eq!(outage.diagnosis(), Some(&diagnosis("second")), "it stays to be read");
        assert!(outage.note(WELL, FAILING));
        assert_eq!(outage.diagnosis(), None, "the next one is another");
    }

    #[test]
    fn a_diagnosis_that_comes_late_explains_no_later_outage() {
        let mut outage = Outage::default();
        outage.note(WELL, FAILING);
        let first = outage.id();
        outage.note(FAILING, WELL);
        outage.note(WELL, FAILING);
        outage.explain(first, diagnosis("late"));
        assert_eq!(outage.diagnosis(), None);
        outage.explain(outage.id(), diagnosis("right"));
        assert_eq!(outage.diagnosis(), Some(&diagnosis("right")));
    }
}
