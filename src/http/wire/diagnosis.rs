//! A diagnosis as JSON: `last_failure.diagnosis`, and what `sickbay diagnose` prints.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::schema::Word;
use super::{Timestamp, millis};
use crate::health::{self, Cause, Confidence, FailureKind, HopKind};

/// The path to a dependency, hop by hop, and what is the matter with it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Diagnosis<'a> {
    /// What was diagnosed; without a secret.
    target: &'a str,
    /// Whether the path works to its end.
    ok: bool,
    /// Null for a target of the command line.
    dependency: Option<&'a str>,
    /// When it began.
    at: Timestamp,
    duration_ms: f64,
    /// The failed check that it explains; null where somebody asked.
    check_id: Option<&'a str>,
    /// Those that this kind of target has, in order.
    hops: Vec<Hop<'a>>,
    /// Null where the path works.
    failure_kind: Option<Word<FailureKind>>,
    verdict: Verdict<'a>,
}

/// One hop.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Hop<'a> {
    hop: Word<HopKind>,
    /// Null where the path ended before it.
    ok: Option<bool>,
    /// Without contrast tests; null where nothing was timed.
    duration_ms: Option<f64>,
    /// What was seen, a fact each.
    evidence: &'a [String],
}

/// What the evidence comes to.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Verdict<'a> {
    cause: Word<Cause>,
    confidence: Word<Confidence>,
    /// The cause in a sentence.
    summary: &'a str,
    /// The evidence that it rests on, strongest first.
    because: &'a [String],
    /// What to do, first things first.
    advice: &'a [String],
}

impl<'a> Diagnosis<'a> {
    pub(super) fn new(diagnosis: &'a health::Diagnosis, dependency: Option<&'a str>) -> Self {
        let health::Diagnosis { at, took, check, target, ok, hops, failure_kind, verdict } = diagnosis;
        let health::Verdict { cause, confidence, summary, because, advice } = verdict;
        Self {
            target,
            ok: *ok,
            dependency,
            at: Timestamp(at.wall),
            duration_ms: millis(*took),
            check_id: check.as_ref().map(|check| check.as_str()),
            hops: hops.iter().map(Hop::from).collect(),
            failure_kind: failure_kind.map(Word),
            verdict: Verdict { cause: Word(*cause), confidence: Word(*confidence), summary, because, advice },
        }
    }
}

impl<'a> From<&'a health::Hop> for Hop<'a> {
    fn from(health::Hop { kind, ok, took, evidence }: &'a health::Hop) -> Self {
        Self { hop: Word(*kind), ok: *ok, duration_ms: took.map(millis), evidence }
    }
}

/// A diagnosis of the dependency of this name, or of a target that has none, for whoever puts several into one document.
pub fn diagnosis_report(diagnosis: &health::Diagnosis, dependency: Option<&str>) -> Value {
    // As in `to_bytes`: it cannot fail.
    serde_json::to_value(Diagnosis::new(diagnosis, dependency)).unwrap_or_default()
}
