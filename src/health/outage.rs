//! Which failures of a dependency belong together, and what a diagnosis found out about them.
//!
//! An outage begins with the first failed check of a dependency that was well, and goes on until the circuit is closed and
//! a check has succeeded: what fails between two trials is still the same. A diagnosis is owed when it begins, another one when
//! the circuit opens, since by then it is no hiccup, and one whenever checks fail in another way than the one that was
//! explained. It stays owed until there is one: of a failure no earlier than that.

use std::sync::Arc;

use super::{Check, Details, Diagnosis, FailureKind};

/// Tells an outage from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageId(u64);

/// Tells a failed check from the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureId {
    /// The outage that it is of.
    pub outage: OutageId,
    number: u64,
    kind: FailureKind,
}

/// A failed check that is worth a diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub struct Unexplained {
    /// Which failure it is.
    pub failure: FailureId,
    /// The check.
    pub check: Arc<Check>,
    /// What the dependency told when it last worked.
    pub before: Option<Details>,
}

/// How a dependency stands after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// The check failed, in this way.
    pub(super) failing: Option<FailureKind>,
    /// The circuit is not closed by what was measured, whatever an operator holds it by.
    pub(super) broken: bool,
}

/// The outage that a dependency is in, or else was in last.
#[derive(Debug, Default)]
pub(super) struct Outage {
    count: u64,
    /// Failures so far, those of other outages, too.
    failures: u64,
    /// How the last check failed, if it did.
    failing: Option<FailureKind>,
    /// The failure that opened the circuit, if it was opened in this outage.
    opened_by: Option<u64>,
    /// The failure that was explained last, and by what.
    explained: Option<(FailureId, Arc<Diagnosis>)>,
}

impl Outage {
    /// A check ended, between these two.
    pub(super) fn note(&mut self, before: Standing, after: Standing) {
        self.failing = after.failing;
        if after.failing.is_none() {
            return;
        }
        self.failures += 1;
        if before == Standing::default() {
            self.count += 1;
            (self.opened_by, self.explained) = (None, None);
        }
        if after.broken && !before.broken {
            self.opened_by = Some(self.failures);
        }
    }

    /// The last failure, where the last check failed and a diagnosis is owed.
    pub(super) fn unexplained(&self) -> Option<FailureId> {
        let last = FailureId { outage: OutageId(self.count), number: self.failures, kind: self.failing? };
        let explains = |(explained, _): &&(FailureId, _)| {
            explained.kind == last.kind && self.opened_by.is_none_or(|opened| explained.number >= opened)
        };
        self.explained.as_ref().filter(explains).is_none().then_some(last)
    }

    /// A diagnosis is there; one of another outage, which came late, is not taken.
    pub(super) fn explain(&mut self, failure: FailureId, diagnosis: Arc<Diagnosis>) {
        if failure.outage == OutageId(self.count) {
            self.explained = Some((failure, diagnosis));
        }
    }

    /// What was found out about it.
    pub(super) fn diagnosis(&self) -> Option<&Arc<Diagnosis>> {
        self.explained.as_ref().map(|(_, diagnosis)| diagnosis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::test_support::diagnosis;

    const REFUSED: Option<FailureKind> = Some(FailureKind::ConnectRefused);
    const WELL: Standing = Standing { failing: None, broken: false };
    const FAILING: Standing = Standing { failing: REFUSED, broken: false };
    const OTHERWISE: Standing = Standing { failing: Some(FailureKind::ConnectTimeout), broken: false };
    const OPEN: Standing = Standing { failing: REFUSED, broken: true };
    const TRIED: Standing = Standing { failing: None, broken: true };

    /// What is owed after a check.
    fn owed(outage: &mut Outage, before: Standing, after: Standing) -> Option<FailureId> {
        outage.note(before, after);
        outage.unexplained()
    }

    #[test]
    fn its_beginning_and_the_opening_are_worth_a_diagnosis_and_so_is_what_has_none() {
        let mut outage = Outage::default();
        assert_eq!(owed(&mut outage, WELL, WELL), None);
        let first = owed(&mut outage, WELL, FAILING).expect("it begins");
        assert!(owed(&mut outage, FAILING, FAILING).is_some(), "nothing was found out yet");
        outage.explain(first, diagnosis("first"));
        assert_eq!(owed(&mut outage, FAILING, FAILING), None);
        assert!(owed(&mut outage, FAILING, OPEN).is_some(), "the circuit opens");
        assert_eq!(owed(&mut outage, OPEN, TRIED), None, "it works at the moment");
        let trial = owed(&mut outage, TRIED, OPEN).expect("there was none of the opening yet");
        outage.explain(trial, diagnosis("second"));
        assert_eq!(owed(&mut outage, OPEN, OPEN), None, "a trial failed");
        assert_eq!(outage.diagnosis(), Some(&diagnosis("second")));
        assert_eq!(owed(&mut outage, OPEN, TRIED), None);
        assert_eq!(owed(&mut outage, TRIED, OPEN), None, "one succeeded, the next did not: still the same");
        assert_eq!(outage.diagnosis(), Some(&diagnosis("second")));
        assert_eq!(owed(&mut outage, TRIED, WELL), None);
        assert_eq!(outage.diagnosis(), Some(&diagnosis("second")), "it stays to be read");
        assert!(owed(&mut outage, WELL, FAILING).is_some());
        assert_eq!(outage.diagnosis(), None, "the next one is another");
    }

    #[test]
    fn one_that_was_begun_before_the_opening_does_not_stand_for_it() {
        let mut outage = Outage::default();
        let first = owed(&mut outage, WELL, FAILING).expect("it begins");
        let opening = owed(&mut outage, FAILING, OPEN).expect("it opens");
        outage.explain(first, diagnosis("first"));
        assert_eq!(outage.unexplained(), Some(opening), "the second one is owed still");
        outage.explain(opening, diagnosis("second"));
        assert_eq!(outage.unexplained(), None);
    }

    #[test]
    fn what_fails_in_another_way_has_another_reason() {
        let mut outage = Outage::default();
        let first = owed(&mut outage, WELL, FAILING).expect("it begins");
        outage.explain(first, diagnosis("refused"));
        let other = owed(&mut outage, FAILING, OTHERWISE).expect("another kind");
        assert_eq!(owed(&mut outage, OTHERWISE, FAILING), None, "and back: that one is explained");
        outage.note(FAILING, OTHERWISE);
        outage.explain(other, diagnosis("silent"));
        assert_eq!(outage.unexplained(), None);
    }

    #[test]
    fn a_diagnosis_that_comes_late_explains_no_later_outage() {
        let mut outage = Outage::default();
        let first = owed(&mut outage, WELL, FAILING).expect("it begins");
        outage.note(FAILING, WELL);
        let second = owed(&mut outage, WELL, FAILING).expect("the next one");
        outage.explain(first, diagnosis("late"));
        assert_eq!(outage.diagnosis(), None);
        outage.explain(second, diagnosis("right"));
        assert_eq!(outage.diagnosis(), Some(&diagnosis("right")));
    }
}
