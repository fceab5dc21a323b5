//! Nothing is the matter; or nothing that any rule knows.

use super::finding::{Finding, said};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::hops;
use crate::diagnose::text;
use crate::health::Phase;

/// A check went the whole path.
pub(super) fn works(evidence: &Evidence) -> Option<Finding> {
    let attempt = evidence.attempt.as_ref().filter(|attempt| attempt.result.is_ok())?;
    let took = attempt.phases.iter().fold(std::time::Duration::ZERO, |sum, (_, took)| sum + took);
    let last = attempt.phases.iter().last().map_or(Phase::Dns, |(phase, _)| phase);
    let target = &evidence.subject.target;
    // A flaw that keeps nothing from working is one all the same.
    let summary = match attempt.warnings.as_slice() {
        [] => format!("the path to {target} works to its end"),
        [warning, ..] => format!("the path to {target} works to its end, with a warning: {warning}"),
    };
    let took = text::time(took);
    let finding = Finding::certain(summary)
        .since(match last {
            Phase::Dns => format!("the name was resolved, which is all that a check asks of it, in {took}"),
            Phase::Connect => {
                format!("a connection was made, which is all that a check asks of it, in {took}")
            }
            _ => format!("a check went the whole path, the {last} included, in {took}"),
        })
        .because(attempt.warnings.iter().map(|warning| format!("it warned: {warning}")));
    Some(finding)
}

/// What is left where no rule fits: what was seen, and the hint of its kind.
pub(super) fn unexplained(evidence: &Evidence) -> Finding {
    let target = &evidence.subject.target;
    let words = evidence.words.as_ref().map(hops::first_words);
    match evidence.failure() {
        Some(failure) if evidence.is_missed() => {
            Finding::unclear(format!("the time was over before {target} was checked to its end"))
                .since(said(failure))
                .because(evidence.path().map(hops::tries))
                .because(words)
                .step("run it again with more time (`--timeout`)")
        }
        Some(failure) => Finding::unclear(format!(
            "{target} fails by {}, and the evidence fits no known cause",
            failure.kind
        ))
        .since(said(failure))
        .because(evidence.path().map(hops::tries))
        .because(words)
        .step(failure.hint.clone()),
        None => Finding::unclear(format!("{target} was not checked to its end"))
            .since("no check was made, so nothing can be said of what lies behind the hops that were seen")
            .step("run it again with more time (`--timeout`)"),
    }
}
